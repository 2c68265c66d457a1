//! Any bytes behind the header of a compiled list, with the digest that they should have, so that the keys are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revocation::{Document, Material, read};
use trust::Sha256;

fuzz_target!(|bytes: &[u8]| {
    let Some((entries, body)) = bytes.split_first() else { return };
    let header = format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":{entries},\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\",\"encoding\":\"binary\",\
         \"sha256\":\"{}\",\"bytes\":{}}}\n",
        Sha256::of(body),
        body.len()
    );
    let file = [header.as_bytes(), body].concat();
    let document = Document::parse(file.clone());
    match read(file) {
        Ok(Material::List(read)) => {
            let list = read.list;
            assert!(list.selectors.len() + list.observed.len() <= usize::from(*entries));
            let document = document.expect("the other reader took it");
            if let Ok(file) = document.compile() {
                let again = Document::parse(file).expect("what is compiled can be read");
                assert!(document.diff(&again).is_empty());
            }
        }
        Ok(Material::Crls(_)) => unreachable!("it begins with a brace"),
        Err(_) => assert!(document.is_err()),
    }
});
