//! Honest clients during an attack: one keeps its connection, one connects anew for each request.
//! Started by `ground.rs`. They must never retry: whoever is honest is served the first time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{ClientError, TlsClient};
use tokio::sync::{oneshot, watch};

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(20);
/// What a request may take while two cores carry the attacker, the program and all else; half of them no more than
/// the second. Where little else runs, the slowest takes 0.3 s and half of them less than 0.1 s.
const SLOWEST: Duration = Duration::from_secs(10);
const MIDDLE: Duration = Duration::from_secs(1);

pub(crate) struct Honest {
    stop: watch::Sender<bool>,
    clients: [(&'static str, oneshot::Receiver<Vec<Duration>>); 2],
}

impl Honest {
    pub(crate) fn start(client: TlsClient, address: SocketAddr) -> Honest {
        let (stop, stopping) = watch::channel(false);
        let kept = on_thread(keep(client.clone(), address, stopping.clone()));
        let new = on_thread(renew(client, address, stopping));
        Honest { stop, clients: [("kept connection", kept), ("new connections", new)] }
    }

    /// Ends them; tells what they saw, and asserts that it was bearable.
    pub(crate) async fn end(self, attack: &str) {
        self.stop.send_replace(true);
        for (name, client) in self.clients {
            let mut took = client.await.unwrap_or_else(|_| panic!("{attack}: {name}: an honest client was not served"));
            took.sort_unstable();
            let (middle, slowest) = (took[took.len() / 2], took[took.len() - 1]);
            println!("{attack}: honest, {name}: {} requests, p50 {middle:.1?}, max {slowest:.1?}", took.len());
            assert!(middle <= MIDDLE && slowest <= SLOWEST, "{attack}: {name}: p50 {middle:?}, max {slowest:?}");
        }
    }
}

/// Runs a client on a thread of its own: the attacker's work in this process is none of its delay.
fn on_thread<Output: Send + 'static>(
    client: impl Future<Output = Output> + Send + 'static,
) -> oneshot::Receiver<Output> {
    let (told, result) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = told.send(runtime.block_on(client));
    });
    result
}

async fn keep(client: TlsClient, address: SocketAddr, stopping: watch::Receiver<bool>) -> Vec<Duration> {
    let mut connection = client.http1(address).await.expect("an honest client is let in");
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        assert_eq!(connection.get("/").await.expect("an honest request is answered").status, 200);
        took.push(asked.elapsed());
        if *stopping.borrow() {
            return took;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn renew(client: TlsClient, address: SocketAddr, stopping: watch::Receiver<bool>) -> Vec<Duration> {
    let once = async || -> Result<(), ClientError> {
        assert_eq!(client.http1(address).await?.get("/").await?.status, 200);
        Ok(())
    };
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        once().await.expect("an honest client is let in and answered");
        took.push(asked.elapsed());
        if *stopping.borrow() {
            return took;
        }
        tokio::time::sleep(PACE).await;
    }
}
