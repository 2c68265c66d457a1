//! The end of the program, and an app that is not there, as curl sees them. It must never kill what it can ask.

use std::sync::Arc;

use testkit::RawApp;
use testkit::raw_app::{read_head, unused_address};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::{curl, run};

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
async fn an_app_that_is_down_is_502_to_curl_and_counted() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = Program::start(&stage.flags_before(&unused_address().await.to_string())).await;
    for version in ["--http1.1", "--http2"] {
        let mut command = curl(&stage, Some("alice"));
        let told = run(command.args([version, "--write-out", "|%{http_code}", &program.url("/hello")])).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.ends_with("|502"), "{told:?}");
    }
    assert_eq!(program.metric("portcullis_app_faults_total", &[]).await, 2.0);
    assert_eq!(program.get("/readyz").await.0, 200);
}
