//! All revocation knowledge that was accepted so far, and the rules of accepting.
//!
//! Owned by `sources`, off the workers. Within one list name, and one CRL issuer key and scope, the newest wins in
//! whatever order files are read; nothing that is refused changes what is in force. It must never forget: a file
//! that vanished stays in force, and grows old.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use trust::{Bundle, Certificate, Crl, CrlScope, KeySet, List, Sha256, Snapshot, Time};

use crate::crl::{Facts, Order};
use crate::moment::show;
use crate::outcome::SHOWN;
use crate::signature::{Verdict, find_signer, is_algorithm_known};
use crate::waiting::Waiting;
use crate::{Accepted, Material, Obstacle, Refused, UnverifiedCrl, entries};

/// Lists in force: each costs every judgement a few look-ups.
pub const MAX_LISTS: usize = 256;
/// CRLs in force: a large authority splits into some hundred partitions.
pub const MAX_CRLS: usize = 1024;
/// Intermediates remembered from clients' chains, to verify the next CRLs of them.
pub const MAX_INTERMEDIATES: usize = 1024;
/// How far the publisher's clock may be ahead of ours: what Kerberos allows, and NTP keeps far below.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A verified CRL that cannot be read.
#[derive(Debug)]
struct Unreadable {
    order: Order,
    digest: Sha256,
    obstacle: Obstacle,
}

/// Everything accepted.
#[derive(Debug, Default)]
pub struct Library {
    lists: BTreeMap<Arc<str>, Arc<List>>,
    crls: HashMap<(Sha256, CrlScope), Arc<Crl>>,
    unreadable: HashMap<(Sha256, CrlScope), Unreadable>,
    waiting: Waiting,
    intermediates: VecDeque<Certificate>,
    /// Whether a CRL was ever accepted: from then on links need one.
    crls_configured: bool,
    refusals: Vec<Refused>,
    snapshot: Option<Arc<Snapshot>>,
}

impl Library {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Library {
        Library::default()
    }

    /// Takes in what one file holds. CRLs are verified against the anchors of `bundle` and the intermediates
    /// introduced so far; of several CRLs in one file each is taken in or refused by itself, because one file
    /// often holds the CRLs of all authorities.
    ///
    /// A CRL past its nextUpdate is accepted if none newer is in force: what it revokes is revoked, while it
    /// clears nobody ([`trust::Denial::SnapshotOutdated`]).
    pub fn accept(&mut self, material: Material, bundle: &Bundle, now: Time) -> Result<Accepted, Refused> {
        let result = match material {
            Material::List(list) => self.accept_list(list, now),
            Material::Crls(crls) => {
                let results = crls.into_iter().map(|crl| self.accept_crl(crl, bundle, now)).collect();
                in_one(results)
            }
        };
        if result.as_ref().map_or_else(Refused::changed, Accepted::changed) {
            self.renew();
        }
        result
    }

    /// An intermediate was seen in a verified path (so the caller says): CRLs that wait for it are verified and
    /// taken in. True if there is a new snapshot to publish.
    pub fn introduce(&mut self, der: &[u8], bundle: &Bundle, _now: Time) -> bool {
        let Ok(certificate) = Certificate::parse(der) else { return false };
        if self.intermediates.iter().any(|known| known.fingerprint == certificate.fingerprint) {
            return false;
        }
        let name = Sha256::of(&certificate.subject);
        if self.intermediates.len() >= MAX_INTERMEDIATES {
            self.intermediates.pop_front();
        }
        self.intermediates.push_back(certificate);
        let waiting = self.waiting.take(|facts| facts.issuer_name == name);
        self.promote(waiting, bundle)
    }

    /// The bundle changed: CRLs that wait may find their issuer in it. Those in force stay. True if there is a new
    /// snapshot to publish.
    pub fn rebase(&mut self, bundle: &Bundle) -> bool {
        let waiting = self.waiting.take(|_| true);
        self.promote(waiting, bundle)
    }

    /// All of it; `None` while nothing was ever accepted. The same `Arc` as long as nothing changed.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// What was refused after it had waited, since this was last asked: nobody was there to be told.
    pub fn take_refusals(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refusals)
    }

    fn accept_list(&mut self, list: List, now: Time) -> Result<Accepted, Refused> {
        let what = format!("the list {}", list.name);
        let sentence = format!(
            "list {}, sequence {}, {} entries, expires {}",
            list.name,
            list.sequence,
            list.selectors.len(),
            show(list.expires_at)
        );
        if let Some(known) = self.lists.get(&list.name) {
            if known.digest == list.digest {
                return Ok(Accepted::Unchanged(sentence));
            }
            let number = |sequence: u64| format!("sequence {sequence}");
            match list.sequence.cmp(&known.sequence) {
                Ordering::Less => {
                    let (offered, in_force) = (number(list.sequence), number(known.sequence));
                    return Err(Refused::Older { what, offered, in_force });
                }
                Ordering::Equal => return Err(Refused::SameNumber { what, number: number(list.sequence) }),
                Ordering::Greater => {}
            }
        } else if self.lists.len() >= MAX_LISTS {
            return Err(Refused::TooMany { what, limit: format!("{MAX_LISTS} lists") });
        }
        if list.issued_at > now.plus(CLOCK_SKEW) {
            return Err(Refused::FromTheFuture { what, issued_at: list.issued_at, now });
        }
        if list.expires_at <= now {
            return Err(Refused::Expired { what, expires_at: list.expires_at });
        }
        self.lists.insert(list.name.clone(), Arc::new(list));
        Ok(Accepted::Changed(sentence))
    }

    fn accept_crl(&mut self, crl: UnverifiedCrl, bundle: &Bundle, now: Time) -> Result<Accepted, Refused> {
        let facts = crl.facts();
        let what = name_of(facts);
        if self.knows(&facts.digest) {
            return Ok(Accepted::Unchanged(sentence_of(facts)));
        }
        if facts.order.this_update > now.plus(CLOCK_SKEW) {
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
                self.crls_configured = true;
                Ok(Accepted::Waiting(sentence))
            }
        }
    }

    fn knows(&self, digest: &Sha256) -> bool {
        self.crls.values().any(|crl| crl.digest == *digest)
            || self.unreadable.values().any(|one| one.digest == *digest)
            || self.waiting.knows(digest)
    }

    fn find_signer(&self, crl: &UnverifiedCrl, bundle: &Bundle) -> Verdict {
        let anchors = bundle.anchors().map(|anchor| &anchor.certificate);
        find_signer(crl, anchors.chain(&self.intermediates))
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
        if changed {
            self.renew();
        }
        changed
    }

    /// Takes in a CRL that the holder of `key` signed.
    fn take_in(&mut self, crl: UnverifiedCrl, key: Sha256) -> Result<Accepted, Refused> {
        let facts = crl.facts().clone();
        let what = name_of(&facts);
        let place = (key, facts.scope.clone());
        if let Some(obstacle) = facts.obstacle.clone() {
            return self.mark(place, facts, obstacle);
        }
        if let Some(known) = self.crls.get(&place) {
            let in_force = order_of(known);
            match facts.order.compare(&in_force) {
                Ordering::Less => return Err(older(what, &facts.order, &in_force)),
                Ordering::Equal => return Err(Refused::SameNumber { what, number: facts.order.to_string() }),
                Ordering::Greater => {}
            }
        } else {
            self.check_room(&what)?;
        }
        let keys = match entries::keys(crl.entries(), &key) {
            Ok(keys) => keys,
            Err(entries::Flaw::Obstacle(obstacle)) => return self.mark(place, facts, obstacle),
            Err(entries::Flaw::Malformed(flaw)) => return Err(Refused::Malformed { what, why: flaw.to_string() }),
        };
        // The bytes go before the keys are indexed: the two need not be in memory together.
        drop(crl);
        let too_many = || Refused::TooMany { what, limit: "2³² − 1 entries".to_owned() };
        let serials = KeySet::new(keys).ok_or_else(too_many)?;
        let sentence = format!("{}, {} entries", sentence_of(&facts), serials.len());
        self.unreadable.retain(|(issuer, scope), one| {
            *issuer != key || !supersedes((&facts.order, &facts.scope), (&one.order, scope, &one.obstacle))
        });
        let crl = Crl {
            issuer_key: key,
            scope: facts.scope,
            number: facts.order.number,
            digest: facts.digest,
            this_update: facts.order.this_update,
            next_update: facts.next_update,
            serials,
        };
        self.crls.insert(place, Arc::new(crl));
        self.crls_configured = true;
        Ok(Accepted::Changed(sentence))
    }

    /// Makes the issuer's status unknown, unless something newer is known.
    fn mark(&mut self, place: (Sha256, CrlScope), facts: Facts, obstacle: Obstacle) -> Result<Accepted, Refused> {
        let what = name_of(&facts);
        let readable = self.crls.values().filter(|crl| crl.issuer_key == place.0);
        for crl in readable {
            let in_force = order_of(crl);
            if supersedes((&in_force, &crl.scope), (&facts.order, &facts.scope, &obstacle)) {
                return Err(older(what, &facts.order, &in_force));
            }
        }
        match self.unreadable.get(&place) {
            Some(known) if facts.order.compare(&known.order) == Ordering::Less => {
                return Err(older(what, &facts.order, &known.order));
            }
            Some(_) => {}
            None => self.check_room(&what)?,
        }
        let number = facts.order.to_string();
        let mark = Unreadable { order: facts.order, digest: facts.digest, obstacle: obstacle.clone() };
        self.unreadable.insert(place, mark);
        self.crls_configured = true;
        Err(Refused::Unreadable { what, number, obstacle })
    }

    fn check_room(&self, what: &str) -> Result<(), Refused> {
        if self.crls.len() + self.unreadable.len() < MAX_CRLS {
            return Ok(());
        }
        Err(Refused::TooMany { what: what.to_owned(), limit: format!("{MAX_CRLS} CRLs") })
    }

    fn renew(&mut self) {
        let unreadable: HashSet<Sha256> = self.unreadable.keys().map(|(key, _)| *key).collect();
        let mut waiting = self.waiting.issuer_names();
        if self.crls_configured && self.crls.is_empty() && unreadable.is_empty() && self.waiting.is_empty() {
            // The only CRL waited and then proved to be no good. Without it the snapshot would say that no CRL is
            // configured, and clear everybody; this name is nobody's, so it only keeps the need for one.
            waiting.insert(Sha256([0; 32]));
        }
        let lists = self.lists.values().cloned().collect();
        let crls = self.crls.values().cloned().collect();
        self.snapshot = Some(Arc::new(Snapshot::new(lists, crls, unreadable, waiting)));
    }
}

/// Whether a readable CRL makes up for one that cannot be read: a newer one of the same scope, or of everybody.
/// A full CRL also holds all that a delta CRL of its own number says (RFC 5280 §5.2.4).
fn supersedes(readable: (&Order, &CrlScope), unreadable: (&Order, &CrlScope, &Obstacle)) -> bool {
    let by_order = readable.0.compare(unreadable.0);
    if readable.1 == unreadable.1 {
        return by_order == Ordering::Greater || (by_order == Ordering::Equal && *unreadable.2 == Obstacle::Delta);
    }
    // Numbers of different scopes may be counted apart, so the dates must agree with them.
    *readable.1 == CrlScope::FULL && by_order == Ordering::Greater && readable.0.this_update >= unreadable.0.this_update
}

fn order_of(crl: &Crl) -> Order {
    Order { number: crl.number.clone(), this_update: crl.this_update }
}

fn older(what: String, offered: &Order, in_force: &Order) -> Refused {
    Refused::Older { what, offered: offered.to_string(), in_force: in_force.to_string() }
}

fn name_of(facts: &Facts) -> String {
    format!("the CRL of {:?}", facts.issuer)
}

fn sentence_of(facts: &Facts) -> String {
    format!("CRL of {:?}, {}, next update {}", facts.issuer, facts.order, show(facts.next_update))
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
