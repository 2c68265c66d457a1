//! The annotations of a pod, and the defaults file of the same keys without the prefix.
//!
//! `wish.rs` asks for values by key. It must never let a key that nobody knows pass: a misspelt `revocations` would
//! silently mean something else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::Configuration;
use crate::verdict::{Reason, Refusal};

/// In front of every label and annotation of ours.
pub const PREFIX: &str = "portcullis.dev/";
/// The label by which namespaces and pods opt in, and pods opt out.
pub const INJECT_LABEL: &str = "portcullis.dev/inject";
/// The annotation that is set on injected pods.
pub const STATUS: &str = "portcullis.dev/status";
/// Its value.
pub(crate) const INJECTED: &str = "injected";

/// Everything that a pod or the defaults may set.
pub const KEYS: [&str; 22] = [
    "allow",
    "allow-any",
    "app-port",
    "bypass-check",
    "certificate",
    "client-ca",
    "cpu-limit",
    "cpu-request",
    "drain",
    "image",
    "log-level",
    "max-session-age",
    "memory-limit",
    "memory-request",
    "mode",
    "protocol",
    "redirect-exclude-ports",
    "revocations",
    "stale",
    "startup-timeout",
    "trust-domain",
    // Known, so that a pod that was injected before is looked at, and not refused for it.
    "status",
];
/// What only the defaults may hold: they are the platform's, not the pod's.
const ONLY_DEFAULTS: [&str; 4] = ["image-annotation", "image-pull-policy", "locked", "redirect-image"];

/// One way to say who comes in: whoever sets either key sets both.
const WHO: [&str; 2] = ["allow", "allow-any"];

/// The values for one pod.
pub(crate) struct Values<'a> {
    annotations: BTreeMap<&'a str, &'a str>,
    configuration: &'a Configuration,
}

/// A value, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    key: &'a str,
    /// On the pod; else in the defaults.
    annotated: bool,
    /// Without blanks around it.
    pub(crate) text: &'a str,
}

impl Said<'_> {
    /// A refusal of this value; `why` completes the sentence.
    pub(crate) fn refused(&self, why: impl std::fmt::Display) -> Refusal {
        let place = if self.annotated { "the annotation portcullis.dev/" } else { "the defaults' " };
        Reason::BadAnnotation.because(format!("{place}{} {:?}: {why}", self.key, self.text))
    }
}

impl<'a> Values<'a> {
    /// Of this pod's metadata.
    pub(crate) fn of(
        metadata: Option<&'a Map<String, Value>>,
        configuration: &'a Configuration,
    ) -> Result<Values<'a>, Refusal> {
        let found = match metadata.and_then(|metadata| metadata.get("annotations")) {
            None | Some(Value::Null) => None,
            Some(Value::Object(found)) => Some(found),
            Some(_) => {
                return Err(Reason::Malformed.because("metadata.annotations is no object; write names and texts"));
            }
        };
        let mut annotations = BTreeMap::new();
        for (name, value) in found.into_iter().flatten() {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let Value::String(text) = value else {
                return Err(Reason::Malformed.because(format!("the annotation {name} is no text; put it in quotes")));
            };
            allowed(key, configuration)?;
            annotations.insert(key, text.trim());
        }
        if annotations.contains_key("image") && !configuration.allows_image {
            return Err(Reason::BadAnnotation.because(
                "the annotation portcullis.dev/image is not allowed here; leave it out, or have image-annotation: \
                 allowed set in the injector's defaults",
            ));
        }
        Ok(Values { annotations, configuration })
    }

    /// The pod's value, else the default.
    pub(crate) fn find(&self, key: &'a str) -> Option<Said<'a>> {
        if let Some(text) = self.annotations.get(key) {
            return Some(Said { key, annotated: true, text });
        }
        // The pod has said who comes in: a default of the other key would contradict it.
        if WHO.contains(&key) && WHO.iter().any(|other| self.annotations.contains_key(other)) {
            return None;
        }
        let text = self.configuration.defaults.get(key)?;
        Some(Said { key, annotated: false, text: text.trim() })
    }
}

fn allowed(key: &str, configuration: &Configuration) -> Result<(), Refusal> {
    if !KEYS.contains(&key) {
        return Err(Reason::UnknownAnnotation.because(format!(
            "the annotation {PREFIX}{key} is not known; the nearest that is known is {PREFIX}{}",
            nearest(key, KEYS.iter().copied())
        )));
    }
    if configuration.locked.contains(key) {
        return Err(Reason::BadAnnotation
            .because(format!("the annotation {PREFIX}{key} is locked by the injector's defaults; leave it out")));
    }
    Ok(())
}

/// The defaults as read from a file: texts by key, and what is for the injector alone.
pub(crate) struct Defaults {
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) own: BTreeMap<String, String>,
    pub(crate) locked: BTreeSet<String>,
}

/// Reads the defaults; an error completes "--defaults FILE: ".
pub(crate) fn defaults(document: &Value) -> Result<Defaults, String> {
    let mut defaults = Defaults { texts: BTreeMap::new(), own: BTreeMap::new(), locked: BTreeSet::new() };
    let entries = match document {
        Value::Null => return Ok(defaults),
        Value::Object(entries) => entries,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err("it is no mapping; write lines like allow: \"uri:spiffe://td/ns/*\"".to_owned());
        }
    };
    for (key, value) in entries {
        let text =
            text(value).ok_or_else(|| format!("{key} must be a text, a number, true, false or a list of texts"))?;
        let known = |key: &&str| *key != "status";
        if key == "locked" {
            for word in text.split(['\n', ',']).map(str::trim).filter(|word| !word.is_empty()) {
                if !KEYS.contains(&word) {
                    let near = nearest(word, KEYS.into_iter().filter(known));
                    return Err(format!("locked names {word:?}, which is not known; did you mean {near}?"));
                }
                defaults.locked.insert(word.to_owned());
                // The one that is left open would replace the default of the one that is locked.
                if WHO.contains(&word) {
                    defaults.locked.extend(WHO.map(str::to_owned));
                }
            }
        } else if ONLY_DEFAULTS.contains(&key.as_str()) {
            defaults.own.insert(key.clone(), text);
        } else if KEYS.iter().filter(|key| known(key)).any(|known| known == key) {
            defaults.texts.insert(key.clone(), text);
        } else {
            let near = nearest(key, KEYS.into_iter().filter(known).chain(ONLY_DEFAULTS));
            return Err(format!("the key {key:?} is not known; did you mean {near}?"));
        }
    }
    Ok(defaults)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(texts) => {
            let texts: Option<Vec<String>> = texts.iter().filter(|one| !one.is_array()).map(text).collect();
            texts.map(|texts| texts.join("\n"))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// A longer word that begins so, else the one that takes the fewest changes of letters.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|candidate| (!candidate.starts_with(word), distance(word, candidate))).unwrap_or_default()
}

/// Levenshtein's distance. Keys are a few dozen letters: what is longer is cut, so that nobody buys time with it.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=one.len()).collect();
    for (line, letter) in other.chars().enumerate() {
        let mut next = vec![line + 1];
        for ((mine, corner), above) in one.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(corner + usize::from(*mine != letter)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_with_the_fewest_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("revocation", KEYS.into_iter()), "revocations");
        assert_eq!(nearest("app_port", KEYS.into_iter()), "app-port");
        assert_eq!(nearest("memory", KEYS.into_iter()), "memory-limit");
    }
}
