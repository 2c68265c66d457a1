//! Streams whose every eight bytes tell when they were sent, written and read from both sides at once.
//! Used by the tests of cuts. It must never read a time later than the byte it stands for was written.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, eventually};

/// Stamps in one go.
const BURST: u64 = 16;

/// One side of a session, sending and reading stamps.
pub(crate) struct Side {
    stamps: Arc<AtomicU64>,
    reading: JoinHandle<Heard>,
    writing: JoinHandle<ErrorKind>,
}

/// What one side heard of the other.
#[derive(Debug)]
pub(crate) struct Heard {
    /// When the last byte that came was sent, since the beginning.
    pub(crate) last: Duration,
    /// When its end was noticed.
    pub(crate) ended: Instant,
    /// How it ended. The kernel tells a reset once, to whoever reads or writes first.
    pub(crate) ending: Result<(), ErrorKind>,
}

impl Side {
    /// Sends and reads on both halves of this stream until it ends.
    pub(crate) fn start(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, beginning: Instant) -> Side {
        let (reader, writer) = split(stream);
        let stamps = Arc::default();
        let reading = elsewhere().spawn(hear(reader, Arc::clone(&stamps)));
        Side { stamps, reading, writing: elsewhere().spawn(stamp_on(writer, beginning)) }
    }

    /// Waits until so many more stamps came.
    pub(crate) async fn flows(&self) {
        let before = self.stamps.load(Ordering::SeqCst);
        eventually("the stream flows", || self.stamps.load(Ordering::SeqCst) > before + 200).await;
    }

    /// What it heard, once its connection ended.
    pub(crate) async fn heard(self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.reading).await.expect("the connection ends in time");
        let refused =
            tokio::time::timeout(PATIENCE, self.writing).await.expect("nobody writes on without end").unwrap();
        let mut heard = heard.unwrap();
        if refused == ErrorKind::ConnectionReset {
            heard.ending = Err(refused);
        }
        heard
    }
}

/// A thread that stamps while the test publishes.
fn elsewhere() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// Sends until it cannot; why not.
async fn stamp_on(mut writer: impl AsyncWrite + Unpin, beginning: Instant) -> ErrorKind {
    for number in 1_u64.. {
        let now = u64::try_from(beginning.elapsed().as_nanos()).unwrap();
        let sent = async {
            writer.write_all(&now.to_be_bytes()).await?;
            writer.flush().await
        };
        if let Err(error) = sent.await {
            return error.kind();
        }
        if number.is_multiple_of(BURST) {
            // Two cores carry the proxy as well, which shall be prompt.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    unreachable!("a number has no end")
}

async fn hear(mut reader: impl AsyncRead + Unpin, stamps: Arc<AtomicU64>) -> Heard {
    let mut last = 0;
    let mut stamp = [0; 8];
    let ending = loop {
        match reader.read_exact(&mut stamp).await {
            Ok(_) => {
                let sent = u64::from_be_bytes(stamp);
                assert!(sent >= last, "a stamp of {sent} after one of {last}: the stream has a gap or is torn");
                last = sent;
                stamps.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break end_of(&mut reader).await,
            Err(error) => break Err(error.kind()),
        }
    };
    Heard { last: Duration::from_nanos(last), ended: Instant::now(), ending }
}

/// `read_exact` calls an end of file by the name that rustls has for a missing close_notify.
async fn end_of(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), ErrorKind> {
    reader.read(&mut [0]).await.map(|_| ()).map_err(|error| error.kind())
}
