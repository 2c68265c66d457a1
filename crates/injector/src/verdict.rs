//! What becomes of one pod, with the closed lists of reasons that the metrics and the log use.
//!
//! Made by `patch.rs` and `review.rs`. Pure values: it must never hold anything of the pod but what a sentence names.

use serde_json::{Value, json};

/// Letters of a sentence: names are at most 253, and there are few in each.
const LONGEST: usize = 1200;

/// What becomes of one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It gets the sidecar.
    Injected(Injection),
    /// It stays as it is, and comes up.
    Skipped(Skip),
    /// It must not come up.
    Refused(Refusal),
}

/// How a pod gets its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// In order; each adds, or sets a member that is there (RFC 6902 §4.1), and none removes.
    pub additions: Vec<Addition>,
    /// One sentence each: what works, and deserves a look.
    pub warnings: Vec<String>,
}

/// One `add` of a JSON Patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// A JSON Pointer (RFC 6901).
    pub path: String,
    /// What is added.
    pub value: Value,
}

impl Addition {
    /// As RFC 6902 spells it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"op": "add", "path": self.path, "value": self.value})
    }
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// No annotation and no default names an app port.
    NoAppPort,
    /// Its label says so.
    OptedOut,
    /// It holds exactly the sidecar that it would get.
    AlreadyInjected,
    /// It has no network of its own.
    HostNetwork,
    /// In a namespace of the cluster itself.
    SystemNamespace,
    /// The kubelet's image of a static pod, which cannot be changed.
    MirrorPod,
    /// For Windows; the image is for Linux.
    Windows,
    /// Not the creation of a pod.
    NotAPod,
}

impl Skip {
    /// Every skip.
    pub(crate) const ALL: [Skip; 8] = [
        Skip::NoAppPort,
        Skip::OptedOut,
        Skip::AlreadyInjected,
        Skip::HostNetwork,
        Skip::SystemNamespace,
        Skip::MirrorPod,
        Skip::Windows,
        Skip::NotAPod,
    ];

    /// The word of metrics and log lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Skip::NoAppPort => "no_app_port",
            Skip::OptedOut => "opted_out",
            Skip::AlreadyInjected => "already_injected",
            Skip::HostNetwork => "host_network",
            Skip::SystemNamespace => "system_namespace",
            Skip::MirrorPod => "mirror_pod",
            Skip::Windows => "windows",
            Skip::NotAPod => "not_a_pod",
        }
    }

    /// For people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Skip::NoAppPort => {
                "no annotation portcullis.dev/app-port names the port that the app listens on; set it on the pod \
                 (in a workload: on its template), like \"8080\""
            }
            Skip::OptedOut => "the label portcullis.dev/inject: disabled is set",
            Skip::AlreadyInjected => "the sidecar is there already, as it would be injected",
            Skip::HostNetwork => {
                "hostNetwork is true: the pod has no network of its own that a sidecar could guard; give it one, or \
                 run portcullis on the node"
            }
            Skip::SystemNamespace => "it is in a namespace of the cluster itself",
            Skip::MirrorPod => "it is the image of a static pod, which only its node can change",
            Skip::Windows => "it is for Windows, and the sidecar's image is for Linux",
            Skip::NotAPod => "it is not the creation of a pod",
        }
    }
}

/// Why a pod must not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From the closed list.
    pub reason: Reason,
    /// What is wrong and what to do, in one sentence.
    pub sentence: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An annotation under our prefix that nobody knows.
    UnknownAnnotation,
    /// An annotation's value, or two that contradict each other.
    BadAnnotation,
    /// Something that the sidecar needs, and neither annotations nor defaults say.
    MissingSetting,
    /// A container of the sidecar's name that is not the sidecar.
    SidecarDiffers,
    /// A container listens where the sidecar must.
    PortTaken,
    /// A volume or container has a name of ours.
    NameTaken,
    /// Not the shape of a pod, or of a review.
    Malformed,
}

impl Reason {
    /// Every reason.
    pub(crate) const ALL: [Reason; 7] = [
        Reason::UnknownAnnotation,
        Reason::BadAnnotation,
        Reason::MissingSetting,
        Reason::SidecarDiffers,
        Reason::PortTaken,
        Reason::NameTaken,
        Reason::Malformed,
    ];

    /// The word of metrics and log lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reason::UnknownAnnotation => "unknown_annotation",
            Reason::BadAnnotation => "bad_annotation",
            Reason::MissingSetting => "missing_setting",
            Reason::SidecarDiffers => "sidecar_differs",
            Reason::PortTaken => "port_taken",
            Reason::NameTaken => "name_taken",
            Reason::Malformed => "malformed",
        }
    }

    /// With its sentence, which stays one line whatever the pod's names hold.
    pub(crate) fn because(self, sentence: impl Into<String>) -> Refusal {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        Refusal { reason: self, sentence: sentence.into().chars().take(LONGEST).map(plain).collect() }
    }
}
