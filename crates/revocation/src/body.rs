//! What follows the first line of a list: lines, or in a compiled list sorted keys and then lines.
//!
//! Read by `list.rs` for what will be in force and by `document.rs` for what people change. Sizes are checked against
//! the bytes that are there before memory is taken for them.

use serde::Deserialize;
use trust::KeySet;

use crate::ReadError;

/// The kinds of entries of which a compiled list holds keys, in its order, as sentences call them.
pub(crate) const KINDS: [&str; 3] = ["serial numbers", "public keys", "certificates"];
/// Bytes of a count, big-endian.
const COUNT: usize = 8;
/// Bytes of a key, big-endian; the last four bits are the reason, as in [`KeySet::entry`].
const KEY: usize = 16;

/// Lines of entries.
pub(crate) struct Lines<'a> {
    pub(crate) text: &'a [u8],
    /// How many there must be.
    pub(crate) expected: u64,
    /// How many entries the header announces, keys included; for sentences.
    pub(crate) announced: u64,
    /// Whether they stand behind keys, where nobody can count lines from the file's beginning.
    pub(crate) compiled: bool,
}

/// Why lines were not taken.
pub(crate) enum Flaw {
    /// So many follow, which is fewer than announced.
    Fewer(u64),
    /// One is wrong, or one too many.
    Bad(ReadError),
}

impl<'a> Lines<'a> {
    /// Hands every line to `take`, understood.
    pub(crate) fn each<T: Deserialize<'a>>(self, mut take: impl FnMut(T)) -> Result<(), Flaw> {
        let (mut rest, mut count) = (self.text, 0_u64);
        let mut line = if self.compiled { 0 } else { 1 };
        while !rest.is_empty() {
            let (text, after) = split_line(rest);
            rest = after;
            line += 1;
            if count == self.expected {
                let why = format!(
                    "the header announces {} entries, but here is one more; publish the file again with its count",
                    self.announced
                );
                return Err(Flaw::Bad(self.place(ReadError::at(line, 1, why))));
            }
            if text.trim_ascii().is_empty() {
                let why = "a blank line; remove it, each line holds one entry";
                return Err(Flaw::Bad(self.place(ReadError::at(line, 1, why))));
            }
            let entry = serde_json::from_slice(text);
            take(entry.map_err(|error| Flaw::Bad(self.place(ReadError::json(line, &error))))?);
            count += 1;
        }
        if count < self.expected { Err(Flaw::Fewer(count)) } else { Ok(()) }
    }

    fn place(&self, error: ReadError) -> ReadError {
        if !self.compiled {
            return error;
        }
        let (line, column) = (error.line.unwrap_or(0), error.column.unwrap_or(0));
        let why = format!("in line {line}, column {column} of the lines behind the keys: {}", error.why);
        ReadError::whole(why).labelled(error.label())
    }
}

/// The first line without its end (LF or CR LF; the last one needs none), and what follows it.
pub(crate) fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end.and_then(|end| text.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None => (text, [].as_slice()),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The keys of a compiled list, of each kind, and the lines behind them.
pub(crate) fn split_keys(body: &[u8], entries: u64) -> Result<([&[u8]; 3], Lines<'_>), ReadError> {
    let short = || {
        let why = "the compiled list is shorter than its counts say; publish the file again, whole";
        ReadError::whole(why.to_owned()).labelled("truncated")
    };
    let mut rest = body;
    let mut counts = [0_u64; 3];
    for count in &mut counts {
        let (bytes, after) = rest.split_first_chunk::<COUNT>().ok_or_else(short)?;
        (*count, rest) = (u64::from_be_bytes(*bytes), after);
    }
    let mut kinds = [[].as_slice(); 3];
    for (kind, count) in kinds.iter_mut().zip(counts) {
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(KEY)).ok_or_else(short)?;
        (*kind, rest) = rest.split_at_checked(bytes).ok_or_else(short)?;
    }
    // The keys are there, so their count is far from overflow.
    let expected = entries.checked_sub(counts.iter().sum()).ok_or_else(|| {
        let why = "the compiled list has more keys than its header announces entries; compile it again";
        ReadError::whole(why.to_owned())
    })?;
    Ok((kinds, Lines { text: rest, expected, announced: entries, compiled: true }))
}

/// The set of these keys.
pub(crate) fn key_set(bytes: &[u8], kind: &str) -> Result<KeySet, ReadError> {
    KeySet::from_sorted(keys(bytes).collect()).map_err(|position| {
        ReadError::whole(format!(
            "key {} of the {kind} is not greater than the one before it or has an unknown reason; compile the list again",
            position.saturating_add(1)
        ))
    })
}

/// These keys, unchecked.
pub(crate) fn keys(bytes: &[u8]) -> impl ExactSizeIterator<Item = u128> {
    bytes.as_chunks::<KEY>().0.iter().map(|key| u128::from_be_bytes(*key))
}

/// Keys of each kind, sorted, as a compiled list begins.
pub(crate) fn write_keys(kinds: &[Vec<u128>; 3]) -> Vec<u8> {
    let count: usize = kinds.iter().map(Vec::len).sum();
    let mut body = Vec::with_capacity(kinds.len() * COUNT + count * KEY);
    for keys in kinds {
        body.extend(u64::try_from(keys.len()).unwrap_or(u64::MAX).to_be_bytes());
    }
    for key in kinds.iter().flatten() {
        body.extend(key.to_be_bytes());
    }
    body
}
