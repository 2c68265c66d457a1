//! What the sidecar asks of its node, and what it may use at most.
//!
//! Read by `wish.rs`. Whether a request is larger than its limit is the API server's to say.

use serde_json::{Map, Value, json};

use crate::keys::Values;
use crate::verdict::Refusal;

/// Keys, where each stands in a container, and the default. An idle sidecar needs under 10 MB, ten thousand sessions a
/// tenth of a gigabyte; no limit of CPU by default, since a throttled proxy cuts late.
const RESOURCES: [(&str, &str, &str, Option<&str>); 4] = [
    ("cpu-request", "requests", "cpu", Some("10m")),
    ("memory-request", "requests", "memory", Some("32Mi")),
    ("cpu-limit", "limits", "cpu", None),
    ("memory-limit", "limits", "memory", Some("256Mi")),
];
/// Word for "no limit", as a limit's default may have to be taken back.
const NONE: &str = "none";

/// Requests and limits, as a container spells them.
pub(crate) struct Resources(Value);

impl Resources {
    /// From annotations and defaults.
    pub(crate) fn read(values: &Values<'_>) -> Result<Resources, Refusal> {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        for (key, side, resource, default) in RESOURCES {
            let said = values.find(key);
            let text = match said {
                Some(said) if said.text == NONE => continue,
                Some(said) if is_quantity(said.text) => said.text,
                Some(said) => {
                    return Err(said.refused("it is no quantity; write one like 100m, 0.5, 64Mi or 1Gi, or none"));
                }
                None => match default {
                    Some(text) => text,
                    None => continue,
                },
            };
            let side = if side == "requests" { &mut requests } else { &mut limits };
            side.insert(resource.to_owned(), Value::String(text.to_owned()));
        }
        Ok(Resources(json!({"requests": requests, "limits": limits})))
    }

    pub(crate) fn value(&self) -> Value {
        self.0.clone()
    }
}

/// Kubernetes' quantities without signs and exponents, which nobody writes for these.
fn is_quantity(text: &str) -> bool {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let zero = number.bytes().all(|byte| byte == b'0' || byte == b'.');
    let units = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    (1..=12).contains(&digits) && number.len() - digits <= 1 && !zero && units.contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_texts() {
        assert!(["100m", "0.5", "1", "64Mi", "1Gi", "1.5Gi", "200k"].into_iter().all(is_quantity));
        assert!(!["", "0", "m", "64 Mi", "64MB", "-1", "1.2.3", "١", "1e3", "0.0"].into_iter().any(is_quantity));
    }
}
