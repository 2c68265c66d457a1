//! The CRLs of one issuer key and one scope: the newest complete one, and the delta CRLs beside it.
//!
//! Held by `crls.rs`. What is in force depends on which CRLs came, not on their order. A delta CRL that cannot be
//! combined still revokes; it never clears anybody.
//!
//! Of delta CRLs only those stay that some complete CRL could make the newest: one is of no use any more if another
//! is newer and needs no newer complete CRL. A delta CRL is never combined with the result of another one; RFC 5280
//! §5.2.4 has the issuer publish each base as a complete CRL, and two steps would let one mistake grow.

use std::cmp::Ordering;
use std::sync::Arc;

use trust::{Crl, CrlForm, Delta, Sha256};

use crate::crl::{Facts, Order, compare_numbers};

/// A verified delta CRL.
#[derive(Debug)]
pub(crate) struct DeltaCrl {
    /// As it is in force while it waits.
    pub(crate) alone: Arc<Crl>,
    /// BaseCRLNumber, as `Order::number`.
    pub(crate) base: Box<[u8]>,
    /// Keys that it names with removeFromCRL.
    pub(crate) taken_back: Box<[u128]>,
}

impl DeltaCrl {
    fn number(&self) -> &[u8] {
        &self.alone.number
    }
}

/// What to do with a CRL that is offered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Take it.
    New,
    /// One that makes it useless is there.
    Older(Order),
    /// Another one of its number is there.
    SameNumber,
    /// The complete CRL of its number is there, and says the same.
    Contained,
}

/// All that is known about one scope.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    complete: Option<Arc<Crl>>,
    /// Whether the complete CRL has a CRLNumber: without one nobody can tell what a delta CRL adds to it.
    numbered: bool,
    /// Oldest first.
    deltas: Vec<Arc<DeltaCrl>>,
    in_force: Vec<Arc<Crl>>,
}

impl Shelf {
    /// What is in force: the complete CRL, combined with its delta CRL if there is one, and delta CRLs that wait.
    pub(crate) fn in_force(&self) -> &[Arc<Crl>] {
        &self.in_force
    }

    /// The one that can clear: complete, or made so.
    pub(crate) fn clearing(&self) -> Option<&Arc<Crl>> {
        self.in_force.first().filter(|crl| crl.is_complete())
    }

    /// Each CRL it keeps: BaseCRLNumber of a delta CRL, and digest.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (Option<&[u8]>, Sha256)> {
        let deltas = self.deltas.iter().map(|delta| (Some(&*delta.base), delta.alone.digest));
        self.complete.iter().map(|crl| (None, crl.digest)).chain(deltas)
    }

    /// How a verified CRL of this scope stands to those that are here.
    pub(crate) fn standing(&self, facts: &Facts) -> Standing {
        match &facts.base {
            Some(base) => self.standing_of_delta(&facts.order, base),
            None => {
                let Some(known) = &self.complete else { return Standing::New };
                let known = order_of(known);
                match facts.order.compare(&known) {
                    Ordering::Less => Standing::Older(known),
                    Ordering::Equal => Standing::SameNumber,
                    Ordering::Greater => Standing::New,
                }
            }
        }
    }

    fn standing_of_delta(&self, order: &Order, base: &[u8]) -> Standing {
        if let Some((number, complete)) = self.number().zip(self.complete.as_ref()) {
            match compare_numbers(&order.number, number) {
                Ordering::Less => return Standing::Older(order_of(complete)),
                Ordering::Equal => return Standing::Contained,
                Ordering::Greater => {}
            }
        }
        if self.deltas.iter().any(|known| *known.number() == *order.number) {
            return Standing::SameNumber;
        }
        let better =
            self.deltas.iter().find(|known| self.replaces((known.number(), &known.base), (&order.number, base)));
        better.map_or(Standing::New, |known| Standing::Older(order_of(&known.alone)))
    }

    /// Whether one more CRL stays here if this one is taken.
    pub(crate) fn grows_by(&self, facts: &Facts) -> bool {
        match &facts.base {
            None => self.complete.is_none(),
            Some(base) => {
                let new = (&*facts.order.number, &**base);
                !self.deltas.iter().any(|known| self.replaces(new, (known.number(), &known.base)))
            }
        }
    }

    /// Takes a complete CRL that is [`Standing::New`].
    pub(crate) fn put_complete(&mut self, crl: Crl, numbered: bool) {
        self.complete = Some(Arc::new(crl));
        self.numbered = numbered;
        self.settle();
    }

    /// Takes a delta CRL that is [`Standing::New`]. True if it is in force in full; otherwise it waits.
    pub(crate) fn put_delta(&mut self, delta: DeltaCrl) -> bool {
        let digest = delta.alone.digest;
        self.deltas.push(Arc::new(delta));
        self.settle();
        self.combined().is_some_and(|combined| combined.digest == digest)
    }

    /// The changes of the delta CRL that is combined with the complete one.
    pub(crate) fn combined(&self) -> Option<&Delta> {
        match &self.in_force.first()?.form {
            CrlForm::Combined(delta) => Some(delta),
            CrlForm::Complete | CrlForm::DeltaAlone => None,
        }
    }

    /// CRLNumber of the complete CRL, if it has one.
    fn number(&self) -> Option<&[u8]> {
        self.complete.as_ref().filter(|_| self.numbered).map(|crl| &*crl.number)
    }

    /// RFC 5280 §5.2.4 (c); (d) holds for all that are kept, (a) and (b) for all on one shelf.
    fn applies(&self, base: &[u8]) -> bool {
        self.number().is_some_and(|number| compare_numbers(base, number) != Ordering::Greater)
    }

    /// Whether one delta CRL, by number and base, makes an older one useless: whatever complete CRL comes, if the older one can be
    /// combined with it, so can the newer one.
    fn replaces(&self, newer: (&[u8], &[u8]), older: (&[u8], &[u8])) -> bool {
        let needs_no_more = self.applies(newer.1) || compare_numbers(newer.1, older.1) != Ordering::Greater;
        compare_numbers(newer.0, older.0) == Ordering::Greater && needs_no_more
    }

    /// Drops what became useless and works out what is in force.
    fn settle(&mut self) {
        let mut deltas = std::mem::take(&mut self.deltas);
        if let Some(number) = self.number() {
            deltas.retain(|delta| compare_numbers(delta.number(), number) == Ordering::Greater);
        }
        deltas.sort_by(|one, other| compare_numbers(one.number(), other.number()));
        let mut kept: Vec<Arc<DeltaCrl>> = Vec::with_capacity(deltas.len());
        for delta in deltas.into_iter().rev() {
            // Of those kept so far the last needs the least, so it alone can make this one useless.
            let last = kept.last().map(|newer| (newer.number(), &*newer.base));
            if !last.is_some_and(|newer| self.replaces(newer, (delta.number(), &*delta.base))) {
                kept.push(delta);
            }
        }
        kept.reverse();
        self.deltas = kept;

        let (apply, wait): (Vec<_>, Vec<_>) = self.deltas.iter().partition(|delta| self.applies(&delta.base));
        let complete = self.complete.as_ref().map(|complete| match apply.last() {
            Some(delta) => Arc::new(combine(complete, delta)),
            None => complete.clone(),
        });
        self.in_force = complete.into_iter().chain(wait.into_iter().map(|delta| delta.alone.clone())).collect();
    }
}

/// The order of a CRL in force.
pub(crate) fn order_of(crl: &Crl) -> Order {
    Order { number: crl.number.clone(), this_update: crl.this_update }
}

/// RFC 5280 §5.2.4: number and dates are those of the delta CRL. A combination whose delta CRL is past its nextUpdate
/// is outdated, although the complete CRL may not be: there is a newer delta CRL, and nobody here knows what it says.
fn combine(complete: &Crl, delta: &DeltaCrl) -> Crl {
    let alone = &delta.alone;
    let changes = Delta::new(alone.digest, &complete.serials, alone.serials.clone(), &delta.taken_back);
    Crl {
        issuer_key: complete.issuer_key,
        scope: complete.scope.clone(),
        number: alone.number.clone(),
        digest: complete.digest,
        this_update: alone.this_update,
        next_update: alone.next_update,
        serials: complete.serials.clone(),
        form: CrlForm::Combined(changes),
    }
}
