//! openssl s_client: no session is resumed, no ticket is given, and raw bytes that could be read as two requests are
//! refused. It must never take a handshake that failed for one that was not resumed.

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::program::{Program, in_time};
use crate::stage::Stage;
use crate::tools::{Told, command, run_with};

/// The client's end; what it sends is `input`, and it reads until the program closes.
async fn s_client(stage: &Stage, program: &Program, arguments: &[&str], input: &str) -> Told {
    s_client_to(stage, &program.addresses[0].to_string(), arguments, input).await
}

async fn s_client_to(stage: &Stage, address: &str, arguments: &[&str], input: &str) -> Told {
    let mut openssl = command("openssl");
    openssl.args(["s_client", "-ign_eof", "-servername", "localhost", "-verify_return_error"]);
    openssl.args(["-connect", address, "-CAfile", &stage.text("server_root.pem")]);
    openssl.args(["-cert", &stage.text("alice.pem"), "-cert_chain", &stage.text("alice.pem")]);
    openssl.args(["-key", &stage.text("alice.key")]).args(arguments);
    run_with(&mut openssl, input.as_bytes()).await
}

const LAST: &str = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];

/// So many full handshakes of this version, and no sign of a ticket.
fn assert_nothing_resumed(told: &Told, (version, handshakes): (&str, usize)) {
    let all = told.all();
    assert_eq!(all.matches(&format!("New, {version}")).count(), handshakes, "{all}");
    assert!(!all.contains("Reused") && !all.contains("Session Ticket arrived"), "{all}");
    assert!(!all.contains("TLS session ticket"), "{all}");
    assert!(all.contains("HTTP/1.1 200 OK") && all.contains("hello"), "{all}");
}

#[tokio::test]
async fn openssl_resumes_no_session_and_is_given_no_ticket() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    for (flag, version) in VERSIONS {
        let kept = stage.text(&format!("session{flag}"));
        let first = s_client(&stage, &program, &[flag, "-sess_out", &kept], LAST).await;
        assert_nothing_resumed(&first, (version, 1));
        // openssl writes only what could be resumed.
        assert!(!stage.path(&format!("session{flag}")).exists(), "{first:?}");
        // In one process it offers by itself whatever it was given: once, and five times more.
        let again = s_client(&stage, &program, &[flag, "-reconnect"], LAST).await;
        assert_nothing_resumed(&again, (version, 6));
    }
    assert_eq!(program.metric("portcullis_handshakes_total", &[("result", "ok")]).await, 14.0);
    assert_eq!(program.metric("portcullis_sessions_opened_total", &[]).await, 14.0);
}

/// A server by openssl, with the program's own certificate, that gives tickets; its address.
async fn s_server(stage: &Stage) -> (Child, String) {
    let mut openssl = command("openssl");
    openssl.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-Verify", "3"]);
    openssl.args(["-cert", &stage.text("server.pem"), "-key", &stage.text("server.key")]);
    let mut child = openssl.args(["-CAfile", &stage.text("client_root.pem")]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = in_time("s_server listens", lines.next_line()).await.unwrap().expect("s_server runs");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

#[tokio::test]
async fn a_session_that_openssl_brings_from_another_server_is_not_resumed() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    let (_server, other) = s_server(&stage).await;
    for (flag, version) in VERSIONS {
        let kept = stage.text(&format!("session{flag}"));
        let get = "GET / HTTP/1.0\r\n\r\n";
        let brought = s_client_to(&stage, &other, &[flag, "-sess_out", &kept], get).await;
        assert!(stage.path(&format!("session{flag}")).exists(), "{brought:?}");
        let back = s_client_to(&stage, &other, &[flag, "-sess_in", &kept], get).await;
        assert!(back.all().contains(&format!("Reused, {version}")), "the other server resumes it: {back:?}");
        let told = s_client(&stage, &program, &[flag, "-sess_in", &kept], LAST).await;
        assert_nothing_resumed(&told, (version, 1));
    }
}

#[tokio::test]
async fn a_request_that_hides_another_is_refused_to_openssl() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "Content-Length: 6\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ] {
        let shape = format!("POST /upload HTTP/1.1\r\nHost: localhost\r\n{head}{hidden}");
        let told = s_client(&stage, &program, &["-quiet"], &shape).await;
        assert!(told.out.starts_with("HTTP/1.1 400 "), "{head:?}: {told:?}");
        assert_eq!(told.out.matches("HTTP/1.1 ").count(), 1, "{head:?}: {told:?}");
    }
    // Both framings may be refused, or read as chunked with nothing read after it (RFC 9112 §6.3).
    let both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let shape = format!("POST /upload HTTP/1.1\r\nHost: localhost\r\n{both}{hidden}");
    let told = s_client(&stage, &program, &["-quiet"], &shape).await;
    assert_eq!(told.out.matches("HTTP/1.1 ").count(), 1, "{told:?}");
    assert_eq!(stage.app.requests().iter().filter(|seen| seen.uri == "/smuggled").count(), 0);
    assert!(stage.app.wires().iter().all(|wire| !String::from_utf8_lossy(wire).contains("/smuggled")));
}
