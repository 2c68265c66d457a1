//! A small writer of DER values (X.690).
//! The CRL builder and the certificate forge call it where rcgen offers no way to write what a test needs.
//! It must never check its input: odd and invalid values are what tests come here for.

use time::OffsetDateTime;

/// Tag of BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// Tag of INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// Tag of SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One value: tag, length, content.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 6);
    append(&mut bytes, tag, content);
    bytes
}

/// Appends one value to bytes already written.
pub fn append(bytes: &mut Vec<u8>, tag: u8, content: &[u8]) {
    bytes.push(tag);
    append_length(bytes, content.len());
    bytes.extend_from_slice(content);
}

fn append_length(bytes: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        bytes.push(length as u8);
        return;
    }
    let digits = length.to_be_bytes();
    let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
    bytes.push(0x80 | digits.len() as u8);
    bytes.extend_from_slice(digits);
}

/// A SEQUENCE of values that are already encoded.
pub fn sequence<Part: AsRef<[u8]>>(parts: &[Part]) -> Vec<u8> {
    let content: Vec<u8> = parts.iter().flat_map(|part| part.as_ref().iter().copied()).collect();
    value(SEQUENCE, &content)
}

/// A positive INTEGER of the given magnitude: leading zeros are dropped, a sign byte is added where it is needed.
pub fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(magnitude.len() + 3);
    append_unsigned(&mut bytes, magnitude);
    bytes
}

/// Appends a positive INTEGER to bytes already written.
pub fn append_unsigned(bytes: &mut Vec<u8>, magnitude: &[u8]) {
    let digits = &magnitude[magnitude.iter().take_while(|digit| **digit == 0).count()..];
    let sign = usize::from(digits.first().is_none_or(|digit| *digit >= 0x80));
    bytes.push(INTEGER);
    append_length(bytes, digits.len() + sign);
    bytes.extend(std::iter::repeat_n(0, sign));
    bytes.extend_from_slice(digits);
}

/// An OBJECT IDENTIFIER of the given arcs, of which there must be two or more.
pub fn object_identifier(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    append_arc(&mut content, arcs[0] * 40 + arcs[1]);
    for arc in &arcs[2..] {
        append_arc(&mut content, *arc);
    }
    value(OBJECT_IDENTIFIER, &content)
}

fn append_arc(content: &mut Vec<u8>, arc: u64) {
    let digits = (1..10).find(|digits| arc >> (7 * digits) == 0).unwrap_or(10);
    for digit in (0..digits).rev() {
        let more = if digit == 0 { 0 } else { 0x80 };
        content.push(more | (arc >> (7 * digit)) as u8 & 0x7f);
    }
}

/// A time as RFC 5280 wants it: UTCTime until 2049, GeneralizedTime from 2050 on, in whole seconds.
pub fn moment(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    match at.year() {
        year @ 1950..2050 => value(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()),
        year => value(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
    }
}

/// One certificate or CRL extension; DER leaves a false `critical` out.
pub fn extension(oid: &[u64], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![object_identifier(oid)];
    if critical {
        parts.push(value(BOOLEAN, &[0xff]));
    }
    parts.push(value(OCTET_STRING, content));
    sequence(&parts)
}
