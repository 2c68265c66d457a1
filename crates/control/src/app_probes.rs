//! The app's own probes, run on kubelet's behalf: `/app-probe/<container>/<kind>`.
//!
//! An app that listens on loopback alone is out of kubelet's reach, so its probes are pointed here, and what they were
//! comes by `--app-probes`. Asked by `lib.rs`. Whoever reaches the port may ask: it must never run anything but what
//! was configured, pass on anything of the caller's, or let callers make the app work more than a few probes a second.

mod dial;
mod grpc;
mod http_get;
mod probe;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::timeout;

use dial::Dialer;
use probe::{Ask, Probe};

/// Below this path they are asked for.
const PATH: &str = "/app-probe/";
/// An answer is everybody's for so long: kubelet asks once a second at most, a stranger who asks without end makes the
/// app answer five times in it.
const KEPT: Duration = Duration::from_millis(200);
/// Kubernetes knows three kinds.
const KINDS: [&str; 3] = ["startup", "readiness", "liveness"];

/// Every configured probe.
#[derive(Default)]
pub struct AppProbes {
    runs: BTreeMap<String, Run>,
}

/// One probe, and how it went last.
struct Run {
    name: String,
    probe: Arc<Probe>,
    dialer: Dialer,
    last: Mutex<Option<watch::Receiver<Option<Verdict>>>>,
}

/// How a probe went.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Verdict {
    status: StatusCode,
    at: Instant,
}

impl AppProbes {
    /// Reads the flag's JSON. The error is what is wrong, without the flag's name. `pod_addresses` are dialled where
    /// loopback refuses.
    pub fn parse(text: &str, pod_addresses: &[IpAddr]) -> Result<AppProbes, String> {
        let objects: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).map_err(|error| {
            format!(
                "this is no JSON object of probes ({error}); write one like \
                 {{\"app/readiness\":{{\"httpGet\":{{\"path\":\"/ready\",\"port\":8080}},\"timeoutSeconds\":2}}}}"
            )
        })?;
        let mut runs = BTreeMap::new();
        for (name, object) in objects {
            if !is_name(&name) {
                return Err(format!("the name {name:?} is none; write CONTAINER/startup, /readiness or /liveness"));
            }
            let probe = Probe::read(object, pod_addresses.first().copied())
                .map_err(|why| format!("the probe {name:?}: {why}"))?;
            let dialer = Dialer::new(pod_addresses);
            runs.insert(name.clone(), Run { name, probe: Arc::new(probe), dialer, last: Mutex::default() });
        }
        Ok(AppProbes { runs })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.keys().map(String::as_str)
    }

    /// How long the slowest may take.
    pub(crate) fn longest(&self) -> Duration {
        self.runs.values().map(|run| run.probe.within).max().unwrap_or_default()
    }

    /// Whether this path asks for a probe, be there one of that name or not.
    pub(crate) fn are_asked(path: &str) -> bool {
        path.starts_with(PATH)
    }

    /// How the probe of this path goes.
    pub(crate) async fn ask(&self, path: &str) -> StatusCode {
        let Some(run) = path.strip_prefix(PATH).and_then(|name| self.runs.get(name)) else {
            return StatusCode::NOT_FOUND;
        };
        let mut verdict = run.verdict();
        // The sender is gone without a word only if its task ended by a panic.
        let told = verdict.wait_for(Option::is_some).await.map(|verdict| *verdict);
        told.ok().flatten().map_or(StatusCode::INTERNAL_SERVER_ERROR, |verdict| verdict.status)
    }
}

/// A container's name has neither slash nor dot, so that nothing here can be confused with a path.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.split_once('/').is_some_and(|(container, kind)| {
        (1..=63).contains(&container.len()) && container.bytes().all(plain) && KINDS.contains(&kind)
    })
}

impl Run {
    /// The run under way or just ended, or a new one. It goes on if its callers leave: the next one gets its answer.
    fn verdict(&self) -> watch::Receiver<Option<Verdict>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().and_then(|receiver| *receiver.borrow());
        let under_way = last.as_ref().filter(|receiver| receiver.borrow().is_none() && receiver.has_changed().is_ok());
        let kept = last.as_ref().filter(|_| before.is_some_and(|verdict| verdict.at.elapsed() < KEPT));
        if let Some(receiver) = under_way.or(kept) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        *last = Some(receiver.clone());
        let (probe, dialer, name) = (Arc::clone(&self.probe), self.dialer.clone(), self.name.clone());
        tokio::spawn(async move {
            let status = run(&probe, &dialer, (&name, before)).await;
            sender.send_replace(Some(Verdict { status, at: Instant::now() }));
        });
        receiver
    }
}

/// Runs it once; tells in the log when its answer is another one than `before`.
async fn run(probe: &Probe, dialer: &Dialer, (name, before): (&str, Option<Verdict>)) -> StatusCode {
    let asking = async {
        match &probe.ask {
            Ask::Http(get) => http_get::ask(get, dialer).await,
            Ask::Tcp(target) => dialer.dial(target).await.map(|_| StatusCode::OK).map_err(|error| error.to_string()),
            Ask::Grpc(target, service) => grpc::ask(target, service, dialer).await,
        }
    };
    let (status, why) = match timeout(probe.within, asking).await {
        Ok(Ok(status)) => (status, String::new()),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, format!("no answer within {} s", probe.within.as_secs())),
    };
    if before.map(|verdict| verdict.status) != Some(status) {
        tracing::info!(
            event = "app_probe",
            probe = name,
            status = status.as_u16(),
            why,
            "a probe of the app answers anew"
        );
    }
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_probe_is_named_by_a_container_and_one_of_three_kinds() {
        for good in ["app/readiness", "a-1/startup", "0/liveness"] {
            assert!(is_name(good), "{good}");
        }
        let long = format!("{}/startup", "a".repeat(64));
        for bad in
            ["app", "app/", "/startup", "app/ready", "a/b/startup", "../startup", "App/startup", "a?/startup", &long]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn wrong_json_is_told_in_one_sentence_with_the_remedy() {
        for (bad, remedy) in [
            ("", "write one like"),
            ("[]", "write one like"),
            ("{\"app/readiness\"", "write one like"),
            ("{\"app\":{\"tcpSocket\":{\"port\":1}}}", "CONTAINER/startup"),
            ("{\"app/startup\":{}}", "one of httpGet, tcpSocket and grpc"),
            ("{\"app/startup\":{\"exec\":{\"command\":[\"true\"]}}}", "unknown field `exec`"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":\"http\"}}}", "port"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":0}}}", "1 to 65535"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":65536}}}", "port"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":1},\"grpc\":{\"port\":1}}}", "one of httpGet"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":1},\"timeoutSeconds\":0}}", "timeoutSeconds"),
            ("{\"app/startup\":{\"tcpSocket\":{\"port\":1},\"timeoutSeconds\":3601}}", "timeoutSeconds"),
            ("{\"app/startup\":{\"httpGet\":{\"port\":1,\"scheme\":\"FTP\"}}}", "HTTP or HTTPS"),
            (
                "{\"app/startup\":{\"httpGet\":{\"port\":1,\"httpHeaders\":[{\"name\":\"a b\",\"value\":\"\"}]}}}",
                "header",
            ),
            (
                "{\"app/startup\":{\"httpGet\":{\"port\":1,\"httpHeaders\":[{\"name\":\"a\",\"value\":\"\\n\"}]}}}",
                "header",
            ),
            ("{\"app/startup\":{\"httpGet\":{\"port\":1,\"host\":\"a b\"}}}", "host"),
        ] {
            let why = AppProbes::parse(bad, &[]).map(|_| ()).unwrap_err();
            assert!(why.contains(remedy) && !why.contains('\n'), "{bad}: {why}");
        }
    }

    #[test]
    fn what_kubernetes_writes_beside_the_request_is_no_mistake() {
        let text = r#"{"app/readiness":{"tcpSocket":{"port":1,"host":null},"periodSeconds":3,"initialDelaySeconds":1,
            "failureThreshold":2,"successThreshold":1,"terminationGracePeriodSeconds":9,"timeoutSeconds":7}}"#;
        let probes = AppProbes::parse(text, &[]).unwrap();
        assert_eq!(probes.longest(), Duration::from_secs(7));
        assert_eq!(probes.names().collect::<Vec<_>>(), ["app/readiness"]);
        assert_eq!(AppProbes::parse("{}", &[]).unwrap().names().count(), 0);
    }

    #[tokio::test]
    async fn a_hundred_who_ask_at_once_are_one_request_to_the_app_and_whoever_comes_later_is_another() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(r#"{{"a/startup":{{"httpGet":{{"port":{port}}},"timeoutSeconds":60}}}}"#);
        let probes = Arc::new(AppProbes::parse(&text, &[]).unwrap());
        let ask = || {
            let probes = Arc::clone(&probes);
            async move { probes.ask("/app-probe/a/startup").await }
        };
        let callers: Vec<_> = (0..100).map(|_| tokio::spawn(ask())).collect();
        // One thread: each of them has asked before the app answers. The first of them leaves.
        tokio::task::yield_now().await;
        callers[0].abort();
        answer(&listener, "202 Accepted").await;
        for caller in callers.into_iter().skip(1) {
            assert_eq!(caller.await.unwrap(), StatusCode::ACCEPTED);
        }
        tokio::time::sleep(KEPT).await;
        let (later, ()) = tokio::join!(ask(), answer(&listener, "204 No Content"));
        assert_eq!(later, StatusCode::NO_CONTENT);
    }

    async fn answer(listener: &tokio::net::TcpListener, status: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        testkit::raw_app::read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 {status}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
    }
}
