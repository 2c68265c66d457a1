//! HTTP/2 in bytes over TLS: frames as an attacker makes them, and what came back.
//! Used by every attack on HTTP/2. It must never keep to the protocol by itself.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{ClientStream, Ending, RawAnswer, TlsClient, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// How long an attacker goes on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block for this method and path: literals without indexing, so that no table is needed.
pub(crate) fn head(method: &str, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name], &field(value.as_bytes())[..]].concat();
    // Names of HPACK's static table: 1 :authority, 2 :method, 4 :path; 0x87 is :scheme https.
    [literal(2, method), vec![0x87], literal(4, path), literal(1, "localhost")].concat()
}

/// A string literal of HPACK, not compressed.
pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    match u8::try_from(bytes.len()) {
        Ok(short) if short < 127 => length.push(short),
        _ => {
            length.push(127);
            let mut rest = bytes.len() - 127;
            while rest >= 128 {
                length.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            length.push(u8::try_from(rest).unwrap());
        }
    }
    [&length, bytes].concat()
}

/// A whole request without a body.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path))
}

/// What came back.
pub(crate) struct Seen {
    pub(crate) ending: Ending,
    /// Kind, stream and payload of each frame.
    pub(crate) frames: Vec<(u8, u32, Vec<u8>)>,
    pub(crate) after: Duration,
}

impl Seen {
    /// The code of the last GOAWAY.
    pub(crate) fn goaway(&self) -> Option<u32> {
        let last = self.frames.iter().rev().find(|(kind, ..)| *kind == GOAWAY);
        last.map(|(.., payload)| u32::from_be_bytes(payload[4..8].try_into().unwrap()))
    }

    /// How many streams were reset with this code.
    pub(crate) fn resets(&self, code: u32) -> usize {
        self.frames.iter().filter(|(kind, _, payload)| *kind == RST_STREAM && payload[..] == code.to_be_bytes()).count()
    }

    pub(crate) fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|(found, ..)| *found == kind).count()
    }

    fn of(answer: RawAnswer, after: Duration) -> Seen {
        let (mut frames, mut rest) = (Vec::new(), &answer.bytes[..]);
        while rest.len() >= 9 {
            let length = usize::try_from(u32::from_be_bytes([0, rest[0], rest[1], rest[2]])).unwrap();
            let stream = u32::from_be_bytes([rest[5] & 0x7f, rest[6], rest[7], rest[8]]);
            let Some(payload) = rest.get(9..9 + length) else { break };
            frames.push((rest[3], stream, payload.to_vec()));
            rest = &rest[9 + length..];
        }
        Seen { ending: answer.ending, frames, after }
    }
}

/// A connection that said its preface, an empty SETTINGS and the acknowledgement of ours.
pub(crate) async fn open(client: &TlsClient, address: SocketAddr) -> ClientStream {
    let mut stream = client.connect(address, &["h2"]).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&hello).await.unwrap();
    // Without it h2 would go by its own limits instead of the configured ones.
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await.unwrap();
    let length = usize::try_from(u32::from_be_bytes([0, answer[0], answer[1], answer[2]])).unwrap();
    assert_eq!(answer[3], SETTINGS);
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    stream
}

/// Sends what `next` makes until it makes no more, and reads until the end: the proxy's, or that of the patience.
pub(crate) async fn assault(stream: ClientStream, next: impl FnMut() -> Option<Vec<u8>>) -> Seen {
    assault_for(PATIENCE, stream, next).await
}

/// The same with a patience of its own.
pub(crate) async fn assault_for(
    patience: Duration,
    stream: ClientStream,
    mut next: impl FnMut() -> Option<Vec<u8>>,
) -> Seen {
    let began = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        while let Some(bytes) = next() {
            // A failed write shows in what the reading side finds.
            if writing.write_all(&bytes).await.is_err() || writing.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = read_to_end(&mut reading, patience) => Seen::of(answer, began.elapsed()),
        () = write => unreachable!("the writing side waits for the reading side"),
    }
}

/// The same bytes so many times, a good many in each piece.
pub(crate) fn repeated(bytes: Vec<u8>, times: usize) -> impl FnMut() -> Option<Vec<u8>> {
    const AT_ONCE: usize = 500;
    let mut left = times;
    move || {
        let now = left.min(AT_ONCE);
        left -= now;
        (now > 0).then(|| bytes.repeat(now))
    }
}
