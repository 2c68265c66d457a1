//! Any bytes as a list: no panic; the two readers agree on it, it holds as many entries as its header says, and what is
//! written of it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revocation::{Document, Material, read};

fuzz_target!(|bytes: &[u8]| {
    let read = match read(bytes.to_vec()) {
        Ok(Material::List(read)) => read,
        Ok(Material::Crls(_)) => return,
        Err(_) => {
            assert!(Document::parse(bytes.to_vec()).is_err());
            return;
        }
    };
    let document = Document::parse(bytes.to_vec()).expect("the other reader took it");
    let count = usize::try_from(document.header().entries()).expect("they were there");
    assert!(document.entries().len() <= count && read.list.selectors.len() + read.list.observed.len() <= count);
    assert!(read.list.issued_at < read.list.expires_at);
    // A time of the year −1 can be read, by its offset, and not be written.
    if let Ok(text) = document.render() {
        let again = Document::parse(text).expect("what is written can be read");
        assert!(document.diff(&again).is_empty());
    }
    if let Ok(file) = document.compile() {
        let again = Document::parse(file).expect("what is compiled can be read");
        assert!(document.diff(&again).is_empty());
    }
});
