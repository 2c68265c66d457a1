//! A distinguished name as text: RFC 4514, pure ASCII.
//!
//! Used for identities, headers and logs. Everything that could end a field, a quotation or a line is
//! escaped, so that a subject like `";URI=…` forges nothing. Two different names never give one text.

use std::fmt::Write as _;

use asn1_rs::{Any, Class, ToDer as _};
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

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let oid = dotted(attribute.attr_type().as_bytes())?;
    // RFC 4514 §3: the only types that every reader knows by name.
    let short = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        other => other,
    };
    text.push_str(short);
    text.push('=');
    let value = attribute.attr_value();
    // The library tells string types by the number of the tag alone; `[12]` of another class is no UTF8String.
    let universal = value.header.class() == Class::Universal && value.header.is_primitive();
    match attribute.as_str() {
        Ok(value) if short != oid && universal => write_escaped(text, value),
        _ => write_encoding(text, value)?,
    }
    Some(())
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
