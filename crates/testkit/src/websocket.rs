//! WebSocket as bytes (RFC 6455): frames written and read one by one, and an app's side of the handshake.
//! Tests use it on both ends of a proxy. It must never answer, join or unmask anything by itself beyond what a reader of
//! one frame needs.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::raw_app::read_head;

/// A further piece of a message.
pub const CONTINUATION: u8 = 0;
/// A message of text.
pub const TEXT: u8 = 1;
/// A message of bytes.
pub const BINARY: u8 = 2;
/// The end of one direction, with a code and a reason.
pub const CLOSE: u8 = 8;
/// A question whether the other end is there.
pub const PING: u8 = 9;
/// The answer to it.
pub const PONG: u8 = 10;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// It ends its message.
    pub last: bool,
    /// What it is.
    pub opcode: u8,
    /// It came masked, as a client's frames do.
    pub masked: bool,
    /// What it carries, without the mask.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message, as a server writes it.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { last: true, opcode, masked: false, payload: payload.into() }
    }

    /// The same, as a client writes it.
    pub fn masked(mut self) -> Frame {
        self.masked = true;
        self
    }

    /// The same, with more of its message to come.
    pub fn unfinished(mut self) -> Frame {
        self.last = false;
        self
    }

    /// The frame on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mask = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![if self.last { 0x80 } else { 0 } | self.opcode];
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => bytes.push(mask | short),
            (_, Ok(medium)) => {
                bytes.push(mask | 126);
                bytes.extend(medium.to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(u64::try_from(length).expect("a test's frame fits into memory").to_be_bytes());
            }
        }
        if self.masked {
            let key = [0x11, 0x22, 0x33, 0x44];
            bytes.extend(key);
            bytes.extend(self.payload.iter().enumerate().map(|(position, byte)| byte ^ key[position % 4]));
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes
    }

    /// Takes the frame off the front of what was read, if all of it is there.
    pub fn parse(unread: &mut Vec<u8>) -> Option<Frame> {
        let (first, second) = (*unread.first()?, *unread.get(1)?);
        let (mut at, length) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(unread.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(unread.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        let masked = second & 0x80 != 0;
        let mut key = [0; 4];
        if masked {
            key.copy_from_slice(unread.get(at..at + 4)?);
            at += 4;
        }
        let mut payload = unread.get(at..at.checked_add(length)?)?.to_vec();
        payload.iter_mut().enumerate().for_each(|(position, byte)| *byte ^= key[position % 4]);
        unread.drain(..at + length);
        Some(Frame { last: first & 0x80 != 0, opcode: first & 0x0f, masked, payload })
    }
}

/// The answer to a client's key (RFC 6455 §4.2.2).
pub fn accept_of(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The value of a field in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The app's side of a handshake: reads a head, accepts the WebSocket or CONNECT that it asks for, with these further
/// fields and first bytes, and returns the head.
pub async fn welcome(stream: &mut TcpStream, fields: &str, first: &[u8]) -> String {
    let head = String::from_utf8_lossy(&read_head(stream).await).into_owned();
    let answer = accepting(&head, fields);
    // A proxy that went away does not need the answer.
    let _ = stream.write_all(&[answer.as_bytes(), first].concat()).await;
    head
}

/// The head that accepts what this one asks for.
pub fn accepting(head: &str, fields: &str) -> String {
    if head.starts_with("CONNECT ") {
        return format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    }
    let accept = accept_of(field(head, "sec-websocket-key").unwrap_or_default());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_only_when_it_is_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for frame in [Frame::new(BINARY, vec![7; length]), Frame::new(TEXT, vec![7; length]).masked().unfinished()]
            {
                let bytes = frame.bytes();
                let mut unread = bytes[..bytes.len() - 1].to_vec();
                assert_eq!(Frame::parse(&mut unread), None);
                unread.extend([bytes[bytes.len() - 1], 0x89]);
                assert_eq!(Frame::parse(&mut unread), Some(frame));
                assert_eq!(unread, [0x89]);
            }
        }
    }

    #[test]
    fn the_accept_value_is_the_one_of_the_standards_example() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
