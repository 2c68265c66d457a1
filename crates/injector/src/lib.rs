//! The Kubernetes side: which pods get the sidecar, and how.
//!
//! `portcullis webhook` serves [`Webhook`] to an API server, `portcullis inject` runs [`filter`] over files; both judge
//! a pod by [`judge`]. No API client, no rights in the cluster: everything is decided from the pod and the
//! configuration. It must never round-trip a pod through a type of its own, since fields it did not know would be lost.

mod body;
mod certificate;
mod configuration;
mod documents;
mod installed;
mod keys;
mod manifest;
mod metrics;
mod observe;
mod patch;
mod pointer;
mod probes;
mod resources;
mod review;
mod room;
mod server;
mod serving;
mod sidecar;
mod values;
mod verdict;
mod wish;
mod yaml_read;
mod yaml_write;

pub use configuration::{Configuration, FlagJudge};
pub use documents::{Filtered, filter};
pub use keys::{INJECT_LABEL, KEYS, PREFIX, STATUS};
pub use manifest::{Mode, Outcome, Report};
pub use metrics::Metrics;
pub use observe::Observe;
pub use patch::{Facts, judge};
pub use pointer::apply;
pub use review::{Reviewed, review};
pub use server::Webhook;
pub use serving::Serving;
pub use sidecar::SIDECAR;
pub use verdict::{Addition, Injection, Reason, Refusal, Skip, Verdict};

/// Reads one YAML or JSON document, as `--defaults` names one; an error completes "--defaults FILE: ".
pub fn read_document(text: &str) -> Result<serde_json::Value, String> {
    let read = yaml_read::read(text).map_err(|(line, why)| format!("line {line}: {why}"))?;
    Ok(read.unwrap_or(serde_json::Value::Null))
}
