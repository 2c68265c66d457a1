//! The time, stamped onto every block that the app sends, and read again where it arrives.
//!
//! Used by the app and by the clients; both run on one machine, so that one clock is behind all times. It must never
//! allocate for a block: thousands of sessions receive them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A block: a server-sent event with the moment of its sending. In HTTP/2 and WebSocket its bytes are the same.
const MARK: &[u8] = b"data: ";
const DIGITS: usize = 20;

/// Nanoseconds since 1970, the clock of the proxy's log.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(since.as_nanos()).expect("64 bits last until 2554")
}

/// A block of this moment.
pub(crate) fn block() -> String {
    format!("data: {:020}\n\n", now())
}

/// Finds stamps in bytes that arrive in pieces, whatever frames them.
#[derive(Default)]
pub(crate) struct Stamps {
    /// Bytes of the mark, and then of the digits, that matched so far.
    matched: usize,
    value: u64,
}

impl Stamps {
    /// The newest stamp that ends in this piece, and how many do.
    pub(crate) fn read(&mut self, piece: &[u8]) -> (Option<u64>, u64) {
        let (mut newest, mut count) = (None, 0);
        for byte in piece {
            if self.matched < MARK.len() {
                self.matched =
                    if *byte == MARK[self.matched] { self.matched + 1 } else { usize::from(*byte == MARK[0]) };
                self.value = 0;
            } else if byte.is_ascii_digit() {
                self.value = self.value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                self.matched += 1;
                if self.matched == MARK.len() + DIGITS {
                    (newest, count) = (Some(self.value), count + 1);
                    self.matched = 0;
                }
            } else {
                self.matched = 0;
            }
        }
        (newest, count)
    }
}
