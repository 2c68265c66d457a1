//! YAML into JSON values, with the meaning that kubectl gives to every word.
//!
//! Called by `documents.rs` and for the defaults. kubectl reads YAML 1.1: a plain `on` is true, `0644` is 420. Who read
//! it otherwise would write another object than the cluster would have got. It must never expand an alias without end,
//! nor let one key stand twice.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};
use serde_json::{Map, Number, Value};

/// Levels of nesting; no object of Kubernetes has half as many, and each is a call here.
const DEEPEST: usize = 128;
/// Nodes of one document, aliases counted as often as they stand: an object that an API server takes (3 MiB) has fewer.
const MOST_NODES: usize = 500_000;

/// One document; `None` if it holds nothing but comments. An error names the line, counted from 1.
pub(crate) fn read(text: &str) -> Result<Option<Value>, (usize, String)> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, line: 1 };
    let read = reader.document();
    read.map_err(|why| (reader.line, why))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    nodes: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => {
                self.line = error.marker().line();
                Err(told(&error))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn document(&mut self) -> Result<Option<Value>, String> {
        let mut document = None;
        loop {
            let event = self.next()?;
            // A plain nothing after `---` is no document to Kubernetes.
            let nothing = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, 0, None) if text.is_empty());
            let frame =
                matches!(event, Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing);
            if matches!(event, Event::StreamEnd) {
                return Ok(document);
            } else if !frame && !nothing {
                if document.is_some() {
                    return Err("a second document begins without ---; write it in between".to_owned());
                }
                document = Some(self.node(event, 0)?);
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} levels deep"));
        }
        self.count(1)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias stands inside what it repeats")?;
                self.count(nodes(&value))?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref())?),
            Event::SequenceStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let event = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    entries.push(self.node(event, depth + 1)?);
                }
                (anchor, Value::Array(entries))
            }
            Event::MappingStart(anchor, _) => (anchor, Value::Object(self.mapping(depth)?)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err("it ends too early".to_owned()),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn mapping(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let (mut members, mut merged) = (Map::new(), Vec::new());
        loop {
            let event = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match self.node(event, depth + 1)? {
                Value::String(text) => text,
                Value::Null => "null".to_owned(),
                key @ (Value::Bool(_) | Value::Number(_)) => key.to_string(),
                Value::Array(_) | Value::Object(_) => return Err("a key is a list or mapping; write a text".to_owned()),
            };
            let line = self.line;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if merges {
                merged.push(value);
            } else if members.contains_key(&key) {
                self.line = line;
                return Err(format!("the key {key:?} stands twice in one mapping"));
            } else {
                members.insert(key, value);
            }
        }
        for value in merged {
            let sources = if let Value::Array(sources) = value { sources } else { vec![value] };
            for source in sources {
                let Value::Object(source) = source else { return Err("<< needs a mapping".to_owned()) };
                for (key, value) in source {
                    members.entry(key).or_insert(value);
                }
            }
        }
        Ok(members)
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(more);
        match self.nodes <= MOST_NODES {
            true => Ok(()),
            false => Err(format!("it has more than {MOST_NODES} nodes once its aliases are expanded")),
        }
    }
}

fn told(error: &ScanError) -> String {
    error.info().to_owned()
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(entries) => 1 + entries.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(|value| 1 + nodes(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let quoted = style != ScalarStyle::Plain;
    match tag {
        None if quoted => Ok(Value::String(text.to_owned())),
        None => plain(text),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Value::String(text.to_owned())),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Value::String(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema() && ["int", "float", "bool", "null"].contains(&tag.suffix.as_str()) => {
            plain(text)
        }
        Some(tag) => Err(format!("the tag {tag} has no meaning in an object of Kubernetes")),
    }
}

/// What a word without quotes means.
pub(crate) fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => return Err(format!("{text} is no number of JSON")),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Ok(Value::String(text.to_owned()));
    }
    let digits = text.replace('_', "");
    let number = whole(&digits).or_else(|| fraction(&digits));
    Ok(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// `12`, `-12`, `0x1f`, `0o17`, `017`, `0b1`.
fn whole(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match (lower.strip_prefix("0x"), lower.strip_prefix("0o"), lower.strip_prefix("0b")) {
        (Some(digits), _, _) => (16, digits),
        (_, Some(digits), _) => (8, digits),
        (_, _, Some(digits)) => (2, digits),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    // The sign was taken off, and the standard library would take another.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(Number::from(number)),
        true => i64::try_from(-i128::from(number)).ok().map(Number::from),
    }
}

/// Digits with a point or an exponent.
fn fraction(text: &str) -> Option<Number> {
    let number: f64 = text.parse().ok()?;
    let plain = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    if !text.chars().all(plain) || !number.is_finite() {
        return None;
    }
    // JSON knows one kind of number: a whole one is written without a point.
    let whole = format!("{number:.0}");
    match whole.parse::<i64>() {
        Ok(found) if number.fract() == 0.0 && whole.len() <= 15 => Some(Number::from(found)),
        Ok(_) | Err(_) => Number::from_f64(number),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_words_mean_what_kubectl_reads() {
        for (text, value) in [
            ("8080", json!(8080)),
            ("\"8080\"", json!("8080")),
            ("on", json!(true)),
            ("'on'", json!("on")),
            ("No", json!(false)),
            ("0644", json!(420)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("089", json!(89)),
            ("1_000", json!(1000)),
            ("-12", json!(-12)),
            ("1e3", json!(1000)),
            ("0.5", json!(0.5)),
            ("1.10", json!(1.1)),
            ("1.2.3", json!("1.2.3")),
            ("10m", json!("10m")),
            ("2026-11-25", json!("2026-11-25")),
            ("12:30:45", json!("12:30:45")),
            ("+-5", json!("+-5")),
            ("-", json!([null])),
            ("!!str 5", json!("5")),
            ("! 5", json!("5")),
            ("~", json!(null)),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(read(text).unwrap(), Some(value), "{text}");
        }
    }

    #[test]
    fn anchors_and_merges_are_expanded_within_bounds() {
        let text = "base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}\nlist: [*base]\n";
        let expected = json!({"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}, "list": [{"a": 1, "b": 2}]});
        assert_eq!(read(text).unwrap(), Some(expected));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(read(&bomb).unwrap_err().1.contains("nodes"));
        assert!(read(&"[".repeat(200)).unwrap_err().1.contains("deep"));
    }

    #[test]
    fn slips_are_named_with_their_line() {
        assert_eq!(
            read("a: 1\nb: 2\na: 3\n").unwrap_err(),
            (3, "the key \"a\" stands twice in one mapping".to_owned())
        );
        assert_eq!(read("a: 1\n b: 2\n").unwrap_err().0, 2);
        assert!(read("a: !secret b\n").is_err());
        assert_eq!(read("# nothing\n\n---\n# here\n").unwrap(), None);
    }
}
