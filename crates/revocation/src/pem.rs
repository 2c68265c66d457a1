//! PEM to DER, in place.
//!
//! Called by [`crate::read`] for files that begin with an `X509 CRL` block. The text of a large CRL and its DER
//! must not be in memory together, so each line is decoded over the text that was already read. Strict: between
//! the blocks only blank lines, because a damaged BEGIN line must not make a CRL vanish in silence.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ReadError;

const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
const END: &[u8] = b"-----END X509 CRL-----";
/// Characters decoded at once; a multiple of four, so that only a block's last piece can be padded.
const PIECE: usize = 4096;

/// The DER of each block.
pub(crate) fn decode(text: Vec<u8>) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut decoder =
        Decoder { bytes: text, written: 0, held: Vec::with_capacity(PIECE + 4), decoded: [0; PIECE], padded: false };
    let mut starts = Vec::new();
    let (mut read, mut line, mut begun) = (0, 0, None);
    while read < decoder.bytes.len() {
        line += 1;
        let rest = decoder.bytes.get(read..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let content = rest.get(..length).unwrap_or_default().trim_ascii();
        match begun {
            None if content.is_empty() => {}
            None if content == BEGIN => {
                begun = Some(line);
                starts.push(decoder.written);
            }
            None => {
                return Err(ReadError::at(line, 1, "text outside a PEM block; keep only the \"X509 CRL\" blocks"));
            }
            Some(_) if content == END => {
                decoder.finish(line)?;
                begun = None;
            }
            Some(_) => decoder.take(read..read + length, line)?,
        }
        read += length;
    }
    if let Some(line) = begun {
        let why = "this PEM block has no END line, the file is cut short; fetch the CRL again, whole";
        return Err(ReadError::at(line, 1, why).labelled("truncated"));
    }
    Ok(decoder.split(&starts))
}

struct Decoder {
    /// The text from the reading position on; before that, up to `written`, DER.
    bytes: Vec<u8>,
    written: usize,
    /// Characters that do not make up a group of four yet.
    held: Vec<u8>,
    /// Where a piece is decoded to; kept, because clearing it for each line would cost more than decoding.
    decoded: [u8; PIECE],
    padded: bool,
}

impl Decoder {
    fn take(&mut self, place: std::ops::Range<usize>, line: usize) -> Result<(), ReadError> {
        let mut at = place.start;
        while at < place.end {
            let end = place.end.min(at + PIECE);
            let piece = self.bytes.get(at..end).unwrap_or_default();
            self.held.extend(piece.iter().filter(|byte| !byte.is_ascii_whitespace()));
            let ready = self.held.len() / 4 * 4;
            self.flush(ready, line)?;
            at = end;
        }
        Ok(())
    }

    fn flush(&mut self, ready: usize, line: usize) -> Result<(), ReadError> {
        let why = "this is not base64; fetch the CRL again, whole";
        if ready == 0 {
            return Ok(());
        }
        let characters = self.held.get(..ready).unwrap_or_default();
        let count = STANDARD.decode_slice(characters, &mut self.decoded).map_err(|_| ReadError::at(line, 1, why))?;
        // Three bytes for four characters that were already read: never past the reading position.
        let room = self.bytes.get_mut(self.written..self.written + count);
        if self.padded || room.is_none() {
            return Err(ReadError::at(line, 1, why));
        }
        for (to, from) in room.into_iter().flatten().zip(&self.decoded) {
            *to = *from;
        }
        self.written += count;
        self.padded = characters.ends_with(b"=");
        self.held.drain(..ready);
        Ok(())
    }

    fn finish(&mut self, line: usize) -> Result<(), ReadError> {
        if !self.held.is_empty() {
            let why = "the base64 before this line is cut short; fetch the CRL again, whole";
            return Err(ReadError::at(line, 1, why).labelled("truncated"));
        }
        self.padded = false;
        Ok(())
    }

    fn split(self, starts: &[usize]) -> Vec<Vec<u8>> {
        let mut bytes = self.bytes;
        bytes.truncate(self.written);
        let mut blocks = Vec::with_capacity(starts.len());
        for start in starts.iter().skip(1).rev() {
            blocks.push(bytes.split_off(*start));
        }
        bytes.shrink_to_fit();
        blocks.push(bytes);
        blocks.reverse();
        blocks
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(bytes: &[u8], width: usize, end_of_line: &str) -> String {
        let text = STANDARD.encode(bytes);
        let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let lines = lines.join(end_of_line);
        format!("-----BEGIN X509 CRL-----{end_of_line}{lines}{end_of_line}-----END X509 CRL-----{end_of_line}")
    }

    #[test]
    fn blocks_of_any_width_and_line_end_are_decoded() {
        for (length, width) in [(1, 64), (2, 76), (3, 64), (48, 64), (10_000, 64), (10_001, 7), (20_000, 100_000)] {
            let first: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            for end_of_line in ["\n", "\r\n"] {
                let one = block(&first, width, end_of_line);
                let text = format!("\n{one}{end_of_line}{}", block(b"second", width, end_of_line));
                assert_eq!(decode(text.into_bytes()).unwrap(), [first.clone(), b"second".to_vec()]);
            }
        }
    }

    #[test]
    fn a_damaged_block_is_refused_with_its_line() {
        let good = block(&[7; 100], 64, "\n");
        let cases = [
            (good.replace("-----END X509 CRL-----\n", ""), 1, "no END line"),
            (good.replace("Bw", "B!"), 2, "not base64"),
            (good.replace("==", "="), 5, "cut short"),
            (good.replace("-----END", "QUJD\n-----END"), 5, "not base64"),
            (format!("{good}stray\n"), 6, "outside a PEM block"),
            (format!("{good}-----BEGIN CERTIFICATE-----\n"), 6, "outside a PEM block"),
            (good.replace("-----END X509 CRL-----", "-----END CRL-----"), 5, "not base64"),
        ];
        for (text, line, why) in cases {
            let error = decode(text.clone().into_bytes()).unwrap_err();
            assert!(error.line == Some(line) && error.why.contains(why), "{text}{error}");
        }
    }
}
