//! The stand that every test of the judge starts from: one root, one intermediate, one leaf, and a case in which
//! trust says yes until a test changes one thing.
//!
//! Used by the tables and laws of this folder. It must never hide a limit: what is not set here limits nothing.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use rustls_pki_types::CertificateDer;
use testkit::{Authority, AuthoritySpec, Leaf, LeafSpec, OffsetDateTime};
use trust::*;

/// The moment around which everything happens, on a whole second as X.509 counts.
pub const NOW: Time = Time::from_seconds(1_800_000_000);
pub const ID: &str = "spiffe://td/ns/a/sa/b";
pub const EPOCH: u64 = 7;

/// `millis` after [`NOW`]; before it, if negative.
pub fn at(millis: i64) -> Time {
    Time::from_millis(NOW.as_millis() + millis)
}

/// `millis` after `moment`.
pub fn past(moment: Time, millis: i64) -> Time {
    Time::from_millis(moment.as_millis() + millis)
}

/// The same moment as the forge takes it.
pub fn date(moment: Time) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.as_seconds()).unwrap()
}

pub const YEAR: i64 = 365 * 86_400_000;

/// An authority's specification, valid for ten years around [`NOW`].
pub fn authority(name: &str) -> AuthoritySpec {
    AuthoritySpec::new(name).not_before(date(at(-5 * YEAR))).not_after(date(at(5 * YEAR)))
}

/// A leaf's specification, valid for a day around [`NOW`].
pub fn timed(spec: LeafSpec) -> LeafSpec {
    spec.not_before(date(at(-43_200_000))).not_after(date(at(43_200_000)))
}

/// A bundle of these anchors, all for anybody.
pub fn bundle(anchors: &[&Authority]) -> Bundle {
    Bundle::new(anchors.iter().map(|one| (one.der().clone(), Speaks::ForAnybody)).collect()).unwrap()
}

/// Root, intermediate and leaf, made once.
pub struct Stand {
    pub root: Authority,
    pub intermediate: Authority,
    pub leaf: Leaf,
    pub chain: Chain,
}

pub fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        let root = Authority::root_with(authority("root"));
        let intermediate = root.intermediate_with(authority("intermediate"));
        let leaf = intermediate.issue(timed(LeafSpec::spiffe(ID)));
        let chain = verify(&leaf.chain(), &bundle(&[&root]), NOW).unwrap();
        Stand { root, intermediate, leaf, chain }
    })
}

/// Which kind of knowledge a case has.
#[derive(Clone, Copy, Debug)]
pub enum Knows {
    Lists,
    Missing,
    NotWanted,
}

/// Everything a judgement depends on, to be changed at will.
#[derive(Clone, Debug)]
pub struct Case {
    pub chain: Chain,
    pub anchors: Vec<(CertificateDer<'static>, Speaks)>,
    pub knows: Knows,
    pub lists: Vec<Arc<List>>,
    pub crls: Vec<Arc<Crl>>,
    pub unreadable: HashSet<Sha256>,
    pub waiting: HashSet<Sha256>,
    pub overlay: Arc<Overlay>,
    pub policy: Policy,
    pub opened_at: Time,
    pub idle_since: Option<Time>,
}

/// A policy that limits nothing.
pub fn free() -> Policy {
    Policy {
        allow: Allow::Anybody,
        crl_coverage: CrlCoverage::All,
        stale: trust::Stale::Deny,
        snapshot_max_age: None,
        max_session_age: None,
        max_certificate_age: None,
        idle_timeout: None,
    }
}

/// A list that never expires.
pub fn list(name: &str, fill: impl FnOnce(&mut Selectors)) -> List {
    let mut selectors = Selectors::default();
    fill(&mut selectors);
    let (digest, expires_at) = (Sha256::of(name.as_bytes()), Time::NEVER);
    List {
        name: name.into(),
        sequence: 1,
        digest,
        issued_at: at(-YEAR),
        expires_at,
        selectors,
        mode: trust::Mode::Enforce,
        observed: Selectors::default(),
        absorbs: Box::default(),
    }
}

/// A CRL of `issuer` that never expires, revoking these keys.
pub fn crl(issuer: Sha256, scope: CrlScope, serial_keys: &[u128]) -> Crl {
    Crl {
        issuer_key: issuer,
        scope,
        number: Box::new([1]),
        digest: Sha256::of(b"crl"),
        this_update: at(-YEAR),
        next_update: Time::NEVER,
        serials: Arc::new(keys(serial_keys)),
        form: trust::CrlForm::Complete,
    }
}

/// A set of these keys, without reasons.
pub fn keys(keys: &[u128]) -> KeySet {
    KeySet::new(keys.iter().map(|key| KeySet::entry(*key, None)).collect()).unwrap()
}

impl Case {
    /// Trust says yes: a known anchor, an empty list that never expires, no limit, nobody idle.
    pub fn trusted() -> Case {
        let stand = stand();
        Case {
            chain: stand.chain.clone(),
            anchors: vec![(stand.root.der().clone(), Speaks::ForAnybody)],
            knows: Knows::Lists,
            lists: vec![Arc::new(list("prod", |_| {}))],
            crls: Vec::new(),
            unreadable: HashSet::new(),
            waiting: HashSet::new(),
            overlay: Arc::default(),
            policy: free(),
            opened_at: NOW,
            idle_since: None,
        }
    }

    /// The same with one change.
    pub fn but(mut self, change: impl FnOnce(&mut Case)) -> Case {
        change(&mut self);
        self
    }

    /// The same with entries in its list.
    pub fn listing(self, fill: impl FnOnce(&mut Selectors)) -> Case {
        self.but(|case| case.lists = vec![Arc::new(list("prod", fill))])
    }

    /// The same with validity of leaf and intermediate so wide that only the anchor's counts.
    pub fn timeless(self) -> Case {
        self.but(|case| {
            for link in std::iter::once(&mut case.chain.leaf).chain(&mut case.chain.intermediates) {
                (link.not_before, link.not_after) = (at(-50 * YEAR), at(50 * YEAR));
            }
        })
    }

    pub fn state(&self, epoch: u64) -> TrustState {
        let snapshot =
            || Snapshot::new(self.lists.clone(), self.crls.clone(), self.unreadable.clone(), self.waiting.clone());
        let knowledge = match self.knows {
            Knows::Lists => Knowledge::Known(Arc::new(snapshot())),
            Knows::Missing => Knowledge::Missing,
            Knows::NotWanted => Knowledge::NotWanted,
        };
        let bundle = Arc::new(Bundle::new(self.anchors.clone()).unwrap());
        TrustState { epoch, bundle, knowledge, overlay: self.overlay.clone(), policy: Arc::new(self.policy.clone()) }
    }

    pub fn session(&self) -> Session {
        let session = Session::new(self.chain.clone(), Box::new([]), self.opened_at);
        match self.idle_since {
            Some(since) => session.idle(since),
            None => session.busy(),
        }
        session
    }

    /// What a fresh judge says, and that the memo of a yes says the same.
    pub fn verdict(&self, now: Time) -> Result<(), Denial> {
        let (session, state) = (self.session(), self.state(EPOCH));
        let answer = judge(&session, &state, now).map(|permit| assert_eq!(permit.epoch(), EPOCH));
        assert_eq!(session.still_permitted(EPOCH, now).is_some(), answer.is_ok(), "the memo agrees with its judge");
        let asked = self.session();
        assert_eq!(preview(&asked, &state, now), answer, "a preview says what the judge says");
        assert_eq!(asked.memo().epoch(), 0, "and leaves no memo");
        answer
    }

    /// One row of a table for each moment.
    pub fn rows(&self, rows: &[(&str, Time, Result<(), Denial>)]) {
        for (moment, now, expected) in rows {
            assert_eq!(&self.verdict(*now), expected, "{moment}");
        }
    }
}
