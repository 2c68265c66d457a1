//! The CRLs that were accepted so far, and the rules of accepting them.
//!
//! Held by [`crate::Library`], which it serves alone. Within one issuer key and scope the newest wins in whatever
//! order files are read; nothing that is refused changes what is in force, and no CRL is ever forgotten.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use trust::{Bundle, Certificate, Crl, CrlForm, CrlScope, KeySet, List, Sha256, Snapshot, Time};

use crate::crl::{Facts, Order, number_text};
use crate::entries::{self, Entries};
use crate::library::CLOCK_SKEW;
use crate::moment::show;
use crate::outcome::SHOWN;
use crate::shelf::{DeltaCrl, Shelf, Standing, order_of};
use crate::signature::{Verdict, find_signer, is_algorithm_known};
use crate::waiting::Waiting;
use crate::{Accepted, Obstacle, Refused, UnverifiedCrl};

/// CRLs in force: a large authority splits into some hundred partitions.
pub const MAX_CRLS: usize = 1024;
/// Intermediates remembered from clients' chains, to verify the next CRLs of them.
pub const MAX_INTERMEDIATES: usize = 1024;

/// An issuer's key and one of its scopes, as `Facts::scope_id`.
type Place = (Sha256, Sha256);

/// A verified CRL that cannot be read.
#[derive(Clone, Debug)]
struct Unreadable {
    order: Order,
    is_delta: bool,
    digest: Sha256,
}

/// Every CRL accepted. A clone shares what is large.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crls {
    /// In order, so that of two entries for one certificate the same one is always named first.
    shelves: BTreeMap<Place, Shelf>,
    unreadable: BTreeMap<Place, Unreadable>,
    waiting: Waiting,
    intermediates: VecDeque<Arc<Certificate>>,
    /// Whether a CRL was ever accepted: from then on links need one.
    configured: bool,
    refusals: Vec<Refused>,
}

impl Crls {
    /// Takes in the CRLs of one file, each by itself.
    pub(crate) fn accept(&mut self, crls: Vec<UnverifiedCrl>, bundle: &Bundle, now: Time) -> Result<Accepted, Refused> {
        in_one(crls.into_iter().map(|crl| self.accept_crl(crl, bundle, Some(now))).collect())
    }

    /// Takes in CRLs that were accepted before a restart, by the same rules but two: a clock that was set back since
    /// then does not make them come from the future, because it must not bring older ones back; and one that cannot be
    /// read is what was there, so that it is no refusal to have it back.
    pub(crate) fn restore(&mut self, crls: Vec<UnverifiedCrl>, bundle: &Bundle) -> Result<Accepted, Refused> {
        let one = |crl| match self.accept_crl(crl, bundle, None) {
            Err(refused @ Refused::Unreadable { .. }) => Ok(Accepted::Changed(refused.to_string())),
            result => result,
        };
        in_one(crls.into_iter().map(one).collect())
    }

    /// See [`crate::Library::introduce`].
    pub(crate) fn introduce(&mut self, der: &[u8], bundle: &Bundle) -> bool {
        let Ok(certificate) = Certificate::parse(der) else { return false };
        if self.intermediates.iter().any(|known| known.fingerprint == certificate.fingerprint) {
            return false;
        }
        let name = Sha256::of(&certificate.subject);
        if self.intermediates.len() >= MAX_INTERMEDIATES {
            self.intermediates.pop_front();
        }
        self.intermediates.push_back(Arc::new(certificate));
        let waiting = self.waiting.take(|facts| facts.issuer_name == name);
        self.promote(waiting, bundle)
    }

    /// See [`crate::Library::rebase`].
    pub(crate) fn rebase(&mut self, bundle: &Bundle) -> bool {
        let waiting = self.waiting.take(|_| true);
        self.promote(waiting, bundle)
    }

    /// See [`crate::Library::take_refusals`].
    pub(crate) fn take_refusals(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refusals)
    }

    /// All of it, united with `lists`.
    pub(crate) fn unite(&self, lists: Vec<Arc<List>>) -> Snapshot {
        let crls: Vec<Arc<Crl>> = self.shelves.values().flat_map(Shelf::in_force).cloned().collect();
        let unreadable: HashSet<Sha256> = self.unreadable.keys().map(|(key, _)| *key).collect();
        let mut waiting = self.waiting.issuer_names();
        if self.configured && crls.is_empty() && unreadable.is_empty() && self.waiting.is_empty() {
            // The only CRL waited and then proved to be no good. Without it the snapshot would say that no CRL is
            // configured, and clear everybody; this name is nobody's, so it only keeps the need for one.
            waiting.insert(Sha256([0; 32]));
        }
        Snapshot::new(lists, crls, unreadable, waiting)
    }

    /// See [`crate::Library::crls_in_force`].
    pub(crate) fn in_force(&self) -> Vec<(Sha256, Sha256)> {
        let mut all = Vec::new();
        for (place, shelf) in &self.shelves {
            // A shelf's delta CRLs differ in their bases.
            all.extend(shelf.kept().map(|(base, digest)| match base {
                None => (place_name(place, b"complete", &[]), digest),
                Some(base) => (place_name(place, b"delta", base), digest),
            }));
        }
        all.extend(self.unreadable.iter().map(|(place, one)| (place_name(place, b"unreadable", &[]), one.digest)));
        all.extend(self.waiting.facts().map(|facts| {
            (place_name(&(facts.issuer_name, facts.scope_id), b"waiting", &facts.digest.0), facts.digest)
        }));
        all
    }

    fn accept_crl(&mut self, crl: UnverifiedCrl, bundle: &Bundle, now: Option<Time>) -> Result<Accepted, Refused> {
        let facts = crl.facts();
        let what = name_of(facts);
        if self.knows(&facts.digest) {
            return Ok(Accepted::Unchanged(sentence_of(facts)));
        }
        if let Some(now) = now.filter(|now| facts.order.this_update > now.plus(CLOCK_SKEW)) {
            return Err(Refused::FromTheFuture { what, issued_at: facts.order.this_update, now });
        }
        if !is_algorithm_known(&crl) {
            return Err(Refused::UnknownAlgorithm { what });
        }
        match self.find_signer(&crl, bundle) {
            Verdict::SignedBy(key) => self.take_in(crl, key),
            Verdict::NotEntitled => Err(Refused::NotEntitled { what }),
            Verdict::BadSignature => Err(Refused::BadSignature { what }),
            Verdict::UnknownIssuer => {
                let sentence = sentence_of(facts);
                self.waiting.add(crl, &what)?;
                self.configured = true;
                let until = "until its issuer's certificate comes, with the bundle or with a client's chain";
                Ok(Accepted::Waiting(format!("{sentence}, {until}")))
            }
        }
    }

    fn knows(&self, digest: &Sha256) -> bool {
        self.shelves.values().flat_map(Shelf::kept).any(|(_, kept)| kept == *digest)
            || self.unreadable.values().any(|one| one.digest == *digest)
            || self.waiting.knows(digest)
    }

    fn find_signer(&self, crl: &UnverifiedCrl, bundle: &Bundle) -> Verdict {
        let anchors = bundle.anchors().map(|anchor| &anchor.certificate);
        find_signer(crl, anchors.chain(self.intermediates.iter().map(|one| &**one)))
    }

    /// Tries again with CRLs that waited.
    fn promote(&mut self, waited: Vec<UnverifiedCrl>, bundle: &Bundle) -> bool {
        let mut changed = false;
        for crl in waited {
            let what = name_of(crl.facts());
            let refused = match self.find_signer(&crl, bundle) {
                Verdict::UnknownIssuer => {
                    self.waiting.put_back(crl);
                    continue;
                }
                Verdict::SignedBy(key) => self.take_in(crl, key).err(),
                Verdict::NotEntitled => Some(Refused::NotEntitled { what }),
                Verdict::BadSignature => Some(Refused::BadSignature { what }),
            };
            self.refusals.extend(refused);
            // Whatever came of it, the CRL waits no longer, and that is news too.
            changed = true;
        }
        changed
    }

    /// Takes in a CRL that the holder of `key` signed.
    fn take_in(&mut self, crl: UnverifiedCrl, key: Sha256) -> Result<Accepted, Refused> {
        let facts = crl.facts().clone();
        let what = name_of(&facts);
        let place = (key, facts.scope_id);
        if let Some(obstacle) = facts.obstacle.clone() {
            return self.mark(place, facts, obstacle);
        }
        let shelf = self.shelves.get(&place);
        match shelf.map_or(Standing::New, |shelf| shelf.standing(&facts)) {
            Standing::New => {}
            Standing::Older(in_force) => return Err(older(what, &facts.order, &in_force)),
            Standing::SameNumber => return Err(Refused::SameNumber { what, number: facts.order.to_string() }),
            Standing::Contained => {
                return Ok(Accepted::Unchanged(format!("{}, as in the complete one", sentence_of(&facts))));
            }
        }
        if shelf.is_none_or(|shelf| shelf.grows_by(&facts)) {
            self.check_room(&what)?;
        }
        let found = match entries::read(crl.entries(), &key, facts.base.is_some()) {
            Ok(found) => found,
            Err(entries::Flaw::Obstacle(obstacle)) => return self.mark(place, facts, obstacle),
            Err(entries::Flaw::Malformed(flaw)) => return Err(Refused::Malformed { what, why: flaw.to_string() }),
        };
        // The bytes go before the keys are indexed: the two need not be in memory together.
        drop(crl);
        self.put(place, facts, found)
    }

    /// Puts a verified and readable CRL where it belongs.
    fn put(&mut self, place: Place, facts: Facts, found: Entries) -> Result<Accepted, Refused> {
        let too_many = || Refused::TooMany { what: name_of(&facts), limit: "2³² − 1 entries".to_owned() };
        let serials = Arc::new(KeySet::new(found.revoked).ok_or_else(too_many)?);
        let mut sentence = format!("{}, {} entries", sentence_of(&facts), serials.len() + found.taken_back.len());
        let shelf = self.shelves.entry(place).or_default();
        let crl = Crl {
            issuer_key: place.0,
            scope: facts.scope,
            number: facts.order.number,
            digest: facts.digest,
            this_update: facts.order.this_update,
            next_update: facts.next_update,
            serials,
            form: if facts.base.is_some() { CrlForm::DeltaAlone } else { CrlForm::Complete },
        };
        let mut waits = None;
        if let Some(base) = facts.base {
            let until = number_text(&base);
            let taken_back = found.taken_back.into_boxed_slice();
            if !shelf.put_delta(DeltaCrl { alone: Arc::new(crl), base, taken_back }) {
                waits = Some(until);
            }
        } else {
            shelf.put_complete(crl, facts.numbered);
        }
        if waits.is_none() {
            sentence.push_str(&combination_of(shelf));
        }
        let clearing = shelf.clearing().cloned();
        self.configured = true;
        if let Some(clearing) = clearing {
            self.unreadable.retain(|other, one| other.0 != place.0 || !supersedes(&clearing, *other == place, one));
        }
        Ok(match waits {
            None => Accepted::Changed(sentence),
            Some(base) => Accepted::Waiting(format!(
                "{sentence}, until a complete CRL with CRLNumber {base} or higher comes; what it revokes is revoked now"
            )),
        })
    }

    /// Makes the issuer's status unknown, unless something newer is known.
    fn mark(&mut self, place: Place, facts: Facts, obstacle: Obstacle) -> Result<Accepted, Refused> {
        let what = name_of(&facts);
        let number = facts.order.to_string();
        let Facts { order, base, digest, .. } = facts;
        let mark = Unreadable { order, is_delta: base.is_some(), digest };
        for (other, shelf) in self.shelves.iter().filter(|(other, _)| other.0 == place.0) {
            let clearing = shelf.clearing().filter(|clearing| supersedes(clearing, *other == place, &mark));
            if let Some(clearing) = clearing {
                return Err(older(what, &mark.order, &order_of(clearing)));
            }
        }
        match self.unreadable.get(&place) {
            Some(known) => {
                let by_order = mark.order.compare(&known.order);
                // Of one number the complete CRL is the greater obstacle: another delta CRL's base makes up for less.
                if by_order == Ordering::Less || (by_order == Ordering::Equal && mark.is_delta && !known.is_delta) {
                    return Err(older(what, &mark.order, &known.order));
                }
            }
            None => self.check_room(&what)?,
        }
        self.unreadable.insert(place, mark);
        self.configured = true;
        Err(Refused::Unreadable { what, number, obstacle })
    }

    fn check_room(&self, what: &str) -> Result<(), Refused> {
        let kept: usize = self.shelves.values().map(|shelf| shelf.kept().count()).sum();
        if kept + self.unreadable.len() < MAX_CRLS {
            return Ok(());
        }
        Err(Refused::TooMany { what: what.to_owned(), limit: format!("{MAX_CRLS} CRLs") })
    }
}

/// Whether a CRL that can clear makes up for one that cannot be read: a newer one of the same scope, or of everybody.
/// A complete CRL also holds all that a delta CRL of its own number says (RFC 5280 §5.2.4).
fn supersedes(clearing: &Crl, same_scope: bool, unreadable: &Unreadable) -> bool {
    let order = order_of(clearing);
    let by_order = order.compare(&unreadable.order);
    if same_scope {
        let is_whole = matches!(clearing.form, CrlForm::Complete);
        return by_order == Ordering::Greater || (by_order == Ordering::Equal && unreadable.is_delta && is_whole);
    }
    // Numbers of different scopes may be counted apart, so the dates must agree with them.
    clearing.scope == CrlScope::FULL
        && by_order == Ordering::Greater
        && order.this_update >= unreadable.order.this_update
}

/// The name of a place under which its CRL can be kept over a restart: the same in every run.
fn place_name(place: &Place, kind: &[u8], beyond: &[u8]) -> Sha256 {
    // The parts before `beyond` are of one length for each kind, and no kind is the beginning of another.
    let place = [place.0.0, place.1.0].concat();
    Sha256::of_two(&place, &[kind, beyond].concat())
}

fn older(what: String, offered: &Order, in_force: &Order) -> Refused {
    Refused::Older { what, offered: offered.to_string(), in_force: in_force.to_string() }
}

fn name_of(facts: &Facts) -> String {
    let kind = if facts.base.is_some() { "delta CRL" } else { "CRL" };
    format!("the {kind} of {:?}", facts.issuer)
}

fn sentence_of(facts: &Facts) -> String {
    let (kind, base) = match &facts.base {
        Some(base) => ("delta CRL", format!(" since {}", number_text(base))),
        None => ("CRL", String::new()),
    };
    format!("{kind} of {:?}, {}{base}, next update {}", facts.issuer, facts.order, show(facts.next_update))
}

/// What is in force now that a CRL or its delta CRL came.
fn combination_of(shelf: &Shelf) -> String {
    let Some((crl, delta)) = shelf.clearing().zip(shelf.combined()) else { return String::new() };
    let stays = match delta.refused() {
        0 => String::new(),
        stay => format!(", and {stay} stay revoked that it takes back, because they were not on hold"),
    };
    format!(
        "; together {}, {} entries, next update {} ({} taken back{stays})",
        order_of(crl),
        crl.entries(),
        show(crl.next_update),
        delta.removed()
    )
}

/// One answer for the CRLs of one file.
fn in_one(mut results: Vec<Result<Accepted, Refused>>) -> Result<Accepted, Refused> {
    if results.len() <= 1 {
        return results.pop().unwrap_or_else(|| Ok(Accepted::Unchanged("no CRL".to_owned())));
    }
    let of = results.len();
    let changed = results.iter().any(|result| result.as_ref().map_or_else(Refused::changed, Accepted::changed));
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => accepted.push(one),
            Err(one) => refused.push(one),
        }
    }
    let mut refused = refused.into_iter();
    if let Some(first) = refused.next() {
        return Err(Refused::InPart { first: Box::new(first), rest: refused.collect(), of, changed });
    }
    let waits = accepted.iter().any(|one| matches!(one, Accepted::Waiting(_)));
    let all: Vec<String> = accepted.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if of > SHOWN { format!("; and {} more", of - SHOWN) } else { String::new() };
    let text = format!("{of} CRLs: {}{more}", all.join("; "));
    Ok(match (waits, changed) {
        (true, _) => Accepted::Waiting(text),
        (false, true) => Accepted::Changed(text),
        (false, false) => Accepted::Unchanged(text),
    })
}
