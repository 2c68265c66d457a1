//! What of an HTTP/2 connection still goes out once it is cut: our own notices, and nothing that the app said before.
//!
//! Kept by `framed.rs`. Streams hand their frames to h2 between the connection's turns; those of the turn in which trust
//! ends are still in h2 when the notices come behind them, and h2 has no way to take them back. Bodies that are the app's
//! are left out here, which changes no other frame's meaning; a head cannot be, since the ones behind it are compressed
//! by what it said. It must never let through what it cannot tell from the app's.

use bytes::BytesMut;

use crate::frames::{CONTINUATION, DATA, END_STREAM, FRAME_HEAD, HEADERS};

const PUSH_PROMISE: u8 = 5;

/// What is ours on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// All that goes out from now on.
    All,
    /// Its trailers.
    Trailers,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    LeftOut,
}

/// An app's head is among the frames: nothing can be told behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mixed;

/// Where the frames stand.
#[derive(Debug)]
pub(crate) struct Sieve {
    head: [u8; FRAME_HEAD],
    filled: usize,
    left: usize,
    fate: Fate,
}

impl Sieve {
    /// From the beginning of a frame on.
    pub(crate) fn new() -> Sieve {
        Sieve { head: [0; FRAME_HEAD], filled: 0, left: 0, fate: Fate::Passes }
    }

    /// Puts what may go of `bytes` behind `out`; `ours` tells what is ours on a stream.
    pub(crate) fn sift(
        &mut self,
        mut bytes: &[u8],
        out: &mut BytesMut,
        ours: impl Fn(u32) -> Option<Ours>,
    ) -> Result<(), Mixed> {
        while let Some((first, behind)) = bytes.split_first() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
                if self.fate == Fate::Passes {
                    out.extend_from_slice(payload);
                }
                self.left -= payload.len();
                bytes = rest;
                continue;
            }
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = *first;
            }
            (self.filled, bytes) = (self.filled + 1, behind);
            if self.filled == FRAME_HEAD {
                let [a, b, c, kind, flags, d, e, f, g] = self.head;
                let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
                self.fate = fate((kind, flags), ours(stream))?;
                self.left = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
                self.filled = 0;
                if self.fate == Fate::Passes {
                    out.extend_from_slice(&self.head);
                }
            }
        }
        Ok(())
    }
}

fn fate((kind, flags): (u8, u8), ours: Option<Ours>) -> Result<Fate, Mixed> {
    match (kind, ours) {
        (DATA, Some(Ours::All)) => Ok(Fate::Passes),
        (DATA, Some(Ours::Trailers) | None) => Ok(Fate::LeftOut),
        (HEADERS, Some(Ours::Trailers)) if flags & END_STREAM == 0 => Err(Mixed),
        (HEADERS | PUSH_PROMISE | CONTINUATION, None) => Err(Mixed),
        // Resets, settings, pings, windows and GOAWAY are h2's or ours, whatever stream they are about.
        _ => Ok(Fate::Passes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::frames::END_HEADERS;

    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Stream 1 is refused, 3 is a call that ends by trailers; the rest is the app's.
    fn ours(stream: u32) -> Option<Ours> {
        match stream {
            1 => Some(Ours::All),
            3 => Some(Ours::Trailers),
            _ => None,
        }
    }

    fn sifted(bytes: &[u8], pieces: usize) -> Result<Vec<u8>, Mixed> {
        let (mut sieve, mut out) = (Sieve::new(), BytesMut::new());
        for piece in bytes.chunks(pieces) {
            sieve.sift(piece, &mut out, ours)?;
        }
        Ok(out.to_vec())
    }

    #[test]
    fn what_the_app_said_is_left_out_and_every_notice_goes_however_the_bytes_are_cut() {
        let notices = [
            frame(HEADERS, END_HEADERS, 1, b"401"),
            frame(DATA, END_STREAM, 1, b"revoked\n"),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, b"status 16"),
            frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]),
            frame(GOAWAY, 0, 0, &[0; 8]),
        ];
        let apps = [
            frame(DATA, 0, 3, &[b'x'; 300]),
            frame(DATA, END_STREAM, 7, b"the end of an answer"),
            frame(DATA, 0, 3, b""),
            frame(DATA, 0, 9, &[0; 20_000]),
            frame(DATA, 0, 5, b"more"),
        ];
        let mixed: Vec<u8> = apps.iter().zip(&notices).flat_map(|(app, notice)| [&app[..], notice].concat()).collect();
        for pieces in [1, 2, 8, 9, 10, 1000, mixed.len()] {
            assert_eq!(sifted(&mixed, pieces).unwrap(), notices.concat(), "in pieces of {pieces}");
        }
    }

    #[test]
    fn behind_a_head_of_the_apps_nothing_can_be_told() {
        for head in [
            frame(HEADERS, END_HEADERS, 7, b"200"),
            frame(HEADERS, END_HEADERS | END_STREAM, 7, b"204"),
            frame(CONTINUATION, END_HEADERS, 7, b"more"),
            // A call's first head is the app's, though its trailers are ours.
            frame(HEADERS, END_HEADERS, 3, b"200"),
        ] {
            assert_eq!(sifted(&head, 4), Err(Mixed), "{head:?}");
        }
    }
}
