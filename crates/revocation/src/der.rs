//! A walk over DER, element by element, that remembers where it is.
//!
//! Used for CRLs alone. x509-parser would build about 200 bytes for each entry; asn1-rs takes lengths that are
//! not in their shortest form, so one CRL could be spelled in two ways, and knows no offsets. This walk copies
//! and allocates nothing, never recurses, and never looks beyond its slice.

use std::fmt;

/// BOOLEAN.
pub(crate) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
/// ENUMERATED.
pub(crate) const ENUMERATED: u8 = 0x0a;
/// UTCTime.
pub(crate) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE, constructed.
pub(crate) const SEQUENCE: u8 = 0x30;

/// Where and why DER cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DerFlaw {
    /// Offset in the whole CRL.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) why: &'static str,
}

impl fmt::Display for DerFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.why, self.at)
    }
}

/// One element: its tag, its content, and both with their place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
    /// Offset of the tag in the whole CRL.
    pub(crate) at: usize,
}

impl<'a> Element<'a> {
    /// Offset of the content in the whole CRL.
    pub(crate) fn content_at(&self) -> usize {
        self.at + (self.whole.len() - self.content.len())
    }

    /// A walk over the elements in it.
    pub(crate) fn walk(&self) -> Walk<'a> {
        Walk::new(self.content, self.content_at())
    }

    /// A flaw at this element.
    pub(crate) fn flaw(&self, why: &'static str) -> DerFlaw {
        DerFlaw { at: self.at, why }
    }
}

/// The elements of a slice, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// Over `bytes`, which lie at offset `at` of the whole.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Walk<'a> {
        Walk { rest: bytes, at }
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element.
    pub(crate) fn step(&mut self) -> Result<Element<'a>, DerFlaw> {
        let flaw = |why| DerFlaw { at: self.at, why };
        let [tag, first, ..] = *self.rest else { return Err(flaw("the bytes end before an element")) };
        if tag & 0x1f == 0x1f {
            return Err(flaw("a tag of several bytes has no place in a CRL"));
        }
        let (head, length) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            // X.690 §10.1: the definite form in the fewest bytes; four of them count to 4 GiB.
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return Err(flaw("a length is indefinite or has more than four bytes"));
            }
            let octets = self.rest.get(2..2 + count).ok_or(flaw("the bytes end within a length"))?;
            let length = octets.iter().fold(0_usize, |sum, octet| (sum << 8) | usize::from(*octet));
            if length < 0x80 || octets.first() == Some(&0) {
                return Err(flaw("a length is not in its shortest form"));
            }
            (2 + count, length)
        };
        let whole = self.rest.get(..head.saturating_add(length)).ok_or(flaw("the bytes end within an element"))?;
        let element = Element { tag, content: whole.get(head..).unwrap_or_default(), whole, at: self.at };
        self.rest = self.rest.get(whole.len()..).unwrap_or_default();
        self.at += whole.len();
        Ok(element)
    }

    /// The next element, which must have this tag; `why` is said if it has another.
    pub(crate) fn require(&mut self, tag: u8, why: &'static str) -> Result<Element<'a>, DerFlaw> {
        let element = self.step()?;
        if element.tag == tag { Ok(element) } else { Err(element.flaw(why)) }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerFlaw> {
        if self.rest.first() == Some(&tag) { self.step().map(Some) } else { Ok(None) }
    }

    /// Nothing must be left; `why` is said if something is.
    pub(crate) fn end(&self, why: &'static str) -> Result<(), DerFlaw> {
        if self.is_done() { Ok(()) } else { Err(DerFlaw { at: self.at, why }) }
    }
}

/// Reads a BOOLEAN's content; DER has one spelling of each value.
pub(crate) fn truth(element: &Element<'_>) -> Result<bool, DerFlaw> {
    match element.content {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(element.flaw("a truth value is neither 00 nor FF")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn elements_are_read_with_their_places() {
        let bytes = [0x30, 3, 2, 1, 5, 1, 1, 0xff];
        let mut walk = Walk::new(&bytes, 100);
        let sequence = walk.require(SEQUENCE, "").unwrap();
        assert_eq!((sequence.at, sequence.content_at(), sequence.content), (100, 102, [2, 1, 5].as_slice()));
        assert!(walk.optional(INTEGER).unwrap().is_none());
        assert!(truth(&walk.optional(BOOLEAN).unwrap().unwrap()).unwrap());
        assert!(walk.end("").is_ok() && walk.step().is_err());
    }

    #[test]
    fn a_length_has_one_spelling_and_stays_within_the_bytes() {
        for bad in [
            [0x30, 0x80, 0, 0, 0, 0].as_slice(),
            &[0x30, 0x81, 1, 0, 0, 0],
            &[0x30, 0x82, 0, 0x80, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x85, 0, 0, 0, 0],
            &[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 2, 0],
            &[0x30],
            &[0x1f, 1, 0],
            &[],
        ] {
            assert!(Walk::new(bad, 0).step().is_err(), "{bad:02x?}");
        }
    }
}
