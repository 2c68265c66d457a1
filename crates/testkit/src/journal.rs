//! What an app has seen so far: requests, their bodies as they grow, and connections.
//! The recording apps write it, tests read it and wait for it.
//! It must never wait without a deadline: a test that waits for what does not come has to fail with a sentence.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

/// How long a test waits for something an app should see.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bodies are counted without end but kept up to here, so that a bulk transfer does not fill the memory.
const KEPT_BODY: usize = 1 << 20;
/// The first bytes of each connection that are kept as they came.
const KEPT_WIRE: usize = 256 << 10;

/// How far a request body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// More may come.
    Open,
    /// The end was seen, cleanly.
    Complete,
    /// It ended with an error, or its connection or stream went away.
    Broken,
}

/// One request as an app saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection of this app, counted from 0.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The target: origin form on HTTP/1.1, with scheme and authority on HTTP/2.
    pub uri: String,
    /// The headers with lower-case names, in order; repeated ones stand beside the first of their name.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body so far, at most its first MiB.
    pub body: Vec<u8>,
    /// How many body bytes came so far.
    pub body_length: u64,
    /// The trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// How far the body has come.
    pub state: BodyState,
}

impl Seen {
    /// The first header of this name as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// All headers of this name as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// The record of one app.
#[derive(Debug)]
pub struct Journal {
    seen: Mutex<Vec<Seen>>,
    wires: Mutex<Vec<Vec<u8>>>,
    open: AtomicUsize,
    changes: watch::Sender<u64>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            seen: Mutex::default(),
            wires: Mutex::default(),
            open: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
        }
    }

    /// The requests so far, in the order in which their heads came.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().expect("no writer of the journal panics").clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.seen.lock().expect("no writer of the journal panics").len()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.wires.lock().expect("no writer of the journal panics").len()
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The bytes of each connection as they came, at most its first 256 KiB.
    pub fn wires(&self) -> Vec<Vec<u8>> {
        self.wires.lock().expect("no writer of the journal panics").clone()
    }

    /// Waits until this many requests came, and returns them all.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        self.wait_until(|journal| journal.count() >= count).await;
        self.requests()
    }

    /// Waits until the condition holds; panics if it does not within twenty seconds.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !holds(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("the app did not see what the test waited for; it saw {:?}", self.requests());
        }
    }

    pub(crate) fn connection_opened(&self) -> usize {
        let mut wires = self.wires.lock().expect("no writer of the journal panics");
        wires.push(Vec::new());
        self.open.fetch_add(1, Ordering::SeqCst);
        let number = wires.len() - 1;
        drop(wires);
        self.changed();
        number
    }

    pub(crate) fn connection_closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.changed();
    }

    pub(crate) fn wire(&self, connection: usize, bytes: &[u8]) {
        let mut wires = self.wires.lock().expect("no writer of the journal panics");
        let wire = &mut wires[connection];
        let room = KEPT_WIRE.saturating_sub(wire.len());
        wire.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(crate) fn request(&self, connection: usize, head: &http::request::Parts) -> usize {
        let mut seen = self.seen.lock().expect("no writer of the journal panics");
        seen.push(Seen {
            connection,
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: pairs(&head.headers),
            body: Vec::new(),
            body_length: 0,
            trailers: Vec::new(),
            state: BodyState::Open,
        });
        let number = seen.len() - 1;
        drop(seen);
        self.changed();
        number
    }

    pub(crate) fn body(&self, request: usize, bytes: &[u8]) {
        self.change(request, |seen| {
            let room = KEPT_BODY.saturating_sub(seen.body.len());
            seen.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            seen.body_length += bytes.len() as u64;
        });
    }

    pub(crate) fn trailers(&self, request: usize, trailers: &HeaderMap) {
        self.change(request, |seen| seen.trailers = pairs(trailers));
    }

    pub(crate) fn finished(&self, request: usize, state: BodyState) {
        self.change(request, |seen| {
            if seen.state == BodyState::Open {
                seen.state = state;
            }
        });
    }

    fn change(&self, request: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().expect("no writer of the journal panics")[request]);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
