//! The flags of `run` and `check` about planned ends, of sessions and of the process: as text, and to settings.
//!
//! Part of `args.rs` and `resolve.rs`. Every refusal is one sentence that names the flag, or its twin in the
//! environment, and the remedy.

use std::collections::HashSet;
use std::time::Duration;

use proxy::Limits;

use crate::duration;
use crate::resolve::Reader;

/// Kubernetes tells the endpoints' readers that a pod ends while it ends: for some seconds more they send new
/// connections. Five are what Istio waits by default; with `--stop-timeout` half of the usual 30 s of grace is left.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The flags, as text.
#[derive(clap::Args, Default)]
pub(crate) struct StopFlags {
    /// How long before a session's planned end (notAfter, --max-session-age, --max-certificate-age) its client is
    /// asked to leave, each session at a moment of its own; 0s: never [default: 30s]
    #[arg(long, env = "PORTCULLIS_DRAIN", value_name = "DUR", hide_env_values = true)]
    pub(crate) drain: Option<String>,
    /// After SIGTERM, how long new connections are still served while /readyz says no [default: 5s]
    #[arg(long, env = "PORTCULLIS_DRAIN_DELAY", value_name = "DUR", hide_env_values = true)]
    pub(crate) drain_delay: Option<String>,
    /// After that, how long sessions have to end; those that are left are cut off [default: 10s]
    #[arg(long, env = "PORTCULLIS_STOP_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) stop_timeout: Option<String>,
}

impl StopFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        for (id, value) in [
            ("drain", &mut self.drain),
            ("drain_delay", &mut self.drain_delay),
            ("stop_timeout", &mut self.stop_timeout),
        ] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
    }
}

impl Reader<'_> {
    /// From the signal to the end of new connections.
    pub(crate) fn drain_delay(&self) -> Result<Duration, String> {
        self.span_or_none("drain_delay", self.0.stop.drain_delay.as_ref(), DRAIN_DELAY)
    }

    /// These limits, with what the flags say about ends.
    pub(crate) fn with_ends(&self, limits: Limits) -> Result<Limits, String> {
        Ok(Limits {
            drain: self.span_or_none("drain", self.0.stop.drain.as_ref(), limits.drain)?,
            stop: self.span_or_none("stop_timeout", self.0.stop.stop_timeout.as_ref(), limits.stop)?,
            ..limits
        })
    }

    /// A duration that may be zero.
    fn span_or_none(&self, id: &str, text: Option<&String>, default: Duration) -> Result<Duration, String> {
        let Some(text) = text else { return Ok(default) };
        duration::parse_or_none(text).map_err(|why| format!("{} {text:?}: {why}", self.name(id)))
    }
}
