//! What the tests of this crate share: a configuration, and what a patch must leave alone.
//!
//! Included by `golden.rs` and `properties.rs`. It must never use the crate's own way to carry a patch out where it
//! judges one: that is the `json-patch` crate's part.

use injector::{Addition, Configuration};
use serde_json::{Value, json};

/// As a platform team would write it, with an image for redirect mode.
pub(crate) fn configuration() -> Configuration {
    let defaults = json!({"redirect-image": "registry.example/portcullis-redirect:1"});
    Configuration::new(Some("registry.example/portcullis:1"), Some(("defaults.yaml", &defaults)), judge).unwrap()
}

/// Stands for the flags of `run`.
fn judge(_: &str, value: &str) -> Result<(), String> {
    if value == "bad" { Err("it is bad".to_owned()) } else { Ok(()) }
}

/// What the additions make of an object, as another's implementation of RFC 6902 says.
pub(crate) fn patched(object: &Value, additions: &[Addition]) -> Value {
    let operations: Value = additions.iter().map(Addition::to_json).collect();
    patched_by(object, &operations)
}

/// The same for operations as a review carries them.
pub(crate) fn patched_by(object: &Value, operations: &Value) -> Value {
    let adds = |operation: &Value| operation["op"] == "add";
    assert!(operations.as_array().unwrap().iter().all(adds), "an operation that does not add: {operations}");
    let patch: json_patch::Patch = serde_json::from_value(operations.clone()).unwrap();
    let mut result = object.clone();
    json_patch::patch(&mut result, &patch).unwrap();
    result
}

/// Whether everything of `before` is in `after`: containers and volumes by their names, wherever they stand now, and of
/// a probe everything but how it asks.
pub(crate) fn survives(before: &Value, after: &Value) -> Result<(), String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let asks = |name: &str| ["httpGet", "tcpSocket", "grpc"].contains(&name);
            let rewritten =
                after.get("httpGet").is_some_and(|get| get["path"].as_str().unwrap_or("").starts_with("/app-probe/"));
            for (name, value) in before.iter().filter(|(name, _)| !(rewritten && asks(name))) {
                let found = after.get(name).ok_or_else(|| format!("{name} is gone"))?;
                survives(value, found).map_err(|why| format!("{name}: {why}"))?;
            }
            Ok(())
        }
        (Value::Array(before), Value::Array(after)) => {
            let named = before.iter().all(|entry| entry["name"].is_string());
            for (index, entry) in before.iter().enumerate() {
                let same = |found: &&Value| found["name"] == entry["name"];
                let found = if named { after.iter().find(same) } else { after.get(index) };
                survives(entry, found.ok_or("an entry is gone")?)?;
            }
            Ok(())
        }
        // Nothing and an empty list may be filled.
        (Value::Null, _) => Ok(()),
        (before, after) if before == after => Ok(()),
        (before, after) => Err(format!("{before} became {after}")),
    }
}
