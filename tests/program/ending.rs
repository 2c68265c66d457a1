//! The end of the program, and an app that is not there, as curl sees them. It must never kill what it can ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::raw_app::{read_head, unused_address};
use testkit::{RawApp, RecordingApp};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::{curl, run, status};

#[tokio::test]
async fn sigterm_lets_an_open_request_finish_and_ends_with_0() {
    let stage = Stage::new().await;
    stage.client("alice");
    let (asked, let_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&let_go));
    let app = RawApp::start(move |mut stream, _| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            read_head(&mut stream).await;
            tell.add_permits(1);
            wait.acquire().await.unwrap().forget();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
        }
    })
    .await;
    for version in ["--http1.1", "--http2"] {
        let mut program = Program::start(&stage.flags_before(&app.addr().to_string())).await;
        let mut command = curl(&stage, Some("alice"));
        command.args([version, "--write-out", "|%{http_code}", &program.url("/open")]);
        let stop = async {
            in_time("the app is asked", asked.acquire()).await.unwrap().forget();
            program.terminate().await;
            program.log.wait_for("it is stopping", |line| line["event"] == "stopping").await;
            // Nobody new comes in, while the open request still waits.
            eventually("it listens no longer", async || TcpStream::connect(program.addresses[0]).await.is_err()).await;
            let_go.add_permits(1);
        };
        let (told, ()) = tokio::join!(run(&mut command), stop);
        assert_eq!((told.code, told.out.as_str()), (Some(0), "last|200"), "{version}: {told:?}");
        assert_eq!(program.ended().await, Some(0));
        program.log.wait_for("the end is told", |line| line["event"] == "stopped").await;
    }
}

#[tokio::test]
async fn sigterm_makes_it_unready_at_once_and_new_connections_are_served_until_the_drain_delay_is_over() {
    let stage = Stage::new().await;
    stage.client("alice");
    let mut program = Program::start(&stage.flags().with("--drain-delay", "1h")).await;
    assert_eq!(program.get("/readyz").await.0, 200);
    program.terminate().await;
    program.log.wait_for("it is stopping", |line| line["event"] == "stopping").await;
    assert_eq!(program.get("/readyz").await.0, 503);
    assert_eq!(program.get("/livez").await.0, 200);
    for _ in 0..3 {
        assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    }
    assert!(program.log.events("draining").is_empty());
    // Whoever cannot wait for the hour says so once more.
    program.terminate().await;
    assert_eq!(program.ended().await, Some(1));
}

#[tokio::test]
async fn the_drain_delay_ends_by_itself_and_the_program_with_0() {
    let stage = Stage::new().await;
    let mut program = Program::start(&stage.flags().with("--drain-delay", "300ms")).await;
    let asked = Instant::now();
    program.terminate().await;
    program.log.wait_for("it drains", |line| line["event"] == "draining").await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(program.ended().await, Some(0));
    // Nobody was there to be asked to leave.
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_person_at_the_keyboard_does_not_wait_for_endpoints_to_be_told() {
    let stage = Stage::new().await;
    let mut program = Program::start(&stage.flags().with("--drain-delay", "1h")).await;
    program.signal("INT").await;
    assert_eq!(program.ended().await, Some(0));
    let line = program.log.events("stopping").remove(0);
    assert_eq!((&line["signal"], &line["drain_delay"]), (&"SIGINT".into(), &"0s".into()));
}

#[tokio::test]
async fn a_hangup_ends_nothing_and_says_why() {
    let stage = Stage::new().await;
    stage.client("alice");
    let mut program = stage.start().await;
    program.signal("HUP").await;
    program.log.wait_for("the hangup is told", |line| line["event"] == "hangup").await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    assert_eq!(program.get("/readyz").await.0, 200);
    program.terminate().await;
    assert_eq!(program.ended().await, Some(0));
}

#[tokio::test]
async fn streams_without_end_are_cut_off_at_the_stop_timeout() {
    let stage = Stage::new().await;
    stage.client("alice");
    let mut program = Program::start(&stage.flags().with("--stop-timeout", "400ms")).await;
    for version in ["--http1.1", "--http2"] {
        let mut command = curl(&stage, Some("alice"));
        command.args([version, "--no-buffer", "--output", "/dev/null", &program.url("/stream")]);
        let streaming = tokio::spawn(async move { run(&mut command).await });
        program.wait_for_metric("portcullis_requests_total", &[("verdict", "permitted")], 1.0).await;
        program.terminate().await;
        assert_eq!(program.ended().await, Some(0));
        let told = streaming.await.unwrap();
        assert_ne!(told.code, Some(0), "{version}: a stream cut off looks whole: {told:?}");
        program = Program::start(&stage.flags().with("--stop-timeout", "400ms")).await;
    }
}

#[tokio::test]
async fn an_app_that_is_down_is_502_to_curl_and_counted_and_200_when_it_is_back() {
    let stage = Stage::new().await;
    stage.client("alice");
    let address = unused_address().await;
    let program = Program::start(&stage.flags_before(&address.to_string())).await;
    for version in ["--http1.1", "--http2"] {
        let mut command = curl(&stage, Some("alice"));
        let told = run(command.args([version, "--write-out", "|%{http_code}", &program.url("/hello")])).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.ends_with("|502"), "{told:?}");
    }
    assert_eq!(program.metric("portcullis_app_faults_total", &[]).await, 2.0);
    assert_eq!(program.get("/readyz").await.0, 200);
    let _app = RecordingApp::start_at(address).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
}
