//! A distinguished name as text: RFC 4514, pure ASCII.
//!
//! Used for identities, headers and logs. Everything that could end a field, a quotation or a line is
//! escaped, so that a subject like `";URI=…` forges nothing. Two different names never give one text.

use std::fmt::Write as _;

use asn1_rs::{Any, Class, FromDer as _, Tag, ToDer as _};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The name as RFC 4514 writes it: last RDN first, joined by commas. `None` if an attribute's type is no DER.
pub(crate) fn rfc4514(name: &X509Name<'_>) -> Option<String> {
    let mut text = String::new();
    let mut names: Vec<_> = name.iter_rdn().collect();
    names.reverse();
    for (position, attributes) in names.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        for (position, attribute) in attributes.iter().enumerate() {
            if position > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute)?;
        }
    }
    Some(text)
}

/// The one common name in it: of two, or of one with a NUL or a line's end in it, two readers could read two things.
pub(crate) fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    let (Some(only), None) = (names.next(), names.next()) else { return None };
    let value = only.attr_value();
    let text = text(value).filter(|text| !text.is_empty() && !text.chars().any(char::is_control))?;
    Some(text.to_owned())
}

/// The text that [`rfc4514`] gives to the name which `text` means: for people, who write spaces around separators,
/// types in any case, and letters beyond ASCII. `None` if it means no name that a certificate can have.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let mut canonical = String::new();
    let mut rest = text;
    loop {
        let (kind, after) = rest.split_once('=')?;
        let kind = canonical_type(kind.trim_matches(' '))?;
        canonical.push_str(&kind);
        canonical.push('=');
        let (value, further) = after.split_at_checked(value_length(after))?;
        write_meant(&mut canonical, &kind, trimmed(value))?;
        let mut letters = further.chars();
        let Some(separator) = letters.next() else { return Some(canonical) };
        canonical.push(separator);
        rest = letters.as_str();
    }
}

/// A type by its short name, in any case, or in dotted decimals.
fn canonical_type(kind: &str) -> Option<String> {
    if let Some((_, short)) = SHORT.iter().find(|(oid, short)| *oid == kind || short.eq_ignore_ascii_case(kind)) {
        return Some((*short).to_owned());
    }
    let arcs: Vec<u64> = kind.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let [first, second, ..] = arcs.as_slice() else { return None };
    // As `dotted` reads them back: the first two share one number, and none is above 2⁶³.
    let possible = *first <= 2 && (*first == 2 || *second < 40) && arcs.iter().all(|arc| arc >> 62 == 0);
    let plain = arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    (possible && plain == kind).then_some(plain)
}

/// Bytes up to the first separator that is not escaped.
fn value_length(text: &str) -> usize {
    let mut escaped = false;
    for (position, letter) in text.char_indices() {
        if !escaped && matches!(letter, ',' | '+') {
            return position;
        }
        escaped = !escaped && letter == '\\';
    }
    text.len()
}

/// Without the spaces around it; one that is escaped belongs to it.
fn trimmed(value: &str) -> &str {
    let value = value.trim_start_matches(' ');
    let whole = value.trim_end_matches(' ');
    let escapes = whole.bytes().rev().take_while(|byte| *byte == b'\\').count();
    let own = usize::from(escapes % 2 == 1 && whole.len() < value.len());
    value.get(..whole.len().saturating_add(own)).unwrap_or(whole)
}

/// Writes the value that `text` means as a certificate's would be written.
fn write_meant(canonical: &mut String, kind: &str, text: &str) -> Option<()> {
    if let Some(digits) = text.strip_prefix('#') {
        let bytes = from_hex(digits)?;
        let (rest, value) = Any::from_der(&bytes).ok()?;
        return if rest.is_empty() { write_value(canonical, kind, &value) } else { None };
    }
    // Of another type nobody can tell which kind of string the certificate has.
    if !is_short(kind) {
        return None;
    }
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            '\\' => match letters.as_str().get(..2).and_then(from_hex) {
                Some(byte) => {
                    bytes.extend(byte);
                    letters = letters.as_str().get(2..)?.chars();
                    continue;
                }
                None => letters.next()?,
            },
            // Older forms quote with these (RFC 1779), or separate.
            '"' | ';' | '<' | '>' => return None,
            other => other,
        };
        bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    write_escaped(canonical, std::str::from_utf8(&bytes).ok()?);
    Some(())
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        u8::try_from(digit(0)? * 16 + digit(1)?).ok()
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// RFC 4514 §3: the only types that every reader knows by name.
const SHORT: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

fn is_short(kind: &str) -> bool {
    SHORT.iter().any(|(_, short)| *short == kind)
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let oid = dotted(attribute.attr_type().as_bytes())?;
    let kind = SHORT.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, short)| short);
    text.push_str(kind);
    text.push('=');
    write_value(text, kind, attribute.attr_value())
}

fn write_value(text: &mut String, kind: &str, value: &Any<'_>) -> Option<()> {
    match self::text(value) {
        Some(value) if is_short(kind) => write_escaped(text, value),
        _ => write_encoding(text, value)?,
    }
    Some(())
}

/// The value of a known string type.
fn text<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    // The library tells string types by the number of the tag alone; `[12]` of another class is no UTF8String.
    let universal = value.header.class() == Class::Universal && value.header.is_primitive();
    let is_text = matches!(value.tag(), Tag::NumericString | Tag::PrintableString | Tag::Utf8String | Tag::Ia5String);
    if universal && is_text { std::str::from_utf8(value.data).ok() } else { None }
}

/// RFC 4514 §2.4: what is no known string is written as the hexadecimal of its encoding, tag and length included.
fn write_encoding(text: &mut String, value: &Any<'_>) -> Option<()> {
    text.push('#');
    for byte in value.to_der_vec_raw().ok()? {
        let _ = write!(text, "{byte:02x}");
    }
    Some(())
}

/// An object identifier in dotted decimals (X.690 §8.19). `None` for one with needless leading bytes, which would
/// pass for another, one cut short, or one with an arc above 2⁶³, which nobody was ever given.
fn dotted(octets: &[u8]) -> Option<String> {
    let mut text = String::new();
    let (mut arc, mut begun) = (0_u64, false);
    for octet in octets {
        if (!begun && *octet == 0x80) || arc >> 56 != 0 {
            return None;
        }
        arc = arc << 7 | u64::from(octet & 0x7f);
        begun = octet & 0x80 != 0;
        if begun {
            continue;
        }
        if text.is_empty() {
            // The first two arcs share one number: 40 × first + second, and only 2 has a second above 39.
            let first = (arc / 40).min(2);
            let _ = write!(text, "{first}.{}", arc - 40 * first);
        } else {
            let _ = write!(text, ".{arc}");
        }
        arc = 0;
    }
    (!begun && !text.is_empty()).then_some(text)
}

fn write_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (position, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if position == 0 => text.push_str("\\#"),
            b' ' if position == 0 || position == last => text.push_str("\\ "),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}
