//! The program's own certificate is renewed while it works. It must never stop the load to look at it.

use std::fs;

use testkit::{Leaf, LeafSpec, OffsetDateTime, TlsClient};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{command, run};
use crate::volume::Volume;

/// Requests without a pause until it is over, on one connection or on a new one each; returns how many.
fn load(client: TlsClient, program: &Program, (kept, over): (bool, watch::Receiver<bool>)) -> JoinHandle<u64> {
    let address = program.addresses[0];
    tokio::spawn(async move {
        let mut connection = client.http1(address).await.unwrap();
        let mut count = 0;
        while !*over.borrow() {
            if !kept {
                connection = client.http1(address).await.unwrap();
            }
            let answer = connection.get("/bytes/500").await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 500));
            count += 1;
        }
        count
    })
}

/// The serial that a new handshake shows, by openssl.
async fn shown(stage: &Stage, program: &Program) -> String {
    let script = "openssl s_client -connect \"$0\" -servername localhost -cert \"$1\" -key \"$2\" -CAfile \"$3\" \
                  -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let (address, root) = (program.addresses[0].to_string(), stage.text("server_root.pem"));
    let (certificate, key) = (stage.text("alice.pem"), stage.text("alice.key"));
    let told = run(command("sh").args(["-c", script, &address, &certificate, &key, &root])).await;
    told.out.trim().trim_start_matches("serial=").to_ascii_lowercase()
}

fn files(leaf: &Leaf) -> [(&'static str, String); 2] {
    [("tls.crt", leaf.chain_pem()), ("tls.key", leaf.key_pem())]
}

#[tokio::test]
async fn a_renewed_own_certificate_under_load_is_shown_to_new_clients_and_disturbs_no_old_one() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    let mut volume = Volume::at(stage.path("tls"));
    let mut own = stage.server();
    volume.put(&files(&own));
    let flags = stage.flags().with("--cert", stage.text("tls/tls.crt")).with("--key", stage.text("tls/tls.key"));
    let program = Program::start(&flags).await;
    let stream = Stream::open(&stage, &program, ("alice", "--http2")).await;
    let (end, over) = watch::channel(false);
    let client = TlsClient::new(stage.server_root.der(), Some(&alice));
    let loads = [true, true, false, false].map(|kept| load(client.clone(), &program, (kept, over.clone())));
    for round in 1..=5 {
        assert_eq!(shown(&stage, &program).await, own.serial_hex());
        own = stage.server();
        volume.put(&files(&own));
        let renewed = [("source", "credential"), ("result", "changed")];
        program.wait_for_metric("portcullis_reloads_total", &renewed, f64::from(round)).await;
        stream.flows().await;
    }
    assert_eq!(shown(&stage, &program).await, own.serial_hex());
    end.send(true).unwrap();
    for one in loads {
        assert!(one.await.unwrap() > 0);
    }
    assert_eq!(program.reloads("failed").await, 0.0);
}

#[tokio::test]
async fn a_credential_bundle_in_one_file_is_renewed_too() {
    let stage = Stage::new().await;
    stage.client("alice");
    let own = stage.server();
    stage.write("own.pem", format!("{}{}", own.key_pem(), own.chain_pem()));
    fs::remove_file(stage.path("server.key")).unwrap();
    let flags = stage.flags().without("--cert").without("--key").with("--credential-bundle", stage.text("own.pem"));
    let program = Program::start(&flags).await;
    assert_eq!(shown(&stage, &program).await, own.serial_hex());
    let until = OffsetDateTime::now_utc() + testkit::Duration::days(30);
    let next = stage.server_root.issue(LeafSpec::dns("localhost").not_after(until));
    stage.write("own.pem", format!("{}{}", next.chain_pem(), next.key_pem()));
    let expiry = next.not_after().unix_timestamp() as f64;
    program.wait_for_metric("portcullis_certificate_expiry_timestamp_seconds", &[], expiry).await;
    eventually("the next one is shown", async || shown(&stage, &program).await == next.serial_hex()).await;
}
