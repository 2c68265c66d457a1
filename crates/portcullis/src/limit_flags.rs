//! The flags of `run` and `check` about limits: as text, from text to settings, and back to words.
//!
//! Part of `args.rs` and `resolve.rs`. Every refusal is one sentence that names the flag, or its twin in the
//! environment, and the remedy. Where a default comes from stands at `proxy::Limits`.

use std::collections::HashSet;
use std::time::Duration;

use proxy::Limits;

use crate::duration;
use crate::resolve::Reader;
use crate::revocation_flags::bytes;

/// One identity may have one in so many of all connections, unless it is told otherwise.
const IDENTITIES: usize = 10;
/// More connections or requests than this are a slip of the keyboard: no kernel gives one process as many descriptors.
const MOST: usize = 10_000_000;
/// RFC 9113 §6.5.2 lets a client open 2^31 - 1 streams.
const MOST_STREAMS: usize = (1 << 31) - 1;
/// hyper reads into no less than 8 KiB; a head larger than 1 MiB is refused by every app we know.
const HEADS: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;
/// http's map of headers holds no more than 32,768 entries.
const MOST_FIELDS: usize = 32_768;

/// The flags, as text.
#[derive(clap::Args, Default)]
pub(crate) struct LimitFlags {
    /// Connections of clients at once; those beyond it are refused [default: 10000]
    #[arg(long, env = "PORTCULLIS_MAX_CONNECTIONS", value_name = "N", hide_env_values = true)]
    pub(crate) max_connections: Option<String>,
    /// Connections of one identity at once; those beyond it are refused [default: a tenth of --max-connections]
    #[arg(long, env = "PORTCULLIS_MAX_CONNECTIONS_PER_IDENTITY", value_name = "N", hide_env_values = true)]
    pub(crate) max_connections_per_identity: Option<String>,
    /// Handshakes under way at once; for one more, the one that has been silent for longest ends [default: 1000]
    #[arg(long, env = "PORTCULLIS_MAX_HANDSHAKES", value_name = "N", hide_env_values = true)]
    pub(crate) max_handshakes: Option<String>,
    /// A handshake ends after this [default: 10s]
    #[arg(long, env = "PORTCULLIS_HANDSHAKE_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) handshake_timeout: Option<String>,
    /// A larger request head is refused [default: 64KiB]
    #[arg(long, env = "PORTCULLIS_MAX_HEADER_BYTES", value_name = "N[KiB|MiB]", hide_env_values = true)]
    pub(crate) max_header_bytes: Option<String>,
    /// A request with more header fields is refused [default: 100]
    #[arg(long, env = "PORTCULLIS_MAX_HEADER_COUNT", value_name = "N", hide_env_values = true)]
    pub(crate) max_header_count: Option<String>,
    /// A request head that began and is not whole after this ends its connection [default: 30s]
    #[arg(long, env = "PORTCULLIS_REQUEST_HEAD_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) request_head_timeout: Option<String>,
    /// How long the next byte of a request's body may take before the app answers or once it has in full, and how long
    /// a client may take none of an answer; not for gRPC and tunnels [default: 60s]
    #[arg(long, env = "PORTCULLIS_BODY_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) body_timeout: Option<String>,
    /// Concurrent streams of one HTTP/2 connection [default: 100]
    #[arg(long, env = "PORTCULLIS_MAX_STREAMS", value_name = "N", hide_env_values = true)]
    pub(crate) max_streams: Option<String>,
    /// Requests of one session that have not ended, streams that were reset included [default: --max-streams]
    #[arg(long, env = "PORTCULLIS_MAX_REQUESTS_PER_SESSION", value_name = "N", hide_env_values = true)]
    pub(crate) max_requests_per_session: Option<String>,
    /// Connections to the apps at once; requests that would need one more get 503 [default: 9000]
    #[arg(long, env = "PORTCULLIS_MAX_APP_CONNECTIONS", value_name = "N", hide_env_values = true)]
    pub(crate) max_app_connections: Option<String>,
    /// How long the app may take from the whole request to the head of its answer [default: 60s]
    #[arg(long, env = "PORTCULLIS_APP_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) app_timeout: Option<String>,
}

impl LimitFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        for (id, value) in [
            ("max_connections", &mut self.max_connections),
            ("max_connections_per_identity", &mut self.max_connections_per_identity),
            ("max_handshakes", &mut self.max_handshakes),
            ("handshake_timeout", &mut self.handshake_timeout),
            ("max_header_bytes", &mut self.max_header_bytes),
            ("max_header_count", &mut self.max_header_count),
            ("request_head_timeout", &mut self.request_head_timeout),
            ("body_timeout", &mut self.body_timeout),
            ("max_streams", &mut self.max_streams),
            ("max_requests_per_session", &mut self.max_requests_per_session),
            ("max_app_connections", &mut self.max_app_connections),
            ("app_timeout", &mut self.app_timeout),
        ] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
    }
}

impl Reader<'_> {
    pub(crate) fn limits(&self) -> Result<Limits, String> {
        let (flags, default) = (&self.0.limits, Limits::default());
        let connections = self.count("max_connections", flags.max_connections.as_ref(), MOST)?;
        let connections = connections.unwrap_or(default.connections);
        let identity =
            self.count("max_connections_per_identity", flags.max_connections_per_identity.as_ref(), connections)?;
        let streams = self.count("max_streams", flags.max_streams.as_ref(), MOST_STREAMS)?;
        let streams = streams.map_or(default.streams, narrow);
        let requests = self.count("max_requests_per_session", flags.max_requests_per_session.as_ref(), MOST)?;
        let handshakes = self.count("max_handshakes", flags.max_handshakes.as_ref(), MOST)?;
        let fields = self.count("max_header_count", flags.max_header_count.as_ref(), MOST_FIELDS)?;
        let app_connections = self.count("max_app_connections", flags.max_app_connections.as_ref(), MOST)?;
        let span =
            |id, text: &Option<String>, default| Ok::<_, String>(self.span(id, text.as_ref())?.unwrap_or(default));
        Ok(Limits {
            connections,
            connections_per_identity: identity.unwrap_or((connections / IDENTITIES).max(1)),
            handshakes: handshakes.unwrap_or(default.handshakes),
            handshake: span("handshake_timeout", &flags.handshake_timeout, default.handshake)?,
            header_bytes: self.header_bytes()?.unwrap_or(default.header_bytes),
            header_count: fields.unwrap_or(default.header_count),
            request_head: span("request_head_timeout", &flags.request_head_timeout, default.request_head)?,
            body: span("body_timeout", &flags.body_timeout, default.body)?,
            streams,
            requests_per_session: requests.map_or(streams, narrow),
            app_connections: app_connections.unwrap_or(default.app_connections),
            app_response: span("app_timeout", &flags.app_timeout, default.app_response)?,
            ..default
        })
    }

    fn count(&self, id: &str, text: Option<&String>, most: usize) -> Result<Option<usize>, String> {
        let Some(text) = text else { return Ok(None) };
        // `parse` would take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(count) if digits && (1..=most).contains(&count) => Ok(Some(count)),
            Ok(_) | Err(_) => Err(format!("{} {text:?}: write a whole number from 1 to {most}", self.name(id))),
        }
    }

    fn header_bytes(&self) -> Result<Option<usize>, String> {
        let Some(text) = &self.0.limits.max_header_bytes else { return Ok(None) };
        match bytes(text).filter(|bytes| HEADS.contains(bytes)).and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(format!(
                "{} {text:?}: write a number of bytes, or one of KiB or MiB, from 8KiB to 1MiB",
                self.name("max_header_bytes")
            )),
        }
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Every limit that has a flag, by its flag's name without the dashes, as the flag spells it.
pub(crate) fn described(limits: &Limits) -> [(&'static str, String); 12] {
    let span = |duration: Duration| duration::written(duration);
    [
        ("max-connections", limits.connections.to_string()),
        ("max-connections-per-identity", limits.connections_per_identity.to_string()),
        ("max-handshakes", limits.handshakes.to_string()),
        ("handshake-timeout", span(limits.handshake)),
        ("max-header-bytes", limits.header_bytes.to_string()),
        ("max-header-count", limits.header_count.to_string()),
        ("request-head-timeout", span(limits.request_head)),
        ("body-timeout", span(limits.body)),
        ("max-streams", limits.streams.to_string()),
        ("max-requests-per-session", limits.requests_per_session.to_string()),
        ("max-app-connections", limits.app_connections.to_string()),
        ("app-timeout", span(limits.app_response)),
    ]
}

/// The same on one line.
pub(crate) fn written(limits: &Limits) -> String {
    described(limits).map(|(name, value)| format!("{name}={value}")).join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Flags;

    fn read(change: impl FnOnce(&mut LimitFlags)) -> Result<Limits, String> {
        let mut flags = Flags::default();
        change(&mut flags.limits);
        Reader(&flags).limits()
    }

    #[test]
    fn without_flags_the_limits_are_the_traffics_own() {
        assert_eq!(written(&read(|_| {}).unwrap()), written(&Limits::default()));
        assert!(written(&Limits::default()).contains("max-connections=10000 max-connections-per-identity=1000"));
    }

    #[test]
    fn one_limit_follows_another_until_it_is_given() {
        let limits = read(|flags| flags.max_connections = Some("25".to_owned())).unwrap();
        assert_eq!((limits.connections, limits.connections_per_identity), (25, 2));
        assert_eq!(read(|flags| flags.max_connections = Some("5".to_owned())).unwrap().connections_per_identity, 1);
        let limits = read(|flags| flags.max_streams = Some("7".to_owned())).unwrap();
        assert_eq!((limits.streams, limits.requests_per_session), (7, 7));
        let limits = read(|flags| flags.max_requests_per_session = Some("7".to_owned())).unwrap();
        assert_eq!((limits.streams, limits.requests_per_session), (100, 7));
    }

    #[test]
    fn every_slip_is_one_sentence_that_names_its_flag() {
        let identities = |text: &str| read(|flags| flags.max_connections_per_identity = Some(text.to_owned()));
        let heads = |text: &str| read(|flags| flags.max_header_bytes = Some(text.to_owned()));
        for text in ["", "0", "-1", "+1", "1.5", "many", "10001", "99999999999999999999999"] {
            let sentence = identities(text).unwrap_err();
            assert!(
                sentence.starts_with("--max-connections-per-identity ") && sentence.contains("10000"),
                "{sentence}"
            );
        }
        for text in ["", "8191", "1GiB", "64kB"] {
            assert!(heads(text).unwrap_err().starts_with("--max-header-bytes "), "{text}");
        }
        for (text, expected) in [("8KiB", 8192), ("65536", 65_536), ("1MiB", 1 << 20)] {
            assert_eq!(heads(text).unwrap().header_bytes, expected);
        }
        let timeout = read(|flags| flags.body_timeout = Some("60".to_owned())).unwrap_err();
        assert!(timeout.starts_with("--body-timeout "), "{timeout}");
    }
}
