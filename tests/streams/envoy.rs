//! Envoy as a client's own sidecar: plain HTTP/1.1 at its front, the client's certificate and a pool of connections
//! toward the programs behind it. Retries are off: what fails is seen.
//! Started by `gentle.rs`. It must never hide a failure, nor outlive its test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::numbers::sum;
use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::tools::{command, run};

/// How Envoy speaks to the programs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pool {
    Http1,
    Http2,
}

/// The running Envoy.
pub(crate) struct Envoy {
    _child: Child,
    admin: SocketAddr,
    /// Where plain requests go in.
    pub(crate) front: SocketAddr,
}

fn binary() -> PathBuf {
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/lib");
    let pythons =
        fs::read_dir(&clients).unwrap_or_else(|error| panic!("{}: {error}; run make test", clients.display()));
    let binaries = pythons.map(|entry| entry.unwrap().path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|path| path.exists()).expect("tests/tools installs Envoy")
}

/// The client's certificate, as Envoy watches it: written again, the next connections show the new one.
pub(crate) fn show(stage: &Stage, leaf: &testkit::Leaf) {
    let chain = leaf.chain_pem();
    let secret = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "client",
        "tls_certificate": {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": leaf.key_pem()}},
    });
    stage.write("client_secret.json", json!({"resources": [secret]}).to_string());
}

impl Envoy {
    /// Before these programs, with the certificate that `show` wrote; it sends nothing to one that is not ready.
    pub(crate) async fn start(stage: &Stage, programs: &[&Program], pool: Pool) -> Envoy {
        stage.write("envoy.json", bootstrap(stage, programs, pool).to_string());
        let (admin, log) = (stage.text("envoy_admin"), fs::File::create(stage.path("envoy.log")).unwrap());
        let mut command = Command::new(binary());
        command.args(["-c", &stage.text("envoy.json"), "--admin-address-path", &admin, "--concurrency", "1"]);
        command.args(["--disable-hot-restart", "--log-level", "warning"]).kill_on_drop(true);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let told = || fs::read_to_string(stage.path("envoy_admin")).unwrap_or_default();
        eventually("Envoy has started", async || told().parse::<SocketAddr>().is_ok()).await;
        let mut envoy = Envoy { _child: child, admin: told().parse().unwrap(), front: ([127, 0, 0, 1], 0).into() };
        eventually("Envoy is ready", async || page(envoy.admin, "/ready").await.trim() == "LIVE").await;
        let listeners: Value = serde_json::from_str(&page(envoy.admin, "/listeners?format=json").await).unwrap();
        let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
        envoy.front.set_port(u16::try_from(port.as_u64().unwrap()).unwrap());
        let healthy = ("envoy_cluster_membership_healthy", programs.len() as f64);
        eventually("Envoy knows its programs", async || envoy.metric(healthy.0).await == healthy.1).await;
        envoy
    }

    /// The sum of all samples of this name.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        sum(&page(self.admin, "/stats/prometheus").await, name, &[])
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.front)
    }
}

/// A page of Envoy's own: its body, empty if it has none to give yet. It speaks no HTTP/1.0.
async fn page(admin: SocketAddr, path: &str) -> String {
    let mut curl = command("curl");
    curl.args(["--disable", "--silent", "--fail", "--noproxy", "*", &format!("http://{admin}{path}")]);
    run(&mut curl).await.out
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn bootstrap(stage: &Stage, programs: &[&Program], pool: Pool) -> Value {
    let router = json!({"name": "router", "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")}});
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "programs"}});
    let traffic = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front", "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "programs", "domains": ["*"], "routes": [route]}]},
    });
    let listener = json!({
        "name": "front", "address": socket(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{"filters": [{"name": "traffic", "typed_config": traffic}]}],
    });
    json!({
        "node": {"id": "client", "cluster": "clients"},
        "admin": {"address": socket(([127, 0, 0, 1], 0).into())},
        "static_resources": {"listeners": [listener], "clusters": [cluster(stage, programs, pool)]},
    })
}

fn cluster(stage: &Stage, programs: &[&Program], pool: Pool) -> Value {
    let (protocol, alpn) = match pool {
        Pool::Http1 => (json!({"http_protocol_options": {}}), "http/1.1"),
        Pool::Http2 => (json!({"http2_protocol_options": {}}), "h2"),
    };
    let secret = json!({"name": "client", "sds_config": {
        "resource_api_version": "V3", "path_config_source": {"path": stage.text("client_secret.json")}}});
    let tls = json!({
        "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"), "sni": "localhost",
        "common_tls_context": {
            "alpn_protocols": [alpn], "tls_certificate_sds_secret_configs": [secret],
            "validation_context": {"trusted_ca": {"filename": stage.text("server_root.pem")}},
        },
    });
    // Kubernetes asks /readyz and tells Envoy; here Envoy asks by itself.
    let plain = json!({"@type": format!("{TYPES}.transport_sockets.raw_buffer.v3.RawBuffer")});
    let health = json!({
        "timeout": "5s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1,
        "healthy_threshold": 1, "http_health_check": {"path": "/readyz"},
        "transport_socket_match_criteria": {"plain": true},
    });
    let one = |program: &&Program| {
        json!({"endpoint": {
            "address": socket(program.addresses[0]),
            "health_check_config": {"port_value": program.observe.port()},
        }})
    };
    let protocols = format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions");
    json!({
        "name": "programs", "connect_timeout": "5s", "health_checks": [health],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "transport_socket": {"name": "tls", "typed_config": tls},
        "transport_socket_matches": [{
            "name": "plain", "match": {"plain": true}, "transport_socket": {"name": "plain", "typed_config": plain},
        }],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": protocols, "explicit_http_config": protocol},
        },
        "load_assignment": {"cluster_name": "programs", "endpoints": [
            {"lb_endpoints": programs.iter().map(one).collect::<Vec<_>>()},
        ]},
    })
}
