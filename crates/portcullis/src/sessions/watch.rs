//! `portcullis sessions watch`: who is connected, looked at again and again.
//!
//! Called by `sessions.rs`. At a terminal a picture that is drawn anew, elsewhere one table or JSON object after the
//! other. It must never end because a sidecar is away for a while if somebody sits before it, nor go on when nobody
//! reads what it prints.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use super::args::{Sort, WatchWish};
use super::terminal::{Event, Terminal};
use super::{table, which};
use crate::remote::{Question, Remote, field};
use crate::revocations::remotely::{number, words};
use crate::revocations::say;
use crate::{Failure, duration};

/// Orders, as one key goes through them.
const ORDERS: [(Sort, &str); 5] = [
    (Sort::Left, "time left"),
    (Sort::Age, "age"),
    (Sort::Bytes, "bytes"),
    (Sort::Requests, "requests"),
    (Sort::Identity, "identity"),
];
/// Ctrl-C where the terminal sends no signal for it, and Ctrl-D.
const ENDING_KEYS: [u8; 4] = [b'q', b'Q', 3, 4];

/// Looks until it is to end.
pub(super) fn watch(wish: &WatchWish) -> Result<(), Failure> {
    let remote = Arc::new(Remote::open(&wish.remote)?);
    let path = which::path(&which::parts(&wish.which)?);
    let every =
        duration::parse(&wish.every).map_err(|why| Failure::AtStart(format!("--every {:?}: {why}", wish.every)))?;
    let look = move || remote.ask(Question::plain(Method::GET, path.clone())).map(|reply| reply.value);
    if Terminal::is_there() && !wish.remote.json {
        return live((wish, every), look);
    }
    print((wish, every), look)
}

/// One look after the other, for files and pipes.
fn print((wish, every): (&WatchWish, Duration), look: impl Fn() -> Result<Value, Failure>) -> Result<(), Failure> {
    // Nothing is ever sent: it is there to be waited for.
    let (_nobody, nothing) = mpsc::channel::<()>();
    let mut left = wish.times.unwrap_or(u32::MAX);
    loop {
        let list = look()?;
        let text = if wish.remote.json { format!("{list}\n") } else { plain(&list, wish.sort) };
        let mut stdout = io::stdout().lock();
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // Whoever read it has gone.
            return Ok(());
        }
        drop(stdout);
        left = left.saturating_sub(u32::from(wish.times.is_some()));
        if left == 0 {
            return Ok(());
        }
        let _ = nothing.recv_timeout(every);
    }
}

fn plain(list: &Value, sort: Sort) -> String {
    let sessions = table::sorted(list, sort);
    format!("{} {}\n{}\n", words(field(list, "now")), table::total(list), say::table(&table::rows(&sessions)))
}

/// What is on the picture.
struct View {
    list: Result<Value, String>,
    /// When the sidecar answered last.
    seen: Option<Instant>,
    /// Position in [`ORDERS`].
    order: usize,
}

/// A picture that is drawn anew, until a key or a signal ends it.
fn live(
    (wish, every): (&WatchWish, Duration),
    look: impl Fn() -> Result<Value, Failure> + Send + 'static,
) -> Result<(), Failure> {
    // The first look is before the terminal is taken: what is wrong from the start is said and ends it.
    let mut view = View {
        list: Ok(look()?),
        seen: Some(Instant::now()),
        order: ORDERS.iter().position(|(sort, _)| *sort == wish.sort).unwrap_or(0),
    };
    let (events, happened) = mpsc::channel();
    let (turns, answers) = looker(look, events.clone());
    let terminal = Terminal::take(&events).map_err(Failure::WhileRunning)?;
    let (mut next, mut looks, mut waiting) = (Instant::now() + every, 1, false);
    loop {
        terminal.draw(&view.lines(terminal.size()));
        if wish.times.is_some_and(|times| looks >= times) {
            return Ok(());
        }
        if !waiting && Instant::now() >= next {
            waiting = turns.send(()).is_ok();
        }
        // While an answer is awaited, its coming is an event.
        let pause =
            if waiting { every.max(Duration::from_secs(1)) } else { next.saturating_duration_since(Instant::now()) };
        match happened.recv_timeout(pause) {
            Ok(Event::End) => return Ok(()),
            Ok(Event::Key(key)) if ENDING_KEYS.contains(&key) => return Ok(()),
            Ok(Event::Key(b's' | b'S')) => view.order = (view.order + 1) % ORDERS.len(),
            Ok(Event::Key(_) | Event::Redraw) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Ok(answer) = answers.try_recv() {
            (waiting, looks, next) = (false, looks + 1, Instant::now() + every);
            view.take(answer);
        }
    }
}

/// Looks on a thread of its own, so that a sidecar that does not answer does not keep the keys waiting.
fn looker(
    look: impl Fn() -> Result<Value, Failure> + Send + 'static,
    events: Sender<Event>,
) -> (Sender<()>, Receiver<Result<Value, Failure>>) {
    let (turns, turn) = mpsc::channel::<()>();
    let (answered, answers) = mpsc::channel();
    std::thread::spawn(move || {
        while turn.recv().is_ok() {
            if answered.send(look()).is_err() || events.send(Event::Redraw).is_err() {
                return;
            }
        }
    });
    (turns, answers)
}

impl View {
    fn take(&mut self, answer: Result<Value, Failure>) {
        self.list = match answer {
            Ok(list) => {
                self.seen = Some(Instant::now());
                Ok(list)
            }
            Err(failure) => Err(failure.sentence()),
        };
    }

    /// The picture, for a window of so many rows and columns.
    fn lines(&self, (height, width): (usize, usize)) -> Vec<String> {
        let (sort, named) = ORDERS.get(self.order).copied().unwrap_or((Sort::Left, "time left"));
        let fit = |text: &str| text.chars().take(width).collect::<String>();
        let list = match &self.list {
            Ok(list) => list,
            Err(why) => {
                let since = self.seen.map_or(0, |seen| seen.elapsed().as_secs());
                return vec![fit(why), String::new(), fit(&format!("last seen {since} s ago; asking again, q ends"))];
            }
        };
        let sessions = table::sorted(list, sort);
        // Two lines above, one of titles, one below.
        let room = height.saturating_sub(4).max(1);
        let shown: Vec<&Value> = sessions.iter().copied().take(room).collect();
        let table = say::table(&table::rows(&shown));
        let mut lines = vec![
            fit(&format!("{}  epoch {}", words(field(list, "now")), number(field(list, "epoch")))),
            fit(&table::total(list)),
        ];
        for (row, line) in table.lines().enumerate() {
            let soon = row.checked_sub(1).and_then(|at| shown.get(at)).is_some_and(|session| table::ends_soon(session));
            let text = fit(line);
            lines.push(if soon { say::toned(&text, say::Tone::Warning) } else { text });
        }
        let hidden = match sessions.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!("and {more} more; "),
        };
        lines.push(fit(&format!("{hidden}by {named}: s sorts by something else, q ends")));
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    fn view(count: u64) -> View {
        let session = |id| json!({ "id": id, "identity": "uri:spiffe://td/a\u{1b}[2J", "age_seconds": id });
        let sessions: Vec<_> = (1..=count).map(session).collect();
        let list = json!({ "now": "2026-01-31T12:00:00Z", "epoch": 7, "sessions": sessions, "count": count });
        View { list: Ok(list), seen: Some(Instant::now()), order: 1 }
    }

    #[test]
    fn a_picture_fits_its_window_and_tells_what_does_not() {
        let lines = view(50).lines((10, 60));
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.chars().count() <= 60 && !line.contains('\u{1b}')), "{lines:#?}");
        assert_eq!(lines[0], "2026-01-31T12:00:00Z  epoch 7");
        assert!(lines[1].starts_with("sessions 50, clients 1,"), "{lines:#?}");
        assert!(lines[3].starts_with("50  "), "the oldest comes first: {lines:#?}");
        assert_eq!(lines[9], "and 44 more; by age: s sorts by something else, q ends");
        assert_eq!(view(0).lines((24, 80)).len(), 4);
        assert_eq!(view(3).lines((1, 8)).len(), 5, "one session is shown in the smallest window");
    }

    #[test]
    fn a_sidecar_that_is_away_is_told_and_asked_again() {
        let mut view = view(1);
        view.take(Err(Failure::Unreachable("unix:/x cannot be reached".to_owned())));
        let lines = view.lines((24, 80));
        assert_eq!(lines[0], "unix:/x cannot be reached");
        view.take(Ok(json!({ "now": "", "sessions": [], "count": 0 })));
        assert_eq!(view.lines((24, 80)).len(), 4);
    }
}
