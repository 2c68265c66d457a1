//! curl over HTTP/1.1 and HTTP/2: requests, uploads and downloads of a client that is trusted.
//! It must never revoke anybody: that is `revoked.rs`.

use testkit::{BodyState, RawApp};

use crate::program::Program;
use crate::stage::Stage;
use crate::tools::{curl, run, run_with};

/// curl's flag, and what it then reports.
const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

#[tokio::test]
async fn a_get_by_curl_is_answered_in_the_version_it_asks_for() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    for (flag, version) in VERSIONS {
        let told = run(curl(&stage, Some("alice")).args([
            flag,
            "--write-out",
            "|%{http_code}|%{http_version}",
            &program.url("/hello"),
        ]))
        .await;
        assert_eq!((told.code, told.out.as_str()), (Some(0), format!("hello|200|{version}").as_str()), "{told:?}");
    }
    let seen = stage.app.requests();
    assert!(seen.iter().all(|seen| seen.header("x-forwarded-client-cert").unwrap().contains("URI=spiffe://td/alice")));
}

#[tokio::test]
async fn an_upload_with_a_length_and_a_chunked_one_arrive_whole() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    // More than curl sends without asking first: it waits for 100 Continue.
    let body = vec![b'u'; 3 << 20];
    stage.write("body", &body);
    let named = format!("@{}", stage.text("body"));
    for (flag, _) in VERSIONS {
        let url = program.url("/upload");
        let with_length = run(curl(&stage, Some("alice")).args([flag, "--data-binary", &named, &url])).await;
        assert_eq!((with_length.code, with_length.out.as_str()), (Some(0), "3145728"), "{with_length:?}");
        let mut streamed = curl(&stage, Some("alice"));
        streamed.args([flag, "--request", "POST", "--upload-file", "-", &url]);
        let streamed = run_with(&mut streamed, &body).await;
        assert_eq!((streamed.code, streamed.out.as_str()), (Some(0), "3145728"), "{streamed:?}");
    }
    let seen = stage.app.requests();
    let lengths: Vec<bool> = seen.iter().map(|seen| seen.header("content-length").is_some()).collect();
    assert_eq!(lengths, [true, false, true, false]);
    assert!(seen.iter().all(|seen| seen.body_length == 3 << 20 && seen.state == BodyState::Complete));
}

#[tokio::test]
async fn a_long_download_arrives_whole() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    for (flag, _) in VERSIONS {
        let told = run(curl(&stage, Some("alice")).args([
            flag,
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{size_download}",
            &program.url("/bytes/50000000"),
        ]))
        .await;
        assert_eq!((told.code, told.out.as_str()), (Some(0), "200 50000000"), "{told:?}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_http_1_0_costs_its_client_neither_the_version_nor_the_connection() {
    let stage = Stage::new().await;
    stage.client("alice");
    // As Python's http.server answers: the body ends with the connection.
    let app = RawApp::answering("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold").await;
    let program = Program::start(&stage.flags_before(&app.addr().to_string())).await;
    let url = program.url("/");
    let mut curl = curl(&stage, Some("alice"));
    curl.args(["--http1.1", "--write-out", "|%{http_code} %{http_version} %{num_connects}\n", &url, &url]);
    let told = run(&mut curl).await;
    // RFC 9110 §6.2: whoever forwards a message gives it its own version.
    assert_eq!((told.code, told.out.as_str()), (Some(0), "old|200 1.1 1\nold|200 1.1 0\n"), "{told:?}");
}
