//! A connection that curl keeps alive, and a revocation between two of its requests.
//! Between them curl asks a gate of the test's, which answers when the test says so. It must never sleep instead.

use std::sync::Arc;

use testkit::RawApp;
use testkit::raw_app::read_head;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::program::in_time;
use crate::stage::Stage;
use crate::tools::{Told, curl, run};

/// A plain server that tells when it was asked, and answers when it is let.
struct Gate {
    app: RawApp,
    asked: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    async fn new() -> Gate {
        let (asked, opened) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (Arc::clone(&asked), Arc::clone(&opened));
        let app = RawApp::start(move |mut stream, _| {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                read_head(&mut stream).await;
                tell.add_permits(1);
                wait.acquire().await.unwrap().forget();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngate";
                stream.write_all(answer).await.unwrap();
            }
        })
        .await;
        Gate { app, asked, opened }
    }
}

/// curl asks twice with the gate in between; while it waits there, `meanwhile` runs.
async fn twice(version: &str, revoke: bool) -> (Stage, Told) {
    let stage = Stage::new().await;
    let leaf = stage.client("alice");
    let program = stage.start().await;
    let gate = Gate::new().await;
    let mut command = curl(&stage, Some("alice"));
    command.args([version, "--write-out", "|%{http_code} %{num_connects}\n", &program.url("/first")]);
    command.args([&format!("http://{}/gate", gate.app.addr()), &program.url("/second")]);
    let between = async {
        in_time("the gate is asked", gate.asked.acquire()).await.unwrap().forget();
        let next = stage.list(2);
        stage.publish(&if revoke { next.serial(&leaf) } else { next });
        program.wait_for_sequence(2).await;
        gate.opened.add_permits(1);
    };
    let (told, ()) = tokio::join!(run(&mut command), between);
    (stage, told)
}

#[tokio::test]
async fn a_connection_that_curl_kept_alive_carries_no_request_after_the_revocation() {
    for version in ["--http1.1", "--http2"] {
        let (stage, told) = twice(version, true).await;
        let lines: Vec<&str> = told.out.lines().collect();
        assert_eq!(lines[..2], ["hello|200 1", "gate|200 1"], "{told:?}");
        // A new connection, since the kept one was closed, and that one is refused; never a 200.
        assert!(lines[2].starts_with("|000 ") || lines[2].contains("|401 "), "{told:?}");
        assert!(told.code != Some(0) || lines[2].contains("|401 "), "{told:?}");
        assert_eq!(stage.app.requests().iter().filter(|seen| seen.uri.ends_with("/second")).count(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_curl_kept_alive_is_used_again_after_a_list_that_names_somebody_else() {
    for version in ["--http1.1", "--http2"] {
        let (_stage, told) = twice(version, false).await;
        assert_eq!((told.code, told.out.as_str()), (Some(0), "hello|200 1\ngate|200 1\nhello|200 0\n"), "{told:?}");
    }
}
