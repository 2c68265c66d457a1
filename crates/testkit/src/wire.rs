//! Raw bytes over a connection, and how it ended: the view that no HTTP library gives.
//! Tests call it for smuggling shapes, alerts and cuts.
//! It must never take one kind of end for another: close_notify, a bare FIN and a reset are different findings.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With close_notify; on a plain connection with FIN.
    Clean,
    /// The TCP connection ended without close_notify.
    Unannounced,
    /// The TCP connection was reset.
    Reset,
    /// A fatal TLS alert came.
    Alert(AlertDescription),
    /// It had not ended when the deadline came.
    StillOpen,
    /// Another error, in its own words.
    Failed(String),
}

/// What came back, and how it ended.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// All bytes until the end.
    pub bytes: Vec<u8>,
    /// The end.
    pub ending: Ending,
}

impl RawAnswer {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends the bytes, then reads until the end or the deadline. What the other side said before it refused the rest of
/// a long request is still read.
pub async fn exchange_bytes<Stream>(stream: &mut Stream, bytes: &[u8], deadline: Duration) -> RawAnswer
where
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        // A failed write shows in what the reading side finds.
        let _ = writing.write_all(bytes).await;
        let _ = writing.flush().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = read_to_end(&mut reading, deadline) => answer,
        () = write => unreachable!("the writing side waits for the reading side"),
    }
}

/// Reads until the end or the deadline.
pub async fn read_to_end<Stream>(stream: &mut Stream, deadline: Duration) -> RawAnswer
where
    Stream: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            match stream.read_buf(&mut bytes).await {
                Ok(0) => return Ending::Clean,
                Ok(_) => {}
                Err(error) => return ending_of(&error),
            }
        }
    };
    let ending = tokio::time::timeout(deadline, reading).await.unwrap_or(Ending::StillOpen);
    RawAnswer { bytes, ending }
}

fn ending_of(error: &io::Error) -> Ending {
    if let Some(alert) = alert_of(error) {
        return Ending::Alert(alert);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Ending::Unannounced,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ending::Reset,
        _ => Ending::Failed(error.to_string()),
    }
}

/// The fatal TLS alert that is the cause of an error, at whatever depth.
pub fn alert_of(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref::<rustls::Error>() {
            return Some(*alert);
        }
        if error.is::<h2::Error>() {
            return alert_named_in(&error.to_string());
        }
        // An io::Error names as its source only what its content has as a source, so the content is looked at too.
        let content = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match content {
            Some(content) => Some(content as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// h2 keeps of a socket's error only its words, so the alert is found by the words rustls has for it.
fn alert_named_in(text: &str) -> Option<AlertDescription> {
    let known = (0..=u8::MAX).map(AlertDescription::from);
    let mut known = known.filter(|alert| !matches!(alert, AlertDescription::Unknown(_)));
    known.find(|alert| text.ends_with(&rustls::Error::AlertReceived(*alert).to_string()))
}
