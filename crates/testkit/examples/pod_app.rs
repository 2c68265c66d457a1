//! The recording app as a program of its own, for the pod of `tests/pod`: `pod_app ADDRESS`.
//! It must never end by itself; SIGTERM ends it, as any program that cares for nothing.

use testkit::RecordingApp;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("an address to listen on");
    let _app = RecordingApp::start_at(address).await;
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    signal.recv().await;
}
