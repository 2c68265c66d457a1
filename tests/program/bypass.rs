//! An app that answers around the proxy: what the real program says of it. The pod's address is 127.0.0.2, the app's own
//! place 127.0.0.1. It must never listen where a test beside it could.

use testkit::{RawApp, RecordingApp};
use tokio::net::TcpListener;

use crate::program::{Program, eventually};
use crate::stage::{Flags, Stage};

fn flags(stage: &Stage, check: &str) -> Flags {
    stage.flags().with("--pod-ip", "127.0.0.2").with("--bypass-check", check)
}

async fn verbose(program: &Program) -> (u16, String) {
    let (status, text) = program.get("/readyz?verbose").await;
    (status, text.lines().find(|line| line.contains("bypass:")).unwrap().to_owned())
}

#[tokio::test]
async fn an_app_that_answers_at_the_pods_address_is_told_of_until_it_does_not() {
    let stage = Stage::new().await;
    let program = Program::start(&stage.flags().with("--pod-ip", "127.0.0.2")).await;
    program.log.wait_for("it looked", |line| line["event"] == "app_not_bypassable").await;
    assert_eq!(program.metric("portcullis_app_bypassable", &[]).await, 0.0);
    let around = RecordingApp::start_at(([127, 0, 0, 2], stage.app.addr().port()).into()).await;
    program.wait_for_metric("portcullis_app_bypassable", &[], 1.0).await;
    let told = program.log.events("app_bypassable").remove(0);
    assert_eq!((told["level"].as_str(), told["app"].as_str()), (Some("WARN"), Some(&*around.target())), "{told}");
    let (status, line) = verbose(&program).await;
    assert!(status == 200 && line.starts_with("[ok]") && line.contains("without mTLS"), "{line}");
    around.stop().await;
    program.wait_for_metric("portcullis_app_bypassable", &[], 0.0).await;
    assert_eq!(program.log.events("app_not_bypassable").len(), 2);
    assert_eq!(stage.app.connections(), 0, "the app was dialled at its own place");
}

#[tokio::test]
async fn enforced_an_app_that_can_be_reached_around_the_proxy_makes_it_unready() {
    let stage = Stage::new().await;
    let around = RecordingApp::start_at(([127, 0, 0, 2], stage.app.addr().port()).into()).await;
    let program = Program::start(&flags(&stage, "enforce")).await;
    program.wait_for_metric("portcullis_app_bypassable", &[], 1.0).await;
    let (status, why) = program.get("/readyz").await;
    assert!(status == 503 && why.contains(&around.target()) && why.contains("127.0.0.1"), "{why}");
    assert!(verbose(&program).await.1.starts_with("[no] bypass: "));
    around.stop().await;
    eventually("it is ready", async || program.get("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn nothing_is_dialled_but_the_ports_of_apps_and_nothing_at_all_if_nobody_asked() {
    let stage = Stage::new().await;
    let bystander = RecordingApp::start_at(([127, 0, 0, 2], 0).into()).await;
    let elsewhere = RawApp::start(|_, _| std::future::pending()).await;
    let around = RecordingApp::start_at(([127, 0, 0, 2], stage.app.addr().port()).into()).await;
    let off = Program::start(&flags(&stage, "off")).await;
    assert_eq!(verbose(&off).await, (200, "[ok] bypass: not looked at".to_owned()));
    assert_eq!(around.connections(), 0);
    // The second inbound's app is on another host.
    let flags = flags(&stage, "warn").and("--inbound", format!("127.0.0.1:0=10.255.0.1:{}", elsewhere.addr().port()));
    let program = Program::start(&flags).await;
    eventually("it looked twice", async || around.connections() >= 2).await;
    assert_eq!((bystander.connections(), elsewhere.connections(), stage.app.connections()), (0, 0, 0));
    assert_eq!(program.log.events("app_bypassable").len(), 1);
}

#[tokio::test]
async fn the_proxys_own_port_is_no_way_around_it() {
    let stage = Stage::new().await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let app = RecordingApp::start_at(([127, 0, 0, 1], port).into()).await;
    let flags = flags(&stage, "enforce").with("--inbound", format!("127.0.0.2:{port}={}", app.target()));
    let program = Program::start(&flags).await;
    eventually("it is ready", async || program.get("/readyz").await.0 == 200).await;
}
