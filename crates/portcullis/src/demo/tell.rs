//! The lines of the story: when, who, what; and whether every step happened.
//!
//! Used by every other file of the demo. It must never decide what a step needs: it is told.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::print;

/// Who a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The demo itself.
    Demo,
    /// The app.
    App,
    /// The proxy.
    Proxy,
    /// A client.
    Alice,
    /// A client.
    Bob,
    /// A client whose certificate ends soon.
    Carol,
    /// A client without a certificate.
    Stranger,
}

impl Who {
    /// The name in the line, and the colour of a terminal (ECMA-48 SGR).
    fn looks(self) -> (&'static str, u8) {
        match self {
            Who::Demo => ("demo", 90),
            Who::App => ("app", 34),
            Who::Proxy => ("proxy", 36),
            Who::Alice => ("alice", 33),
            Who::Bob => ("bob", 32),
            Who::Carol => ("carol", 35),
            Who::Stranger => ("stranger", 90),
        }
    }
}

/// Tells the story.
pub(super) struct Teller {
    began: Instant,
    colours: bool,
    failed: Cell<u32>,
}

impl Teller {
    /// The clock of the story starts now.
    pub(super) fn new(colours: bool) -> Teller {
        Teller { began: Instant::now(), colours, failed: Cell::new(0) }
    }

    /// Something that is so.
    pub(super) fn say(&self, who: Who, text: &str) {
        self.line(who, text, None);
    }

    /// A step that must happen: what it gave, or `None` after saying that it did not.
    pub(super) fn step<T>(&self, who: Who, outcome: Result<(T, String), String>) -> Option<T> {
        match outcome {
            Ok((value, text)) => {
                self.line(who, &text, None);
                Some(value)
            }
            Err(why) => {
                self.failed.set(self.failed.get().saturating_add(1));
                self.line(who, &format!("DID NOT HAPPEN: {why}"), Some(31));
                None
            }
        }
    }

    /// How many steps did not happen.
    pub(super) fn failed(&self) -> u32 {
        self.failed.get()
    }

    fn line(&self, who: Who, text: &str, colour: Option<u8>) {
        let (name, own) = who.looks();
        let at = self.began.elapsed().as_secs_f64();
        if self.colours {
            let (name_colour, text_colour) = (own, colour.unwrap_or(0));
            print::out(&format!(
                "\x1b[90m{at:8.3} s\x1b[0m  \x1b[{name_colour}m{name:<9}\x1b[0m \x1b[{text_colour}m{text}\x1b[0m\n"
            ));
        } else {
            print::out(&format!("{at:8.3} s  {name:<9} {text}\n"));
        }
    }
}

/// A short time in milliseconds, as exactly as it means something.
pub(super) fn millis(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}
