//! The clients that keep asking: how long others wait while sessions are cut.
//!
//! Asked by the bench: `times` answers with the requests answered since it was asked last, each as the moment of its
//! answer and its microseconds. A request is due at a fixed rate; one that had to wait for the answer before it counts
//! from when it was due. It must never leave out a slow one.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::ClientStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use crate::credentials::Credentials;
use crate::{stamp, told};

/// What the command line asks for.
pub(crate) struct Wish {
    pub(crate) port: u16,
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Requests a second of all together.
    pub(crate) rate: u32,
}

/// Moments and durations of answers, or why there are no more.
#[derive(Default)]
struct Times {
    answered: Vec<(u64, u64)>,
    failure: Option<String>,
}

/// Serves the bench until standard input ends.
pub(crate) async fn serve(folder: &Path, wish: Wish) -> io::Result<()> {
    let credentials = Rc::new(Credentials::read(folder, wish.port)?);
    let mut opening = JoinSet::new();
    for client in wish.first..wish.first + wish.count {
        let credentials = credentials.clone();
        opening.spawn_local(async move { credentials.connect(client, "http/1.1").await });
    }
    let times: Rc<RefCell<Times>> = Rc::default();
    let every = Duration::from_secs(1) * u32::try_from(wish.count).unwrap_or(u32::MAX) / wish.rate.max(1);
    let began = Instant::now();
    let mut number = 0;
    while let Some(stream) = opening.join_next().await {
        let stream = stream.map_err(io::Error::other)??;
        let (times, due) = (times.clone(), began + every * number / u32::try_from(wish.count).unwrap_or(1).max(1));
        number += 1;
        spawn_local(async move {
            if let Err(error) = keep_asking(stream, (due, every), &times).await {
                times.borrow_mut().failure.get_or_insert(error.to_string());
            }
        });
    }
    told::tell(&json!({ "ready": true }))?;
    let mut asked = told::asked();
    while asked.recv().await.is_some() {
        let answered = std::mem::take(&mut times.borrow_mut().answered);
        let answered: Vec<Value> = answered.iter().map(|(at, took)| json!([at, took])).collect();
        told::tell(&json!({ "answered": answered, "failure": times.borrow().failure }))?;
    }
    Ok(())
}

async fn keep_asking(
    mut stream: ClientStream,
    (mut due, every): (Instant, Duration),
    times: &RefCell<Times>,
) -> io::Result<()> {
    let mut answer = Vec::new();
    loop {
        let waited = due > Instant::now();
        sleep_until(due).await;
        // A timer fires up to a millisecond late, which is nobody's waiting.
        let since = if waited { Instant::now() } else { due };
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::other("a busy session was closed"));
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("a busy session's request was refused"));
        }
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        times.borrow_mut().answered.push((stamp::now(), took));
        due += every;
    }
}
