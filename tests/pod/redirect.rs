//! `portcullis redirect` with the kernel's own nftables: what a stranger reaches, and how the proxy finds out whether the
//! rules hold. It must never take a silence for a refusal.

use testkit::RecordingApp;

use crate::hosts::{Hosts, OBSERVE, POD, STRANGER, succeed};
use crate::program::{Program, eventually};
use crate::stage::{Flags, Stage};
use crate::tools::{Told, command, curl, run};

const ANY: [u8; 4] = [0, 0, 0, 0];
const RULES: &str = "redirect --to 15006 --exclude-port 15020,5050";

fn flags(stage: &Stage, check: &str) -> Flags {
    let flags = stage.flags().with("--inbound", "0.0.0.0:15006=redirect:8080+9090").with("--observe", OBSERVE);
    flags.with("--pod-ip", POD.to_string()).with("--bypass-check", check)
}

async fn redirected(hosts: &Hosts) {
    let told = hosts.portcullis(RULES).await;
    assert_eq!((told.code, told.all().trim()), (Some(0), ""), "{told:?}");
}

/// A request of alice's over mTLS to this port of the pod, or without TLS.
async fn ask(stage: &Stage, scheme: &str, port: u16) -> Told {
    let mut curl = curl(stage, Some("alice"));
    curl.args(["--connect-to", &format!("localhost:{port}:{POD}:{port}"), "--output", "/dev/null"]);
    run(curl.args(["--max-time", "20", "--write-out", "%{http_code}", &format!("{scheme}://localhost:{port}/x")])).await
}

async fn status(stage: &Stage, scheme: &str, port: u16) -> String {
    ask(stage, scheme, port).await.out
}

async fn is_refused(stage: &Stage, scheme: &str, port: u16) {
    let told = ask(stage, scheme, port).await;
    // Reset, or a TLS alert instead of HTTP (1); a timeout would be 28, an answer 0.
    assert!([1, 7, 35, 52, 56].contains(&told.code.unwrap()), "{scheme} {port}: {told:?}");
}

async fn is_ready(program: &Program) -> bool {
    program.get("/readyz").await.0 == 200
}

/// Packets of own dials that the rules caught.
fn own_dials(hosts: &Hosts) -> u64 {
    let rules = succeed(&format!("{} nft list chain inet portcullis output", hosts.entry()));
    let count = rules.split("packets ").nth(1).unwrap_or_else(|| panic!("{rules}"));
    count.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn strangers_reach_declared_ports_by_the_proxy_alone_and_no_other_port_at_all() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    stage.client("alice");
    let declared = [hosts.app(ANY, 8080).await, hosts.app(ANY, 9090).await];
    let hidden = [hosts.app(ANY, 6060).await, hosts.app([127, 0, 0, 1], 7070).await];
    let excluded = hosts.app(ANY, 5050).await;
    assert_eq!(status(&stage, "http", 8080).await, "200", "without rules anybody reaches it");
    redirected(&hosts).await;
    let program = hosts.start(&flags(&stage, "off")).await;
    for (port, app) in [(8080, &declared[0]), (9090, &declared[1])] {
        assert_eq!(status(&stage, "https", port).await, "200");
        let seen = app.requests().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some(STRANGER.to_string()));
        assert!(seen.header("x-forwarded-client-cert").unwrap().contains("spiffe://td/alice"), "{seen:?}");
        let before = app.connections();
        is_refused(&stage, "http", port).await;
        assert_eq!(app.connections(), before);
    }
    assert_eq!(program.metric("portcullis_handshakes_total", &[("result", "undeclared_port")]).await, 0.0);
    // The last is the inbound's own port: nobody is led anywhere by dialling it.
    for (count, port) in [6060, 7070, 1, 15006].into_iter().enumerate() {
        is_refused(&stage, "https", port).await;
        let undeclared = [("result", "undeclared_port")];
        program.wait_for_metric("portcullis_handshakes_total", &undeclared, (count + 1) as f64).await;
    }
    assert_eq!(hidden.each_ref().map(|app| app.connections()), [0, 0]);
    let told = &program.log.events("handshake_failed").pop().unwrap()["detail"];
    assert!(told.as_str().unwrap().starts_with("undeclared_port"), "{told}");
    assert_eq!((status(&stage, "http", 5050).await.as_str(), excluded.count()), ("200", 1));
}

#[tokio::test]
async fn ipv6_is_redirected_and_looked_at_as_ipv4_is() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    stage.client("alice");
    // One socket for both.
    let app = hosts.app([0_u16; 8], 8080).await;
    let flags =
        flags(&stage, "enforce").with("--inbound", "[::]:15006=redirect:8080").with("--pod-ip", "10.77.0.2,fd77::2");
    let program = hosts.start(&flags).await;
    program.wait_for_metric("portcullis_app_bypassable", &[], 2.0).await;
    redirected(&hosts).await;
    eventually("strangers arrive at the proxy", async || is_ready(&program).await).await;
    for (pod, stranger) in [("10.77.0.2", "10.77.0.1"), ("[fd77::2]", "fd77::1")] {
        let mut curl = command("curl");
        curl.args(["--disable", "--silent", "--cacert", &stage.text("server_root.pem"), "--max-time", "20"]);
        curl.args(["--cert", &stage.text("alice.pem"), "--key", &stage.text("alice.key"), "https://localhost:8080/x"]);
        let told = run(curl.args(["--connect-to", &format!("localhost:8080:{pod}:8080")])).await;
        assert_eq!(told.code, Some(0), "{pod}: {told:?}");
        let seen = app.requests().pop().unwrap();
        assert!(seen.header("x-forwarded-for").unwrap().contains(stranger), "{seen:?}");
    }
}

#[tokio::test]
async fn the_bypass_check_knows_whether_a_stranger_would_arrive_at_the_proxy() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    let program = hosts.start(&flags(&stage, "enforce")).await;
    // Nobody listens yet: the app starts when the proxy is ready.
    eventually("it is ready before the app is there", async || is_ready(&program).await).await;
    let app: RecordingApp = hosts.app(ANY, 8080).await;
    eventually("the app answers strangers", async || !is_ready(&program).await).await;
    let (_, why) = program.get("/readyz").await;
    assert!(why.contains("10.77.0.2:8080") && !why.contains("9090"), "{why}");
    assert_eq!(program.metric("portcullis_app_bypassable", &[]).await, 1.0);
    redirected(&hosts).await;
    eventually("the rules send strangers to the proxy", async || is_ready(&program).await).await;
    let before = (app.connections(), own_dials(&hosts));
    eventually("it looked many times", async || own_dials(&hosts) >= before.1 + 12).await;
    assert!(is_ready(&program).await, "{:?}", program.get("/readyz").await);
    assert_eq!(app.connections(), before.0, "an own dial reached the app");
    assert_eq!(program.metric("portcullis_handshakes_total", &[]).await, 0.0, "an own dial is nobody's handshake");
    assert_eq!(program.metric("portcullis_app_bypassable", &[]).await, 0.0);
    succeed(&format!("{} nft delete table inet portcullis", hosts.entry()));
    eventually("the rules are gone", async || !is_ready(&program).await).await;
}

#[tokio::test]
async fn an_apps_port_that_the_rules_leave_alone_is_a_way_around_the_proxy() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    let _app = hosts.app(ANY, 9090).await;
    let told = hosts.portcullis("redirect --to 15006 --exclude-port 15020 --exclude-port 9090").await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let program = hosts.start(&flags(&stage, "enforce")).await;
    program.wait_for_metric("portcullis_app_bypassable", &[], 1.0).await;
    assert!(program.get("/readyz").await.1.contains("10.77.0.2:9090"));
}

#[tokio::test]
async fn the_rules_replace_themselves_and_touch_nobody_elses() {
    let hosts = Hosts::new();
    succeed(&format!("{} nft add table inet theirs", hosts.entry()));
    succeed(&format!("{} nft add chain inet theirs input", hosts.entry()));
    let list = |table: &str| succeed(&format!("{} nft list table inet {table}", hosts.entry()));
    let theirs = list("theirs");
    redirected(&hosts).await;
    let ours = list("portcullis");
    redirected(&hosts).await;
    assert_eq!((list("portcullis"), list("theirs")), (ours, theirs));
    let told = hosts.portcullis(&format!("{RULES} --print")).await;
    assert!(told.code == Some(0) && told.out.contains("redirect to :15006"), "{told:?}");
}

#[tokio::test]
async fn rules_that_cannot_be_put_in_force_end_the_init_container_with_one_sentence() {
    let mut portcullis = command(env!("CARGO_BIN_EXE_portcullis"));
    let told = run(portcullis.env("PATH", "/nowhere").args(RULES.split(' '))).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.err.contains("nft cannot be started") && told.err.trim().lines().count() == 1, "{told:?}");
}
