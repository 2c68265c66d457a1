//! The lists that were accepted so far, and the rules of accepting them.
//!
//! Held by [`crate::Library`], which it serves alone. Of one name and mode the highest sequence wins in whatever order
//! files are read. A list that only observes never takes the place of one that acts, and no list is ever forgotten.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use trust::{List, Mode, Time};

use crate::library::CLOCK_SKEW;
use crate::moment::show;
use crate::{Accepted, Provenance, ReadList, Refused, Requirements};

/// Lists in force: each costs every judgement a few look-ups.
pub const MAX_LISTS: usize = 256;
/// How far an unsigned list may be ahead of the one in force. More is no publisher that counts, but somebody who wants
/// that no later one is taken any more; of those who hold the keys it is believed.
pub const MAX_JUMP: u64 = 1_000_000_000;

/// Every list accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    lists: BTreeMap<(Arc<str>, Mode), Held>,
    requirements: Requirements,
}

#[derive(Clone, Debug)]
struct Held {
    list: Arc<List>,
    provenance: Arc<Provenance>,
    /// An operator took the floor away: any list replaces this one.
    floor_reset: bool,
}

impl Lists {
    /// None yet.
    pub(crate) fn new(requirements: Requirements) -> Lists {
        Lists { lists: BTreeMap::new(), requirements }
    }

    /// Takes in a list that is current at `now`, or serves past its expiry.
    pub(crate) fn accept(&mut self, read: ReadList, now: Time) -> Result<Accepted, Refused> {
        self.take_in(read, Some(now))
    }

    /// Takes in a list that was accepted before a restart, expired or not. Against a clock set back it stays too: it
    /// would otherwise give way to an older one.
    pub(crate) fn restore(&mut self, read: ReadList) -> Result<Accepted, Refused> {
        self.take_in(read, None)
    }

    /// See [`crate::Library::provenance`].
    pub(crate) fn provenance(&self, name: &str, mode: Mode) -> Option<&Provenance> {
        self.lists.get(&(Arc::from(name), mode)).map(|held| &*held.provenance)
    }

    /// See [`crate::Library::reset_floor`].
    pub(crate) fn reset_floor(&mut self, name: &str) -> Vec<(Mode, u64)> {
        let named = self.lists.iter_mut().filter(|((known, _), _)| **known == *name);
        let mut floors = Vec::new();
        for ((_, mode), held) in named {
            held.floor_reset = true;
            floors.push((*mode, held.list.sequence));
        }
        floors
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<List>> {
        self.lists.values().map(|held| Arc::clone(&held.list)).collect()
    }

    fn take_in(&mut self, read: ReadList, now: Option<Time>) -> Result<Accepted, Refused> {
        let ReadList { list, provenance } = read;
        let (what, sentence) = (name_of(&list), sentence_of(&list));
        let required = self.requirements.keys.as_ref().map(|keys| keys.id());
        if required.is_some() && provenance.key_set != required {
            return Err(Refused::Unsigned { what });
        }
        let place = (list.name.clone(), list.mode);
        if let Some(held) = self.lists.get(&place) {
            if held.list.digest == list.digest || held.provenance.content == provenance.content {
                return Ok(Accepted::Unchanged(sentence));
            }
            // A floor binds only within one set of keys: a new set begins anew.
            if !held.floor_reset && held.provenance.key_set == provenance.key_set {
                check_order(&what, list.sequence, held.list.sequence, &provenance)?;
            }
        } else if self.lists.len() >= MAX_LISTS {
            return Err(Refused::TooMany { what, limit: format!("{MAX_LISTS} lists") });
        }
        if let Some(now) = now {
            if list.issued_at > now.plus(CLOCK_SKEW) {
                return Err(Refused::FromTheFuture { what, issued_at: list.issued_at, now });
            }
            // An older one that is in force would serve as long as this one, and know less.
            if self.requirements.stale.end(list.expires_at) <= now {
                return Err(Refused::Expired { what, expires_at: list.expires_at });
            }
        }
        let held = Held { list: Arc::new(list), provenance: Arc::new(provenance), floor_reset: false };
        self.lists.insert(place, held);
        Ok(Accepted::Changed(sentence))
    }
}

fn check_order(what: &str, offered: u64, in_force: u64, provenance: &Provenance) -> Result<(), Refused> {
    let what = what.to_owned();
    let number = |sequence: u64| format!("sequence {sequence}");
    match offered.cmp(&in_force) {
        Ordering::Less => Err(Refused::Older { what, offered: number(offered), in_force: number(in_force) }),
        Ordering::Equal => Err(Refused::SameNumber { what, number: number(offered) }),
        Ordering::Greater if provenance.key_set.is_none() && offered.saturating_sub(in_force) > MAX_JUMP => {
            Err(Refused::AbsurdJump { what, offered: number(offered), in_force: number(in_force) })
        }
        Ordering::Greater => Ok(()),
    }
}

fn name_of(list: &List) -> String {
    match list.mode {
        Mode::Enforce => format!("the list {}", list.name),
        Mode::Observe => format!("the observing list {}", list.name),
    }
}

fn sentence_of(list: &List) -> String {
    let observed = match (list.mode, list.observed.len()) {
        (Mode::Enforce, 0) => String::new(),
        (Mode::Enforce, count) => format!(" and {count} only observed"),
        (Mode::Observe, _) => ", all only observed".to_owned(),
    };
    let entries = match list.mode {
        Mode::Enforce => list.selectors.len(),
        Mode::Observe => list.observed.len(),
    };
    let (name, sequence, expires_at) = (&list.name, list.sequence, show(list.expires_at));
    format!("list {name}, sequence {sequence}, {entries} entries{observed}, expires {expires_at}")
}
