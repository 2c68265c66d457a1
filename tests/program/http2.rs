//! HTTP/2 as nghttp2's own clients speak it: many streams on one connection, and many connections at once.
//! nghttp shows a client certificate by itself; h2load gets one by `load.rs`. It must never preload the program.

use crate::load;
use crate::program::Program;
use crate::stage::Stage;
use crate::tools::{Told, command, run};

async fn h2load(stage: &Stage, program: &Program, (requests, path): (u32, &str)) -> Told {
    let mut load = load::h2load(stage, "alice").await;
    let count = requests.to_string();
    run(load.args(["-n", &count, "-c", "4", "-m", "32", &program.url(path).replace("localhost", "127.0.0.1")])).await
}

#[tokio::test]
async fn nghttp_gets_200_on_every_one_of_many_streams_of_one_connection() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    let mut nghttp = command("nghttp");
    nghttp.args(["--cert", &stage.text("alice.pem"), "--key", &stage.text("alice.key"), "--no-verify-peer"]);
    nghttp.args(["--null-out", "--stat", "--multiply=200"]);
    // A pause in each answer, so that many streams are open at the same time.
    let told = run(nghttp.arg(program.url("/slow/50").replace("localhost", "127.0.0.1"))).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let rows = told.out.lines().filter(|line| line.ends_with("/slow/50"));
    let statuses: Vec<&str> = rows.map(|row| row.split_whitespace().rev().nth(2).unwrap()).collect();
    assert_eq!((statuses.len(), statuses.iter().all(|status| *status == "200")), (200, true), "{}", told.out);
    assert_eq!(stage.app.count(), 200);
    assert_eq!(program.metric("portcullis_sessions_opened_total", &[]).await, 1.0);
    let permitted = [("verdict", "permitted"), ("protocol", "http2")];
    assert_eq!(program.metric("portcullis_requests_total", &permitted).await, 200.0);
}

#[tokio::test]
async fn h2load_gets_200_for_every_request_while_lists_that_name_others_are_swapped() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    let mut load = std::pin::pin!(h2load(&stage, &program, (10_000, "/bytes/1000")));
    let mut list = stage.list(1);
    let mut sequence = 1_u64;
    let told = loop {
        sequence += 1;
        list = list.header_field("sequence", &sequence.to_string()).id(&format!("spiffe://td/gone/{sequence}"));
        stage.publish(&list);
        let swapped = program.wait_for_sequence(sequence);
        tokio::select! {
            told = &mut load => break told,
            () = swapped => {}
        }
    };
    assert_eq!(told.code, Some(0), "{told:?}");
    let whole = "10000 total, 10000 started, 10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(told.out.contains(whole) && told.out.contains("10000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{}", told.out);
    assert_eq!(stage.app.count(), 10_000);
}
