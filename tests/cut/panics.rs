//! A task that panics takes its own session with it, and nothing else: the worker lives, the others' trust still ends.
//! The audit line of one client is where it panics: whoever writes it does so within the task.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use testkit::RecordingApp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::stage::{Line, Stream, stage};
use crate::support::House;

/// Panics at the first line of this event about this client.
struct Trap {
    event: &'static str,
    identity: &'static str,
    sprung: Mutex<bool>,
}

/// Whether both were met.
struct Look<'a>(&'a Trap, u8);

impl Visit for Look<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let wanted = [("event", self.0.event), ("identity", self.0.identity)];
        self.1 += u8::from(wanted.contains(&(field.name(), value)));
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Subscriber for Trap {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut look = Look(self, 0);
        event.record(&mut look);
        let springs = look.1 == 2 && !std::mem::replace(&mut *self.sprung.lock().unwrap(), true);
        assert!(!springs, "this panic is part of the test");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn set_trap(event: &'static str, identity: &'static str) {
    let trap = Trap { event, identity, sprung: Mutex::new(false) };
    tracing::subscriber::set_global_default(trap).expect("nobody else installs a subscriber here");
}

/// Streams of both versions on each of the two workers.
async fn bystanders(house: &House) -> Vec<Stream> {
    let mut streams = Vec::from(Stream::both(house, &house.client("bystander")).await);
    streams.extend(Stream::both(house, &house.client("bystander")).await);
    streams
}

async fn assert_alive(house: &House, mut streams: Vec<Stream>) {
    for stream in &mut streams {
        stream.flows().await;
    }
    for line in &mut Line::both(house, &house.client("new")).await {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    house.revoke("bystander");
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "revoked")], 4.0).await;
    house.running.alive().expect("every worker's loop turns");
}

#[tokio::test]
async fn a_panic_while_a_session_begins_ends_that_session_and_no_other() {
    set_trap("session_opened", "uri:spiffe://td/unlucky");
    let (_app, house) = stage().await;
    let streams = bystanders(&house).await;
    let mut unlucky = Line::One(house.client("unlucky").http1(house.address()).await.unwrap());
    unlucky.status("/").await.expect_err("its task has ended");
    unlucky.closed().await;
    house.wait_for_metric("portcullis_sessions_closed_total", &[], 1.0).await;
    let mut listed = Vec::new();
    let mut roster = house.live.sessions(proxy::Wanted::default());
    while let Some(rows) = roster.next().await {
        listed.extend(rows.into_iter().map(|row| row.identity));
    }
    assert_eq!((listed.len(), roster.unheard()), (4, 0), "{listed:?}");
    assert_alive(&house, streams).await;
}

#[tokio::test]
async fn a_panic_at_a_sessions_end_leaves_nothing_of_it() {
    set_trap("session_closed", "uri:spiffe://td/unlucky");
    let (_app, house) = stage().await;
    let streams = bystanders(&house).await;
    drop(house.client("unlucky").http1(house.address()).await.unwrap());
    house.wait_for_metric("portcullis_sessions_closed_total", &[], 1.0).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 4.0).await;
    assert_alive(&house, streams).await;
}

#[tokio::test]
async fn a_sweep_that_panics_is_begun_again() {
    set_trap("session_draining", "uri:spiffe://td/unlucky");
    let app = RecordingApp::start().await;
    let minute = Duration::from_secs(60);
    let house = House::before(app.addr()).with_clock().policy(|policy| policy.max_session_age = Some(minute)).start();
    let idle = house.client("unlucky").http1(house.address()).await.unwrap();
    let streams = bystanders(&house).await;
    house.advance(minute - Duration::from_secs(5));
    house.wait_for_metric("portcullis_drains_total", &[], 5.0).await;
    assert_alive(&house, streams).await;
    // Only a sweep that turns finds out that an idle session's time is up.
    house.advance(Duration::from_secs(5));
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    drop(idle);
}
