//! The flags of `webhook` and `inject`, and what both make of them.
//!
//! Part of `args.rs`; used by `webhook.rs` and `inject.rs`. They have no twins in the environment: those are the
//! sidecar's, and a container that runs the webhook may have them set for another reason. It must never judge a pod:
//! that is `injector`'s part.

use std::path::{Path, PathBuf};

use injector::Configuration;
use proxy::Limits;

use crate::Failure;
use crate::args::Flags;
use crate::resolve::Reader;

/// Bytes of the defaults: a few dozen lines.
const DEFAULTS_BYTES: u64 = 1 << 20;

/// What the sidecar shall be, for both.
#[derive(clap::Args, Default)]
pub(crate) struct SidecarFlags {
    /// The sidecar's image; before image in --defaults
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// YAML or JSON: what pods get that do not say otherwise; keys are the annotations without portcullis.dev/
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
}

/// What `inject` shall do.
#[derive(clap::Args)]
pub(crate) struct InjectWish {
    /// YAML or JSON with Kubernetes objects (repeatable); - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE|-", required = true)]
    pub(crate) file: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) sidecar: SidecarFlags,
    /// Take the sidecar out
    #[arg(long)]
    pub(crate) uninject: bool,
}

/// What `webhook` shall do.
#[derive(clap::Args)]
pub(crate) struct WebhookWish {
    /// Where the API server asks, by TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9443")]
    pub(crate) listen: String,
    /// Its certificate chain, PEM, leaf first; watched
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// The private key of --cert, PEM; watched
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) sidecar: SidecarFlags,
    /// Plaintext address of /metrics, /livez and /readyz
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464")]
    pub(crate) observe: String,
    /// How log lines on standard output look [default: text at a terminal, else json]
    #[arg(long, value_name = "text|json")]
    pub(crate) log_format: Option<String>,
    /// The least important lines that are written [default: info]
    #[arg(long, value_name = "error|warn|info|debug|trace")]
    pub(crate) log_level: Option<String>,
}

impl SidecarFlags {
    /// Reads `--defaults`, and checks everything that can be without a pod.
    pub(crate) fn configuration(&self) -> Result<Configuration, Failure> {
        let read = self.defaults.as_deref().map(document).transpose()?;
        let defaults = read.as_ref().map(|(name, document)| (name.as_str(), document));
        Configuration::new(self.image.as_deref(), defaults, judge).map_err(Failure::AtStart)
    }
}

fn document(path: &Path) -> Result<(String, serde_json::Value), Failure> {
    let wrong = |why: String| Failure::AtStart(format!("--defaults {}: {why}", path.display()));
    let text = text(path, DEFAULTS_BYTES).map_err(wrong)?;
    let document = injector::read_document(&text).map_err(wrong)?;
    Ok((path.display().to_string(), document))
}

/// Reads a file of UTF-8; an error completes "… FILE: ".
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("it cannot be read ({error}); correct the path"))?;
    read(file, limit)
}

/// Reads UTF-8 to its end.
pub(crate) fn read(source: impl std::io::Read, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut limited = source.take(limit.saturating_add(1));
    std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(|error| format!("it cannot be read ({error})"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(format!("it is larger than {limit} bytes, which is the limit; name the right file, or split it"));
    }
    String::from_utf8(bytes).map_err(|_| "it is no UTF-8; name a text".to_owned())
}

/// As `run` judges the flag of this id.
fn judge(id: &str, value: &str) -> Result<(), String> {
    let text = Some(value.to_owned());
    let mut flags = Flags::default();
    match id {
        "max_session_age" => flags.max_session_age = text,
        "drain" => flags.stop.drain = text,
        "stale" => flags.revocation.stale = text,
        "log_level" => flags.log_level = text,
        other => return Err(format!("the sidecar has no flag {other}")),
    }
    let reader = Reader(&flags);
    let judged = match id {
        "max_session_age" => reader.span(id, flags.max_session_age.as_ref()).map(drop),
        "drain" => reader.with_ends(Limits::default()).map(drop),
        "stale" => reader.stale().map(drop),
        _ => reader.log_level().map(drop),
    };
    // The sentence begins with the flag and its value, which whoever annotates a pod did not write.
    let opening = format!("{} {value:?}", reader.name(id));
    judged.map_err(|why| why.strip_prefix(&opening).unwrap_or(&why).trim_start_matches([':', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_judged_as_the_flags_of_run() {
        for (id, good, bad) in [
            ("max_session_age", "1h30m", "90"),
            ("drain", "0s", "-1s"),
            ("stale", "grace=10m", "grace"),
            ("log_level", "debug", "loud"),
        ] {
            assert_eq!(judge(id, good), Ok(()));
            let why = judge(id, bad).err().unwrap_or_default();
            assert!(!why.is_empty() && !why.contains("--"), "{id}: {why}");
        }
        assert!(judge("inbound", "x").is_err());
    }
}
