//! One AdmissionReview in, one out (`admission.k8s.io/v1`, frozen).
//!
//! Called by `server.rs` with a whole body. Pure. It must never let a review pass that it did not understand: what is
//! no review is an error, and the API server then refuses the pod.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::configuration::Configuration;
use crate::patch::{Facts, judge};
use crate::values::{MOST_VALUES, are_few};
use crate::verdict::{Reason, Skip, Verdict};

/// Kubernetes shows no more of a warning.
const LONGEST_WARNING: usize = 256;
/// Of names and ids, as Kubernetes has it: what the log tells of a review is no longer.
const LONGEST_NAME: usize = 253;
/// Whoever asks may not read: an answer of usual pods has 20 KiB at most, and each connection may hold one.
const ANSWER_KIB: usize = 512;

/// An answer, and what the log tells of it.
#[derive(Debug)]
pub struct Reviewed {
    /// The whole review.
    pub body: Vec<u8>,
    /// What became of the pod.
    pub verdict: Verdict,
    /// Where it was to be created.
    pub namespace: String,
    /// Its name, or what its name is made from.
    pub name: String,
    /// The request's id, as in the API server's audit.
    pub uid: String,
    /// Nothing will be created.
    pub dry_run: bool,
}

/// Answers a review; an error says why it is none.
pub fn review(body: &[u8], configuration: &Configuration) -> Result<Reviewed, String> {
    if !are_few(body) {
        return Err(format!("the body has more than {MOST_VALUES} values, which no pod needs"));
    }
    let review: Value = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let text = |path: &str| review.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/kind") != "AdmissionReview" || text("/apiVersion") != "admission.k8s.io/v1" {
        return Err(
            "the body is no AdmissionReview of admission.k8s.io/v1; set admissionReviewVersions: [v1]".to_owned()
        );
    }
    let uid = text("/request/uid");
    if uid.is_empty() {
        return Err("the review has no request with a uid".to_owned());
    }
    if uid.len() > LONGEST_NAME {
        return Err(format!("the uid is longer than {LONGEST_NAME} letters"));
    }
    let namespace = text("/request/namespace");
    let verdict = match creates_pod(&review) {
        false => Verdict::Skipped(Skip::NotAPod),
        true => {
            let pod = review.pointer("/request/object").unwrap_or(&Value::Null);
            judge(pod, Facts { namespace: Some(namespace) }, configuration)
        }
    };
    let name =
        [text("/request/name"), text("/request/object/metadata/name"), text("/request/object/metadata/generateName")];
    let cut = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>();
    let (verdict, body) = bounded(uid, verdict);
    Ok(Reviewed {
        body,
        namespace: cut(namespace),
        name: cut(name.into_iter().find(|name| !name.is_empty()).unwrap_or_default()),
        uid: uid.to_owned(),
        dry_run: review.pointer("/request/dryRun") == Some(&Value::Bool(true)),
        verdict,
    })
}

/// The answer; a refusal where it would be too large.
fn bounded(uid: &str, verdict: Verdict) -> (Verdict, Vec<u8>) {
    let body = answer(uid, &verdict).to_string().into_bytes();
    if body.len() <= ANSWER_KIB * 1024 {
        return (verdict, body);
    }
    let refused = Verdict::Refused(Reason::Malformed.because(format!(
        "the pod's probes are so long that the answer would have more than {ANSWER_KIB} KiB; shorten them"
    )));
    let body = answer(uid, &refused).to_string().into_bytes();
    (refused, body)
}

fn creates_pod(review: &Value) -> bool {
    let is = |path: &str, wanted: &str| review.pointer(path).and_then(Value::as_str).unwrap_or_default() == wanted;
    is("/request/operation", "CREATE")
        && is("/request/resource/group", "")
        && is("/request/resource/version", "v1")
        && is("/request/resource/resource", "pods")
        && is("/request/subResource", "")
}

fn answer(uid: &str, verdict: &Verdict) -> Value {
    let mut response = json!({"uid": uid, "allowed": !matches!(verdict, Verdict::Refused(_))});
    let mut set = |name: &str, value: Value| {
        response.as_object_mut().map(|response| response.insert(name.to_owned(), value));
    };
    match verdict {
        Verdict::Skipped(_) => {}
        Verdict::Refused(refusal) => {
            set("status", json!({"code": 403, "reason": "Forbidden", "message": refusal.sentence}));
        }
        Verdict::Injected(injection) => {
            let patch: Value = injection.additions.iter().map(crate::Addition::to_json).collect();
            set("patchType", json!("JSONPatch"));
            set("patch", json!(STANDARD.encode(patch.to_string())));
            if !injection.warnings.is_empty() {
                let cut = |warning: &String| warning.chars().take(LONGEST_WARNING).collect::<String>();
                set("warnings", injection.warnings.iter().map(cut).collect());
            }
        }
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
