//! Two hundred swaps of the list's file under load: nobody who is not named loses anything.
//! It must never pace the load: the clients ask as fast as they are answered.

use testkit::{Leaf, TlsClient};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::Program;
use crate::stage::Stage;
use crate::tools::status;

const SWAPS: u64 = 200;

/// One kept connection, HTTP/1.1 or HTTP/2, asked without a pause; returns how many answers came, all of them whole.
fn load(
    stage: &Stage,
    program: &Program,
    (leaf, http2): (&Leaf, bool),
    over: watch::Receiver<bool>,
) -> JoinHandle<u64> {
    let (client, address) = (TlsClient::new(stage.server_root.der(), Some(leaf)), program.addresses[0]);
    tokio::spawn(async move {
        let mut count = 0;
        if http2 {
            let connection = client.http2(address).await.unwrap();
            while !*over.borrow() {
                assert_eq!(connection.get("/bytes/2000").await.unwrap().body.len(), 2000);
                count += 1;
            }
        } else {
            let mut connection = client.http1(address).await.unwrap();
            while !*over.borrow() {
                assert_eq!(connection.get("/bytes/2000").await.unwrap().body.len(), 2000);
                count += 1;
            }
        }
        count
    })
}

#[tokio::test]
async fn two_hundred_swaps_of_the_list_fail_no_request_of_those_it_does_not_name() {
    let stage = Stage::new().await;
    let named = stage.client("named");
    let program = stage.start().await;
    let (end, over) = watch::channel(false);
    let loads: Vec<_> = [false, true, false, true]
        .into_iter()
        .enumerate()
        .map(|(number, http2)| load(&stage, &program, (&stage.client(&format!("c{number}")), http2), over.clone()))
        .collect();
    let mut list = stage.list(1).serial(&named);
    for sequence in 2..=SWAPS + 1 {
        list = list.header_field("sequence", &sequence.to_string()).id(&format!("spiffe://td/gone/{sequence}"));
        stage.publish(&list);
        program.wait_for_sequence(sequence).await;
    }
    end.send(true).unwrap();
    let mut requests = 0;
    for one in loads {
        let count = one.await.expect("no request of a kept connection fails");
        assert!(count > 0);
        requests += count;
    }
    assert_eq!(stage.app.count() as u64, requests);
    assert_eq!(program.metric("portcullis_sessions_opened_total", &[]).await, 4.0);
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0);
    let changed = [("source", "revocations"), ("result", "changed")];
    assert_eq!(program.metric("portcullis_reloads_total", &changed).await, SWAPS as f64);
    assert_eq!(program.reloads("failed").await, 0.0);
    assert_eq!(status(&stage, "named", &program.url("/hello")).await, 0);
}
