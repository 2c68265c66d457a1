//! WebSocket: its handshake (RFC 6455 §4, RFC 8441 §5), and as much of its framing as a cut needs (RFC 6455 §5.2).
//!
//! Called by `upgrade.rs` for the handshake and by `tunnel.rs` for what goes to the client. Frames pass as they are:
//! masks, extensions and payloads are the affair of the two ends. It must never look into a payload.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE,
};
use trust::Denial;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// 16 bytes in base64.
const KEY_LENGTH: usize = 24;
/// RFC 6455 §7.4.1: a message that violates the endpoint's policy.
const POLICY_VIOLATION: u16 = 1008;
const CLOSE: u8 = 0x8;
/// RFC 6455 §5.5: what a control frame may carry at most.
const CONTROL_PAYLOAD: usize = 125;
/// A frame of up to this size goes on only when it is whole, so that the stream toward the client is nearly always
/// between two frames and a Close can be told. As large as what a tunnel holds for one side anyway.
const HELD_BACK: u64 = 16 * 1024;

/// Whether an HTTP/1.1 head asks for a WebSocket (RFC 6455 §4.2.1).
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    names(headers, &UPGRADE, "websocket") && names(headers, &CONNECTION, "upgrade")
}

fn names(headers: &HeaderMap, field: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|element| element.trim().eq_ignore_ascii_case(word))
}

/// What the app has to answer to the one key of this head; `None` without a key, with several, or if it is none.
pub(crate) fn expected_accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|_| keys.next().is_none())?.as_bytes();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let nonce = key.strip_suffix(b"==").filter(|_| key.len() == KEY_LENGTH)?;
    nonce.iter().all(is_base64).then(|| accept_of(key)).flatten()
}

fn accept_of(key: &[u8]) -> Option<HeaderValue> {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

/// A key of our own, for a client that came by HTTP/2 and has none.
pub(crate) fn new_key() -> Option<HeaderValue> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    HeaderValue::from_str(&STANDARD.encode(nonce)).ok()
}

/// Makes a request's head that is fit for the app ask it for a WebSocket.
pub(crate) fn ask(headers: &mut HeaderMap) {
    // `Connection` names one thing alone, so that no app has to take it apart.
    headers.remove(TE);
    announce(headers);
}

/// Makes a head fit for the client say 101 to it.
pub(crate) fn announce(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether the app's 101 is the answer to our key (RFC 6455 §4.1). One that was made for somebody else, or by an app
/// that only repeats what it is told, opens no tunnel.
pub(crate) fn is_accepted(headers: &HeaderMap, expected: &HeaderValue) -> bool {
    let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    is_asked_for(headers) && accepts.next() == Some(expected) && accepts.next().is_none()
}

/// What tells a client of its cut: Close 1008 with the denial's word, unmasked as a server's frames are.
pub(crate) fn close_frame(denial: &Denial) -> Bytes {
    let mut payload = POLICY_VIOLATION.to_be_bytes().to_vec();
    payload.extend_from_slice(denial.label().as_bytes());
    payload.truncate(CONTROL_PAYLOAD);
    let length = u8::try_from(payload.len()).unwrap_or(0);
    [&[0x80 | CLOSE, length][..], &payload].concat().into()
}

/// Where the stream toward the client stands between the app's frames.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Bytes of a large frame that are still to come.
    left: u64,
    /// The app said Close: nothing may follow (RFC 6455 §5.5.1).
    closed: bool,
}

impl Tracker {
    /// How many of the bytes that come next may go on now: whole frames, and whatever there is of a large one. They
    /// count as gone on.
    pub(crate) fn release(&mut self, bytes: &[u8]) -> usize {
        let mut released = 0;
        while let Some(rest) = bytes.get(released..).filter(|rest| !rest.is_empty()) {
            let there = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            if self.left == 0 {
                let Some((opcode, length)) = frame_length(rest) else { break };
                if there < length && length <= HELD_BACK {
                    break;
                }
                self.closed |= opcode == CLOSE;
                self.left = length;
            }
            let taken = self.left.min(there);
            self.left -= taken;
            released += usize::try_from(taken).unwrap_or(rest.len());
        }
        released
    }

    /// The last byte that went on ended a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.left == 0
    }

    /// The app's own Close went on.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The opcode of the frame that begins here, and its length with its header; `None` if that is not all there.
fn frame_length(bytes: &[u8]) -> Option<(u8, u64)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extended, payload) = match second & 0x7f {
        126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (0, u64::from(short)),
    };
    Some((first & 0x0f, payload.saturating_add(2 + extended + mask)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use proptest::prelude::*;
    use trust::Denial;

    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_handshake_is_told_by_both_fields_wherever_in_their_lists_the_words_are() {
        for (connection, upgrade) in
            [("Upgrade", "websocket"), ("keep-alive, upgrade", "WebSocket"), ("UPGRADE ,x", "h2c, websocket")]
        {
            assert!(is_asked_for(&head(&[("connection", connection), ("upgrade", upgrade)])), "{connection} {upgrade}");
        }
        let two_lines = [("connection", "a"), ("connection", "upgrade"), ("upgrade", "b"), ("upgrade", "websocket")];
        assert!(is_asked_for(&head(&two_lines)));
        for fields in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "close"), ("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "websocket2")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        ] {
            assert!(!is_asked_for(&head(fields)), "{fields:?}");
        }
    }

    #[test]
    fn the_accept_value_is_the_one_of_the_standards_example() {
        let asked = head(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        assert_eq!(expected_accept(&asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let own = new_key().unwrap();
        assert!(expected_accept(&head(&[("sec-websocket-key", own.to_str().unwrap())])).is_some());
        assert_ne!(own, new_key().unwrap());
    }

    #[test]
    fn a_key_that_is_none_missing_or_double_is_no_key() {
        let good = "dGhlIHNhbXBsZSBub25jZQ==";
        for keys in [&[][..], &[""], &["dGhlIHNhbXBsZSBub25jZQ"], &["dGhlIHNhbXBsZSBub25j*Q=="], &[good, good]] {
            let fields: Vec<_> = keys.iter().map(|key| ("sec-websocket-key", *key)).collect();
            assert_eq!(expected_accept(&head(&fields)), None, "{keys:?}");
        }
    }

    #[test]
    fn an_answer_to_another_key_is_not_accepted() {
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let switched = [("connection", "upgrade"), ("upgrade", "websocket")];
        let answer = |accepts: &[&'static str]| {
            let accepts = accepts.iter().map(|accept| ("sec-websocket-accept", *accept));
            head(&switched.iter().copied().chain(accepts).collect::<Vec<_>>())
        };
        assert!(is_accepted(&answer(&["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]), &expected));
        for accepts in [&[][..], &["S3pPLMBiTxaQ9kYGzzhZRbK+xOo="], &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "x"]] {
            assert!(!is_accepted(&answer(accepts), &expected), "{accepts:?}");
        }
    }

    #[test]
    fn the_close_names_1008_and_the_denial() {
        assert_eq!(close_frame(&Denial::AnchorRemoved)[..], *b"\x88\x10\x03\xf0anchor_removed");
    }

    /// A frame with a payload of this length, as a server (no mask) or a client writes it.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..=125 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..=65_535 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        if masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend((0..length).map(|position| u8::try_from(position % 251).unwrap()));
        bytes
    }

    /// Feeds the stream in pieces that end at `cuts`, as a tunnel does: what is not released waits for more. Returns
    /// after each piece how much was released in all, and whether that was between two frames.
    fn feed(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> (Tracker, Vec<(usize, bool)>) {
        let (mut tracker, mut released, mut seen) = (Tracker::default(), 0, Vec::new());
        for cut in cuts {
            released += tracker.release(&stream[released..cut]);
            seen.push((released, tracker.is_between_frames()));
        }
        (tracker, seen)
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_goes_on_frame_by_frame() {
        let lengths = [0, 1, 125, 126, 127, 1000, 16_379, 16_380, 16_381, 20_000, 65_535, 65_536, 70_000, 0];
        for masked in [false, true] {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for length in lengths {
                stream.extend(frame(2, length, masked));
                ends.push(stream.len());
            }
            let (tracker, seen) = feed(&stream, 1..=stream.len());
            assert_eq!(seen.last(), Some(&(stream.len(), true)));
            assert!(!tracker.is_closed());
            for (released, between) in seen {
                assert_eq!(between, ends.contains(&released), "at {released}");
                let frame = ends.iter().rposition(|end| *end <= released).unwrap();
                let large = ends.get(frame + 1).is_some_and(|end| end - ends[frame] > 16 * 1024);
                assert!(between || large, "a small frame went on in pieces at {released}");
            }
        }
    }

    #[test]
    fn a_close_is_noticed_only_when_it_goes_on() {
        let stream = frame(CLOSE, 20, false);
        assert!(!feed(&stream, [1, 21]).0.is_closed());
        assert!(feed(&stream, [1, 22]).0.is_closed());
    }

    #[test]
    fn a_length_beyond_all_bounds_is_a_frame_without_end() {
        let mut stream = vec![0x82, 0xff];
        stream.extend([0xff; 8]);
        stream.extend([0; 1000]);
        let (tracker, seen) = feed(&stream, [10, stream.len()]);
        assert_eq!(seen, [(10, false), (1010, false)]);
        assert!(!tracker.is_between_frames());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn however_a_stream_is_split_all_of_it_goes_on_and_boundaries_are_where_they_are(
            frames in prop::collection::vec((0u8..16, prop_oneof![0usize..200, 16_300usize..16_500, 65_500usize..65_600], any::<bool>()), 1..6),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for (opcode, length, masked) in frames {
                stream.extend(frame(opcode, length, masked));
                ends.push(stream.len());
            }
            let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(stream.len())).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let (_, seen) = feed(&stream, cuts);
            prop_assert_eq!(seen.last(), Some(&(stream.len(), true)));
            for (released, between) in seen {
                prop_assert_eq!(between, ends.contains(&released));
            }
        }

        #[test]
        fn bytes_that_are_no_frames_are_passed_on_or_held_and_nothing_else_happens(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut tracker = Tracker::default();
            prop_assert!(tracker.release(&bytes) <= bytes.len());
        }
    }
}
