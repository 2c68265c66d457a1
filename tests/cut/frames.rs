//! HTTP/2 as frames: what a client may do and see that no library lets it.
//! Used by `http2.rs` and `deaf.rs`. It must never answer flow control by itself: a stalled stream is the test's wish.

use testkit::{Ending, TlsClient, read_to_end};

use crate::stage::Wire;
use crate::support::{House, PATIENCE};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error code of a RST_STREAM (RFC 9113 §6.4) or GOAWAY (§6.8).
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A connection spoken to in frames.
pub(crate) struct Frames {
    pub(crate) wire: Wire,
    unread: Vec<u8>,
}

impl Frames {
    /// Connects; every stream begins with this window, the connection with the largest there is.
    pub(crate) async fn connect(house: &House, client: &TlsClient, window: u32) -> Frames {
        let stream = client.connect(house.address(), &["h2"]).await.unwrap();
        let mut frames = Frames { wire: Wire { stream }, unread: Vec::new() };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE (4).
        hello.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        frames.wire.say(hello).await;
        frames
    }

    /// A whole GET, its header block written in the plainest HPACK (RFC 7541 §6.2.2).
    pub(crate) async fn get(&mut self, stream: u32, path: &str) {
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(4, path), (1, "localhost")] {
            block.extend([name, u8::try_from(value.len()).unwrap()]);
            block.extend_from_slice(value.as_bytes());
        }
        self.wire.say(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await;
    }

    fn parsed(&mut self) -> Option<Frame> {
        let length = usize::from(*self.unread.first()?) << 16
            | usize::from(*self.unread.get(1)?) << 8
            | usize::from(*self.unread.get(2)?);
        if self.unread.len() < 9 + length {
            return None;
        }
        let bytes: Vec<u8> = self.unread.drain(..9 + length).collect();
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() })
    }

    /// Reads until such a frame came and returns it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            while let Some(frame) = self.parsed() {
                if wanted(&frame) {
                    return frame;
                }
            }
            self.wire.more(&mut self.unread).await;
        }
    }

    /// All further frames, and how the connection ended.
    pub(crate) async fn rest(&mut self) -> (Vec<Frame>, Ending) {
        let answer = read_to_end(&mut self.wire.stream, PATIENCE).await;
        self.unread.extend(answer.bytes);
        let frames = std::iter::from_fn(|| self.parsed()).collect();
        (frames, answer.ending)
    }
}
