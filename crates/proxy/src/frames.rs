//! A look at the frames of an HTTP/2 connection as they pass, for what the h2 crate does not tell or bound.
//!
//! Fed by `framed.rs`, read by `http2.rs` and `sweep.rs`. It counts what a client may not do without end:
//! frames that carry nothing (h2 answers pings and settings as long as they come) and heads that are never whole. And it
//! tells which streams h2 refused by itself. It must never change a byte, nor end anything: others ask it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::bounds::Bound;
use crate::clock::monotonic;
use crate::sieve::Ours;

/// Frames without payload that a client may send at once, and how many a second it may send for ever: at 0.3 µs of CPU
/// each, 3 ms and 0.3 ms a second. Resets count too: so many requests may be given up unanswered (CVE-2023-44487).
const AT_ONCE: u32 = 10_000;
const A_SECOND: u32 = 1_000;
/// For each frame of an answer it may send so many: updates of windows, pings that measure them. As Envoy does
/// (max_inbound_window_update_frames_per_data_frame_sent).
const FOR_EACH_SENT: u32 = 10;

/// RFC 9113 §3.4.
const PREFACE: usize = 24;
/// RFC 9113 §4.1.
pub(crate) const FRAME_HEAD: usize = 9;
const RESET_CODE: usize = 4;
const LARGEST_HEAD: usize = FRAME_HEAD + RESET_CODE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;

/// What the beginning of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Of a reset.
    code: u32,
}

/// Finds the frames in one direction's bytes, however they are cut into pieces.
#[derive(Debug)]
struct Finder {
    head: [u8; LARGEST_HEAD],
    filled: usize,
    /// Bytes of the current frame, or of the preface, that say nothing more.
    skip: usize,
    current: u8,
}

impl Finder {
    fn new(skip: usize) -> Finder {
        Finder { head: [0; LARGEST_HEAD], filled: 0, skip, current: DATA }
    }

    fn find(&mut self, bytes: &[u8], mut found: impl FnMut(Frame)) {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if self.skip > 0 {
                let passed = self.skip.min(rest.len());
                self.skip -= passed;
                rest = rest.get(passed..).unwrap_or(&[]);
                continue;
            }
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = *first;
            }
            self.filled += 1;
            rest = behind;
            if self.filled >= self.wanted() {
                let frame = self.read();
                self.skip = (frame.length + FRAME_HEAD).saturating_sub(self.filled);
                self.current = frame.kind;
                self.filled = 0;
                found(frame);
            }
        }
    }

    /// Bytes of the head that are needed, as far as it is known.
    fn wanted(&self) -> usize {
        let [_, _, length, kind, ..] = self.head;
        let reset = self.filled >= FRAME_HEAD && kind == RST_STREAM && usize::from(length) >= RESET_CODE;
        if reset { LARGEST_HEAD } else { FRAME_HEAD }
    }

    fn read(&self) -> Frame {
        let [a, b, c, kind, flags, d, e, f, g, h, i, j, k] = self.head;
        Frame {
            length: usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX),
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            code: u32::from_be_bytes([h, i, j, k]),
        }
    }

    /// A frame has begun and has not ended; one of a body has the body's own deadline.
    fn is_amid_frame(&self) -> bool {
        self.filled > 0 || self.skip > 0 && self.current != DATA
    }
}

/// What the frames of one connection came to.
#[derive(Debug)]
pub(crate) struct Frames {
    from_client: RefCell<Finder>,
    to_client: RefCell<Finder>,
    /// Frames without payload that the client may still send.
    left: Cell<u32>,
    /// What time gave was added up to here.
    granted: Cell<Instant>,
    flood: Cell<bool>,
    /// A header block goes on in the next frame.
    head_open: Cell<bool>,
    /// Grows with each frame but those that go on with a header block.
    units: Cell<u64>,
    /// The unit that has begun and has not ended, and since when.
    unfinished: Cell<Option<(u64, Instant)>>,
    /// The last stream that h2 handed on.
    accepted: Cell<u32>,
    /// Streams on which something is ours since the session was cut.
    ours: RefCell<Vec<(u32, Ours)>>,
}

impl Frames {
    pub(crate) fn new() -> Rc<Frames> {
        Rc::new(Frames {
            from_client: RefCell::new(Finder::new(PREFACE)),
            to_client: RefCell::new(Finder::new(0)),
            left: Cell::new(AT_ONCE),
            granted: Cell::new(monotonic()),
            flood: Cell::new(false),
            head_open: Cell::new(false),
            units: Cell::new(0),
            unfinished: Cell::new(None),
            accepted: Cell::new(0),
            ours: RefCell::default(),
        })
    }

    /// The client sent more that carries nothing than it may.
    pub(crate) fn is_flood(&self) -> bool {
        self.flood.get()
    }

    /// h2 handed this stream on: what is said on it is not h2's own word.
    pub(crate) fn accepted(&self, stream: u32) {
        self.accepted.set(self.accepted.get().max(stream));
    }

    /// A head, or another frame but a body's, has been under way for so long.
    pub(crate) fn is_stuck_for(&self, limit: Duration) -> bool {
        self.unfinished.get().is_some_and(|(_, since)| since.elapsed() >= limit)
    }

    /// Of a session that is cut: from now on this is ours on a stream.
    pub(crate) fn is_ours(&self, stream: u32, what: Ours) {
        self.ours.borrow_mut().push((stream, what));
    }

    /// What is ours on a stream.
    pub(crate) fn ours(&self, stream: u32) -> Option<Ours> {
        self.ours.borrow().iter().find(|(told, _)| *told == stream).map(|(_, what)| *what)
    }

    /// What went to the client so far ended a frame.
    pub(crate) fn is_between_sent(&self) -> bool {
        let sent = self.to_client.borrow();
        sent.filled == 0 && sent.skip == 0
    }

    /// These bytes came from the client.
    pub(crate) fn came(&self, bytes: &[u8]) {
        self.from_client.borrow_mut().find(bytes, |frame| {
            if frame.kind != CONTINUATION {
                self.units.set(self.units.get() + 1);
            }
            if frame.kind == HEADERS || frame.kind == CONTINUATION {
                self.head_open.set(frame.flags & END_HEADERS == 0);
            }
            let carries =
                frame.kind == HEADERS || frame.kind == DATA && (frame.length > 0 || frame.flags & END_STREAM != 0);
            if !carries {
                self.spend(1);
            }
        });
        let unfinished = self.head_open.get() || self.from_client.borrow().is_amid_frame();
        self.unfinished.set(match self.unfinished.get().filter(|(unit, _)| *unit == self.units.get()) {
            _ if !unfinished => None,
            Some(same) => Some(same),
            None => Some((self.units.get(), monotonic())),
        });
    }

    fn spend(&self, frames: u32) {
        if let Some(left) = self.left.get().checked_sub(frames) {
            self.left.set(left);
            return;
        }
        let granted = self.granted.replace(monotonic()).elapsed().as_millis() * u128::from(A_SECOND) / 1000;
        let granted = u32::try_from(granted).unwrap_or(AT_ONCE).min(AT_ONCE);
        match (self.left.get() + granted).min(AT_ONCE).checked_sub(frames) {
            Some(left) => self.left.set(left),
            None => self.flood.set(true),
        }
    }

    /// These bytes went to the client; `limited` is told of every limit that h2 enforced by itself.
    pub(crate) fn went(&self, bytes: &[u8], mut limited: impl FnMut(Bound)) {
        self.to_client.borrow_mut().find(bytes, |frame| {
            if let Some(bound) = self.noted(frame) {
                limited(bound);
            }
        });
    }

    /// Which limit h2 enforced by itself, if it did: it answers for streams that it never handed on.
    fn noted(&self, frame: Frame) -> Option<Bound> {
        if frame.kind == HEADERS || frame.kind == DATA && frame.length > 0 {
            self.left.set((self.left.get() + FOR_EACH_SENT).min(AT_ONCE));
        }
        match frame.kind {
            _ if frame.stream <= self.accepted.get() => None,
            RST_STREAM if frame.code == REFUSED_STREAM => Some(Bound::Streams),
            // 431: the head was larger than SETTINGS_MAX_HEADER_LIST_SIZE.
            HEADERS => {
                self.spend(FOR_EACH_SENT + 1);
                Some(Bound::HeaderBytes)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let bytes = [
            vec![b'*'; PREFACE],
            frame(4, 0, 0, &[0; 12]),
            frame(HEADERS, END_HEADERS, 1, &[0x82; 300]),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]),
            frame(DATA, END_STREAM, 3, &[]),
            frame(RST_STREAM, 0, 5, &[]),
        ]
        .concat();
        let told = |pieces: usize| {
            let (mut finder, mut told) = (Finder::new(PREFACE), Vec::new());
            for piece in bytes.chunks(pieces) {
                finder.find(piece, |frame| told.push((frame.kind, frame.stream, frame.length)));
            }
            assert!(!finder.is_amid_frame());
            told
        };
        let expected = [(4, 0, 12), (HEADERS, 1, 300), (RST_STREAM, 1, 4), (DATA, 3, 0), (RST_STREAM, 5, 0)];
        for pieces in [1, 2, 7, 9, 13, 100, bytes.len()] {
            assert_eq!(told(pieces), expected, "in pieces of {pieces}");
        }
        let mut codes = Vec::new();
        Finder::new(PREFACE).find(&bytes, |frame| codes.extend((frame.length == 4).then_some(frame.code)));
        assert_eq!(codes, [7]);
    }

    #[test]
    fn a_client_may_send_so_many_frames_that_carry_nothing_and_more_for_what_it_is_sent() {
        let frames = Frames::new();
        frames.came(&[b'*'; PREFACE]);
        let ping = frame(6, 0, 0, &[0; 8]);
        frames.came(&ping.repeat(usize::try_from(AT_ONCE).unwrap()));
        assert!(!frames.is_flood());
        for _ in 0..AT_ONCE {
            frames.noted(Frame { length: 5, kind: DATA, flags: 0, stream: 1, code: 0 });
        }
        frames.came(&frame(DATA, 0, 1, &[1]).repeat(50_000));
        frames.came(&ping.repeat(usize::try_from(AT_ONCE).unwrap()));
        assert!(!frames.is_flood());
        // However slow this test is, time does not give as many.
        frames.came(&frame(DATA, 0, 1, &[]).repeat(usize::try_from(AT_ONCE).unwrap() * 2));
        assert!(frames.is_flood());
    }

    #[test]
    fn a_head_that_is_not_whole_is_stuck_and_a_body_is_not() {
        let frames = Frames::new();
        frames.came(&[b'*'; PREFACE]);
        assert!(!frames.is_stuck_for(Duration::ZERO));
        for (begun, rest) in [
            (frame(HEADERS, 0, 1, &[0x82]), frame(CONTINUATION, END_HEADERS, 1, &[0x84])),
            (frame(HEADERS, END_HEADERS, 3, &[0x82; 40])[..30].to_vec(), vec![0x82; 19]),
            (frame(6, 0, 0, &[0; 8])[..3].to_vec(), frame(6, 0, 0, &[0; 8])[3..].to_vec()),
        ] {
            frames.came(&begun);
            assert!(frames.is_stuck_for(Duration::ZERO));
            assert!(!frames.is_stuck_for(Duration::from_secs(1000)));
            frames.came(&rest);
            assert!(!frames.is_stuck_for(Duration::ZERO));
        }
        frames.came(&frame(DATA, 0, 1, &[0; 100])[..50]);
        assert!(!frames.is_stuck_for(Duration::ZERO));
    }

    #[test]
    fn what_h2_refuses_by_itself_is_told_from_what_we_answer() {
        let frames = Frames::new();
        let refusal = |kind, stream, code| frames.noted(Frame { length: 4, kind, flags: 4, stream, code });
        assert_eq!(refusal(RST_STREAM, 3, REFUSED_STREAM), Some(Bound::Streams));
        assert_eq!(refusal(HEADERS, 3, 0), Some(Bound::HeaderBytes));
        assert_eq!(refusal(RST_STREAM, 3, 1), None);
        frames.accepted(3);
        assert_eq!(refusal(RST_STREAM, 3, REFUSED_STREAM), None);
        assert_eq!(refusal(HEADERS, 1, 0), None);
    }
}
