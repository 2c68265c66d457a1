//! Any bytes as a list: no panic, and what is accepted holds as many entries as its header says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revocation::{Material, read};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Material::List(list)) = read(bytes.to_vec()) else { return };
    let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap_or_default()).expect("a header");
    let count = lines.count();
    assert_eq!(header["entries"], count);
    assert!(list.selectors.len() <= count && list.issued_at < list.expires_at);
});
