//! One probe as Kubernetes writes it, read and checked.
//!
//! Made by `app_probes.rs` from the flag's JSON, at start. It must never let something pass that could not be run as
//! kubelet would: what it does not know it refuses.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Kubernetes' own default.
const DEFAULT_TIMEOUT: i64 = 1;
/// Beyond an hour nobody waits for a probe.
const LONGEST_TIMEOUT: i64 = 3600;
/// Apps know kubelet's probes by the beginning of this.
const AGENT: &str = concat!("kube-probe/portcullis-", env!("CARGO_PKG_VERSION"));

/// What to ask, and for how long.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) ask: Ask,
    pub(crate) within: Duration,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Http(HttpGet),
    Tcp(Target),
    /// The name of the service may be empty: the server as a whole.
    Grpc(Target, String),
}

/// Where; without a host: in this pod.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

#[derive(Debug)]
pub(crate) struct HttpGet {
    pub(crate) target: Target,
    pub(crate) tls: bool,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    http_get: Option<WrittenGet>,
    tcp_socket: Option<WrittenTarget>,
    grpc: Option<WrittenGrpc>,
    timeout_seconds: Option<i64>,
    // Kubelet's own part, which stays with the probe that asks here.
    #[serde(rename = "initialDelaySeconds")]
    _delay: Option<IgnoredAny>,
    #[serde(rename = "periodSeconds")]
    _period: Option<IgnoredAny>,
    #[serde(rename = "successThreshold")]
    _successes: Option<IgnoredAny>,
    #[serde(rename = "failureThreshold")]
    _failures: Option<IgnoredAny>,
    #[serde(rename = "terminationGracePeriodSeconds")]
    _grace: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenGet {
    path: Option<String>,
    port: u16,
    host: Option<String>,
    scheme: Option<String>,
    http_headers: Option<Vec<WrittenHeader>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHeader {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTarget {
    port: u16,
    host: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrpc {
    port: u16,
    service: Option<String>,
}

impl Probe {
    /// Reads one; the error completes "the probe …: ". The app sees the pod's address as its host, as from kubelet.
    pub(crate) fn read(object: serde_json::Value, pod: Option<IpAddr>) -> Result<Probe, String> {
        let written: Written = serde_json::from_value(object).map_err(|error| {
            format!("{error}; write Kubernetes' httpGet, tcpSocket or grpc object with the port as a number, and timeoutSeconds")
        })?;
        let seconds = written.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        let within = match u64::try_from(seconds) {
            Ok(seconds) if (1..=LONGEST_TIMEOUT).contains(&seconds.cast_signed()) => Duration::from_secs(seconds),
            Ok(_) | Err(_) => return Err(format!("timeoutSeconds {seconds} is none; write 1 to {LONGEST_TIMEOUT}")),
        };
        let ask = match (written.http_get, written.tcp_socket, written.grpc) {
            (Some(get), None, None) => Ask::Http(get.read(pod)?),
            (None, Some(socket), None) => Ask::Tcp(target(socket.host, socket.port)?),
            (None, None, Some(grpc)) => Ask::Grpc(target(None, grpc.port)?, grpc.service.unwrap_or_default()),
            (_, _, _) => return Err("it has to have one of httpGet, tcpSocket and grpc; write exactly one".to_owned()),
        };
        Ok(Probe { ask, within })
    }
}

fn target(host: Option<String>, port: u16) -> Result<Target, String> {
    if port == 0 {
        return Err("port 0 is none; write 1 to 65535".to_owned());
    }
    let host = host.filter(|host| !host.is_empty());
    if let Some(host) = &host
        && host.parse::<IpAddr>().is_err()
        && (host.contains([':', '@']) || host.parse::<Authority>().is_err())
    {
        return Err(format!("the host {host:?} is none; write a name or an IP address, or leave it out"));
    }
    Ok(Target { host, port })
}

impl Target {
    /// Host and port as a URL has them.
    pub(crate) fn authority(&self, pod: Option<IpAddr>) -> String {
        let host = self.host.clone().or_else(|| pod.map(|address| address.to_string()));
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl WrittenGet {
    fn read(self, pod: Option<IpAddr>) -> Result<HttpGet, String> {
        let tls = match self.scheme.as_deref() {
            None | Some("" | "HTTP") => false,
            Some("HTTPS") => true,
            Some(other) => return Err(format!("the scheme {other:?} is none; write HTTP or HTTPS")),
        };
        let target = target(self.host, self.port)?;
        let mut headers = HeaderMap::new();
        for WrittenHeader { name, value } in self.http_headers.into_iter().flatten() {
            let value = value.unwrap_or_default();
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value)) else {
                return Err(format!("the header {name:?} cannot be sent; write a name and a value of one line"));
            };
            headers.append(name, value);
        }
        // As Go's client does for kubelet: these describe how a request is carried, and are its own to say.
        for carried in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, TE, CONNECTION] {
            headers.remove(carried);
        }
        default_header(&mut headers, USER_AGENT, AGENT);
        default_header(&mut headers, ACCEPT, "*/*");
        default_header(&mut headers, HOST, &target.authority(pod));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(HttpGet { target, tls, path: path(self.path.as_deref().unwrap_or_default())?, headers })
    }
}

/// A header that kubelet adds unless the probe names it; named without a value it is left out.
fn default_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match headers.get(&name) {
        None => {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        Some(value) if value.is_empty() && name != HOST => drop(headers.remove(name)),
        Some(_) => {}
    }
}

/// Kubernetes lets a path begin without its slash and hold what a request line may not.
fn path(text: &str) -> Result<PathAndQuery, String> {
    let mut path = String::from(if text.starts_with('/') { "" } else { "/" });
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'\\' | b'^' | b'|' | ..=0x20 | 0x7f.. => {
                path.push_str(&format!("%{byte:02X}"));
            }
            _ => path.push(char::from(byte)),
        }
    }
    PathAndQuery::try_from(path).map_err(|error| format!("the path {text:?} is none ({error}); write one like /ready"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn get(object: serde_json::Value, pod: Option<IpAddr>) -> HttpGet {
        match Probe::read(serde_json::json!({ "httpGet": object }), pod).unwrap().ask {
            Ask::Http(get) => get,
            Ask::Tcp(_) | Ask::Grpc(..) => unreachable!(),
        }
    }

    #[test]
    fn paths_are_sent_as_kubelet_sends_them() {
        for (written, sent) in [
            ("", "/"),
            ("ready", "/ready"),
            ("/a?b=c", "/a?b=c"),
            ("/a b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a#b", "/a"),
        ] {
            assert_eq!(path(written).unwrap(), sent);
        }
    }

    #[test]
    fn headers_are_kept_and_those_that_frame_a_request_are_not() {
        let headers = serde_json::json!([
            { "name": "X-One", "value": "1" }, { "name": "x-one", "value": "2" }, { "name": "Content-Length", "value": "9" },
            { "name": "Accept", "value": "" }, { "name": "Connection", "value": "keep-alive" },
        ]);
        let get = get(serde_json::json!({ "port": 80, "httpHeaders": headers }), Some([10, 0, 0, 7].into()));
        assert_eq!(get.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(get.headers.get(CONTENT_LENGTH).is_none() && get.headers.get(ACCEPT).is_none());
        assert_eq!(
            (&get.headers[CONNECTION], &get.headers[HOST]),
            (&"close".parse().unwrap(), &"10.0.0.7:80".parse().unwrap())
        );
        assert!(get.headers[USER_AGENT].to_str().unwrap().starts_with("kube-probe/"));
    }

    #[test]
    fn the_host_header_of_the_probe_wins_over_its_host_and_that_over_the_pods_address() {
        let pod = Some("fd00::7".parse().unwrap());
        assert_eq!(get(serde_json::json!({ "port": 80 }), pod).headers[HOST], "[fd00::7]:80");
        assert_eq!(get(serde_json::json!({ "port": 80 }), None).headers[HOST], "127.0.0.1:80");
        assert_eq!(get(serde_json::json!({ "port": 80, "host": "app" }), pod).headers[HOST], "app:80");
        let named =
            serde_json::json!({ "port": 80, "host": "app", "httpHeaders": [{ "name": "Host", "value": "shop" }] });
        assert_eq!(get(named, pod).headers[HOST], "shop");
    }
}
