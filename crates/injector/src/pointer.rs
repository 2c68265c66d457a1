//! JSON Pointers (RFC 6901), as far as additions need them.
//!
//! Called by `patch.rs`, and by `manifest.rs` to carry a patch out on a file. It must never remove anything.

use serde_json::Value;

use crate::verdict::Addition;

/// One name of a pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn plain(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// Carries `additions` out on `target`; `None` if one has no place there, which our own patches always have.
#[must_use]
pub fn apply(target: &mut Value, additions: &[Addition]) -> Option<()> {
    for Addition { path, value } in additions {
        let (parent, last) = path.rsplit_once('/')?;
        match target.pointer_mut(parent)? {
            Value::Object(members) => {
                members.insert(plain(last), value.clone());
            }
            Value::Array(entries) => {
                let index = if last == "-" { entries.len() } else { last.parse().ok()? };
                if index > entries.len() {
                    return None;
                }
                entries.insert(index, value.clone());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        }
    }
    Some(())
}
