//! JSON values as YAML that every reader understands alike.
//!
//! Called by `documents.rs` for what was changed. A text stands without quotes only if no version of YAML could take
//! it for anything else: `on`, `8080`, `1e3` and `12:30` are quoted. It must never write what it would read otherwise.

use serde_json::{Map, Value};

/// Words that some version of YAML takes for something else than a text.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

/// One document, without its `---`.
pub(crate) fn write(value: &Value) -> String {
    let mut text = String::new();
    match branch(value) {
        Branch::Mapping(members) => mapping(&mut text, members, 0),
        Branch::Sequence(entries) => sequence(&mut text, entries, 0),
        Branch::Leaf => last(&mut text, value, 2),
    }
    text
}

/// What takes lines of its own.
enum Branch<'a> {
    Mapping(&'a Map<String, Value>),
    Sequence(&'a [Value]),
    Leaf,
}

fn branch(value: &Value) -> Branch<'_> {
    if let Some(members) = value.as_object().filter(|members| !members.is_empty()) {
        return Branch::Mapping(members);
    }
    value.as_array().filter(|entries| !entries.is_empty()).map_or(Branch::Leaf, |entries| Branch::Sequence(entries))
}

fn last(text: &mut String, value: &Value, indent: usize) {
    text.push_str(&leaf(value, indent));
    text.push('\n');
}

/// The first member stands where the text ends, all others on lines of their own.
fn mapping(text: &mut String, members: &Map<String, Value>, indent: usize) {
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&one_line(key));
        text.push(':');
        match branch(value) {
            Branch::Mapping(members) => {
                text.push('\n');
                text.push_str(&" ".repeat(indent + 2));
                mapping(text, members, indent + 2);
            }
            Branch::Sequence(entries) => {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                sequence(text, entries, indent);
            }
            Branch::Leaf => {
                text.push(' ');
                last(text, value, indent + 2);
            }
        }
    }
}

fn sequence(text: &mut String, entries: &[Value], indent: usize) {
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match branch(entry) {
            Branch::Mapping(members) => mapping(text, members, indent + 2),
            Branch::Sequence(entries) => sequence(text, entries, indent + 2),
            Branch::Leaf => last(text, entry, indent + 2),
        }
    }
}

/// What fits behind a key; `indent` is for lines of a block.
fn leaf(value: &Value, indent: usize) -> String {
    match value {
        Value::String(text) => block(text, indent).unwrap_or_else(|| one_line(text)),
        // Empty, as `write` and its parts take all others: JSON's spelling is YAML's.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Several lines as they are, if nothing in them needs an escape.
fn block(text: &str, indent: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let simple = |letter: char| letter == '\n' || letter == '\t' || is_printable(letter);
    if !body.contains('\n') || body.ends_with('\n') || body.starts_with([' ', '\t', '\n']) || !body.chars().all(simple)
    {
        return None;
    }
    let mut block = String::from(if text.ends_with('\n') { "|" } else { "|-" });
    for line in body.split('\n') {
        block.push('\n');
        // A line of blanks alone would lose them with some readers.
        if !line.is_empty() && line.trim().is_empty() {
            return None;
        }
        if !line.is_empty() {
            block.push_str(&" ".repeat(indent));
            block.push_str(line);
        }
    }
    Some(block)
}

fn one_line(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    if text.contains('"') && !text.contains('\'') && text.chars().all(is_printable) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            letter if is_printable(letter) => quoted.push(letter),
            letter => {
                let code = u32::from(letter);
                quoted.push_str(&if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") });
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Begins with a letter or a slash, holds nothing with a meaning of its own, and is no word of `WORDS`.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/' || first == '_');
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let fits = match letter {
            ' ' | ':' => next.is_some_and(|next| next != ' ' && next != ':'),
            letter => letter.is_ascii_alphanumeric() || "_./-@+=,()*%~;$".contains(letter),
        };
        if !fits {
            return false;
        }
    }
    begins && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Printable for YAML 1.1 and 1.2, and no break of lines for either.
fn is_printable(letter: char) -> bool {
    match letter {
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => false,
        ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml_read::read;

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        let value = json!({"args": ["run", "8080", "on", "No", "1e3", "12:30", "a: b", "", "~", "- x", "a #b", "a:b"]});
        let written = write(&value);
        assert!(written.contains("- run\n- \"8080\"\n- \"on\"\n- \"No\"\n"), "{written}");
        assert!(written.contains("- a:b\n"), "{written}");
        assert_eq!(read(&written).unwrap(), Some(value));
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,12}",
            "[a-z :#\\-\n\t]{0,20}",
            any::<String>(),
            prop::sample::select(vec![
                "on", "y", "null", "0644", "1e3", ".5", "0x1", "1_0", "<<", "=", "---", "...", "\n\n"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000..1000_i64).prop_map(|number| json!(number as f64 / 8.0 + 0.0625)),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |deeper| {
            prop_oneof![
                prop::collection::vec(deeper.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text(), deeper, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(value in value()) {
            // A whole document of nothing is no document.
            prop_assume!(!value.is_null());
            let written = write(&value);
            prop_assert_eq!(read(&written).map_err(|why| format!("{why:?}\n{written}")).unwrap(), Some(value), "{}", written);
        }
    }
}
