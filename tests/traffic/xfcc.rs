//! A small strict reader of X-Forwarded-Client-Cert: what an app that reads the format properly gets.
//! Used by `identity.rs`. It must never forgive: whatever is not of the form is a failure.

/// The pairs of the one element; panics if there are several, or anything is out of form.
pub(crate) fn read(value: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = value;
    loop {
        let (key, after) = rest.split_once('=').unwrap_or_else(|| panic!("a pair without '=' in {value:?}"));
        assert!(matches!(key, "Hash" | "Subject" | "URI" | "DNS"), "a strange key {key:?} in {value:?}");
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted, value),
            None => read_plain(after, value),
        };
        pairs.push((key.to_owned(), text));
        match after.strip_prefix(';') {
            Some(next) => rest = next,
            None => {
                assert!(after.is_empty(), "something behind the element: {after:?} in {value:?}");
                return pairs;
            }
        }
    }
}

fn read_quoted<'a>(text: &'a str, value: &str) -> (String, &'a str) {
    let mut read = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (read, &text[at + 1..]),
            '\\' => {
                let (_, escaped) = characters.next().unwrap_or_else(|| panic!("a dangling '\\' in {value:?}"));
                assert!(matches!(escaped, '"' | '\\'), "a strange escape in {value:?}");
                read.push(escaped);
            }
            ' '..='~' => read.push(character),
            _ => panic!("a character beyond ASCII in {value:?}"),
        }
    }
    panic!("an open quote in {value:?}")
}

fn read_plain<'a>(text: &'a str, value: &str) -> (String, &'a str) {
    let end = text.find(';').unwrap_or(text.len());
    let (plain, after) = text.split_at(end);
    let is_plain = |character: char| character.is_ascii_graphic() && !matches!(character, ',' | '=' | '"' | '\\');
    assert!(!plain.is_empty() && plain.chars().all(is_plain), "an unquoted value out of form in {value:?}");
    (plain.to_owned(), after)
}

/// All values of this key.
pub(crate) fn all<'a>(pairs: &'a [(String, String)], key: &str) -> Vec<&'a str> {
    pairs.iter().filter(|(given, _)| given == key).map(|(_, value)| value.as_str()).collect()
}
