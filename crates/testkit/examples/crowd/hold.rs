//! The clients that hold sessions open.
//!
//! Asked by the bench: `open FIRST END STEP` opens the sessions of these clients and answers when all are at rest;
//! `ends` answers with what has ended since it was asked last. It must never open a session again by itself.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_local};

use crate::credentials::Credentials;
use crate::session::{End, Kind, open};
use crate::told;

/// Handshakes under way: enough to keep two cores busy, few enough for every deadline.
const AT_ONCE: usize = 32;

/// What the command line asks for.
pub(crate) struct Wish<'a> {
    pub(crate) port: u16,
    /// Words of kinds; client number N is of kind N modulo their count.
    pub(crate) kinds: &'a str,
    /// Milliseconds between two blocks of a stream.
    pub(crate) every: u64,
}

/// Serves the bench until standard input ends.
pub(crate) async fn serve(folder: &Path, wish: Wish<'_>) -> io::Result<()> {
    let credentials = Rc::new(Credentials::read(folder, wish.port)?);
    let kinds: Option<Vec<Kind>> = wish.kinds.split(',').map(Kind::parse).collect();
    let kinds = kinds.filter(|kinds| !kinds.is_empty()).ok_or_else(|| io::Error::other("no such kind of session"))?;
    let ends: Rc<RefCell<Vec<End>>> = Rc::default();
    told::tell(&json!({ "ready": true }))?;
    let mut asked = told::asked();
    while let Some(line) = asked.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["open", clients @ ..] => {
                let clients = clients.iter().filter_map(|word| word.parse().ok());
                let wishes = clients.map(|client: usize| (client, kinds[client % kinds.len()]));
                open_all(&credentials, (wishes, wish.every), &ends).await
            }
            ["ends"] => Value::from(ends.take().iter().map(End::told).collect::<Vec<_>>()),
            _ => json!({ "unknown": line }),
        };
        told::tell(&answer)?;
    }
    Ok(())
}

async fn open_all(
    credentials: &Rc<Credentials>,
    (wishes, every): (impl Iterator<Item = (usize, Kind)>, u64),
    ends: &Rc<RefCell<Vec<End>>>,
) -> Value {
    let turn = Rc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for (client, kind) in wishes {
        let (turn, credentials, ends) = (turn.clone(), credentials.clone(), ends.clone());
        opening.spawn_local(async move {
            let _turn = turn.acquire().await;
            let session = open(credentials, client, (kind, every)).await?;
            spawn_local(async move {
                let end = session.ended().await;
                ends.borrow_mut().push(end);
            });
            io::Result::Ok(())
        });
    }
    let (mut opened, mut failed, mut failure) = (0, 0, None);
    while let Some(outcome) = opening.join_next().await {
        match outcome.map_err(io::Error::other).flatten() {
            Ok(()) => opened += 1,
            Err(error) => {
                failed += 1;
                failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
    json!({ "opened": opened, "failed": failed, "first_failure": failure })
}
