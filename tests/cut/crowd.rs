//! A crowd of sessions with mixed identities and paths, and random changes that may end some.
//!
//! Used by `preview.rs`. It must never know who is to be cut: it only makes changes, and asks every session.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use testkit::{Authority, AuthoritySpec, Http1Client, Leaf, LeafSpec, RecordingApp, TlsClient};
use trust::{
    Allow, Bundle, Crl, CrlCoverage, CrlForm, CrlScope, IdentityPattern, KeySet, Knowledge, List, Mode, Overlay,
    Policy, Reason, Selectors, Sha256, Snapshot, Speaks, Terms, Time, TrustState, serial_key,
};

use crate::support::{House, Pki};

/// Sessions of each client.
const SESSIONS: usize = 2;
/// Longer than any test.
const IDLE: Duration = Duration::from_secs(3600);

/// A small generator (xorshift64*): a case is its number, so that one that fails can be run alone.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(case: u64) -> Dice {
        Dice((case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % bound
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// A client with its issuer and its open sessions.
pub(crate) struct Member {
    identity: String,
    leaf: Leaf,
    client: TlsClient,
    sessions: Vec<Http1Client>,
}

pub(crate) struct Crowd {
    _app: RecordingApp,
    pub(crate) house: House,
    other: Authority,
    pub(crate) members: Vec<Member>,
    authorities: Vec<(Authority, Authority)>,
}

impl Crowd {
    /// Clients of both roots, with SPIFFE IDs of two trust domains, DNS names and subjects; some reach both roots over
    /// a cross-signed issuer.
    pub(crate) async fn gathered() -> Crowd {
        let app = RecordingApp::start().await;
        let (pki, other) = (Pki::new(), Authority::root("other root"));
        let crossed = pki.client_root.intermediate("crossed");
        let again = other.intermediate_with(AuthoritySpec::new("crossed").reuse_key_of(&crossed));
        let elsewhere = other.intermediate("elsewhere");
        let mut leaves = Vec::new();
        for (namespace, account) in [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("b", "y"), ("c", "x")] {
            let id = format!("spiffe://td/ns/{namespace}/sa/{account}");
            leaves.push((format!("uri:{id}"), pki.issuing.issue(LeafSpec::spiffe(&id)), vec![]));
        }
        // A renewed certificate of the first, and two names of other types.
        let id = "spiffe://td/ns/a/sa/x";
        leaves.push((format!("uri:{id}"), pki.issuing.issue(LeafSpec::spiffe(id)), vec![]));
        leaves.push(("dns:db.test".to_owned(), pki.issuing.issue(LeafSpec::dns("db.test")), vec![]));
        leaves.push(("subject:CN=batch".to_owned(), elsewhere.issue(LeafSpec::subject("batch")), vec![]));
        for account in ["x", "y"] {
            let id = format!("spiffe://elsewhere/sa/{account}");
            leaves.push((format!("uri:{id}"), elsewhere.issue(LeafSpec::spiffe(&id)), vec![]));
            let id = format!("spiffe://td/crossed/{account}");
            leaves.push((format!("uri:{id}"), crossed.issue(LeafSpec::spiffe(&id)), vec![again.der().clone()]));
        }
        let house = House::before(app.addr()).pki(pki).with_clock().limits(|limits| limits.request_head = IDLE).start();
        let members = leaves.into_iter().map(|(identity, leaf, extra)| {
            let chain = [leaf.chain(), extra].concat();
            let client = TlsClient::presenting(house.pki.server_root.der(), &leaf, chain);
            Member { identity, leaf, client, sessions: Vec::new() }
        });
        let members = members.collect();
        let root = &house.pki.client_root;
        let authorities = vec![
            (house.pki.issuing.clone(), root.clone()),
            (crossed, root.clone()),
            (again, other.clone()),
            (elsewhere, other.clone()),
        ];
        Crowd { _app: app, house, other, members, authorities }
    }

    /// Trust that permits everybody.
    pub(crate) fn peace(&self) -> Change {
        let policy = Policy { crl_coverage: CrlCoverage::None, ..(*self.house.live.current().state.policy).clone() };
        Change {
            bundle: Arc::new(self.bundle(Some(Speaks::ForAnybody), Some(Speaks::ForAnybody))),
            knowledge: known(vec![self.list("enforced", Selectors::default())], vec![]),
            overlay: Arc::default(),
            policy: Arc::new(Policy { allow: Allow::Anybody, ..policy }),
        }
    }

    fn bundle(&self, ours: Option<Speaks>, others: Option<Speaks>) -> Bundle {
        let ours = ours.map(|speaks| (self.house.pki.client_root.der().clone(), speaks));
        let others = others.map(|speaks| (self.other.der().clone(), speaks));
        Bundle::new(ours.into_iter().chain(others).collect()).unwrap()
    }

    fn list(&self, name: &str, selectors: Selectors) -> Arc<List> {
        let now = self.house.live.now();
        Arc::new(List {
            name: Arc::from(name),
            mode: Mode::Enforce,
            sequence: 1,
            digest: Sha256::of(name.as_bytes()),
            issued_at: now,
            expires_at: now.plus(IDLE),
            selectors,
            observed: Selectors::default(),
            absorbs: Box::default(),
        })
    }

    /// Entries of every kind, about members of the crowd.
    fn entries(&self, dice: &mut Dice) -> Selectors {
        let now = self.house.live.now();
        let mut made = Selectors::default();
        let (mut serials, mut keys, mut certificates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..dice.below(5) {
            let member = dice.pick(&self.members);
            let serial = serial_key(&Sha256(member.leaf.issuer_spki_sha256()), &member.leaf.serial());
            let reason = [None, Some(Reason::KeyCompromise), Some(Reason::Superseded)][dice.below(3)];
            match dice.below(12) {
                0 | 1 => serials.push(KeySet::entry(serial, reason)),
                2 => keys.push(KeySet::entry(Sha256(member.leaf.spki_sha256()).key(), reason)),
                3 => certificates.push(KeySet::entry(Sha256(member.leaf.sha256()).key(), reason)),
                4 => drop(made.serials_with_terms.insert(serial, vec![terms(dice, now)])),
                5 => {
                    drop(made.public_keys_with_terms.insert(Sha256(member.leaf.spki_sha256()), vec![terms(dice, now)]))
                }
                6 | 7 => drop(made.ids.insert(member.identity.clone(), vec![terms(dice, now)])),
                8 => {
                    let prefixes =
                        ["spiffe://td/ns/a/", "spiffe://td/ns/", "spiffe://elsewhere/", "spiffe://td/crossed/"];
                    made.id_prefixes.insert((*dice.pick(&prefixes)).to_owned(), vec![terms(dice, now)]);
                }
                9 => {
                    let domain = *dice.pick(&["td", "elsewhere", "nowhere"]);
                    made.trust_domains.insert(domain.to_owned(), vec![terms(dice, now)]);
                }
                10 => {
                    let issuer = Sha256(dice.pick(&self.authorities).0.spki_sha256());
                    made.issuers.insert(issuer, vec![terms(dice, now)]);
                }
                _ => {
                    let (authority, issuer) = dice.pick(&self.authorities);
                    serials.push(KeySet::entry(serial_key(&Sha256(issuer.spki_sha256()), &authority.serial()), reason));
                }
            }
        }
        made.serials = KeySet::new(serials).unwrap();
        made.public_keys = KeySet::new(keys).unwrap();
        made.certificates = KeySet::new(certificates).unwrap();
        made
    }

    fn crls(&self, dice: &mut Dice) -> Vec<Arc<Crl>> {
        let now = self.house.live.now();
        let issuers = self.authorities.iter().flat_map(|(issued, issuer)| [issued, issuer]);
        let issuers: HashSet<_> = issuers.map(|issuer| Sha256(issuer.spki_sha256())).collect();
        let mut issuers: Vec<_> = issuers.into_iter().collect();
        issuers.sort_unstable();
        issuers.retain(|_| !dice.one_in(6));
        let about = |issuer_key: Sha256, dice: &mut Dice| {
            let member = dice.pick(&self.members);
            let serial = KeySet::entry(serial_key(&issuer_key, &member.leaf.serial()), None);
            Arc::new(Crl {
                issuer_key,
                scope: CrlScope::FULL,
                number: Box::new([1]),
                digest: issuer_key,
                this_update: now,
                next_update: now.plus(IDLE),
                serials: Arc::new(KeySet::new(vec![serial]).unwrap()),
                form: CrlForm::Complete,
            })
        };
        issuers.into_iter().map(|issuer| about(issuer, dice)).collect()
    }

    pub(crate) fn change(&self, dice: &mut Dice) -> Change {
        let mut change = self.peace();
        let lists = vec![self.list("one", self.entries(dice)), self.list("two", self.entries(dice))];
        let mut policy = (*change.policy).clone();
        let crls = if dice.one_in(3) { self.crls(dice) } else { vec![] };
        if dice.one_in(2) {
            policy.crl_coverage = *dice.pick(&[CrlCoverage::All, CrlCoverage::Leaf]);
        }
        if dice.one_in(4) {
            let allowed = ["uri:spiffe://td/*", "uri:spiffe://td/ns/a/*", "dns:db.test", "uri:spiffe://elsewhere/sa/x"];
            let allowed = allowed.iter().filter(|_| !dice.one_in(2)).map(|one| IdentityPattern::parse(one).unwrap());
            policy.allow = Allow::Only(allowed.collect());
        }
        if dice.one_in(2) {
            let speaks = [
                None,
                None,
                Some(Speaks::ForAnybody),
                Some(Speaks::ForTrustDomain("td".to_owned())),
                Some(Speaks::ForTrustDomain("elsewhere".to_owned())),
            ];
            let (ours, others) = (dice.pick(&speaks).clone(), dice.pick(&speaks).clone());
            change.bundle = Arc::new(self.bundle(ours, others));
        }
        if dice.one_in(4) {
            change.overlay = Arc::new(Overlay::new(self.entries(dice)));
        }
        change.knowledge = if dice.one_in(20) { Knowledge::Missing } else { known(lists, crls) };
        change.policy = Arc::new(policy);
        change
    }

    /// Opens what is closed.
    pub(crate) async fn complete(&mut self) {
        for member in &mut self.members {
            while member.sessions.len() < SESSIONS {
                let mut session = member.client.http1(self.house.address()).await.unwrap();
                assert_eq!(session.get("/").await.unwrap().status, 200, "{} in peace", member.identity);
                member.sessions.push(session);
            }
        }
    }

    /// Sends a request over every session and forgets those that are cut; how many passed of whom.
    pub(crate) async fn roll_call(&mut self) -> BTreeMap<String, usize> {
        let mut passed = BTreeMap::new();
        for member in &mut self.members {
            let mut left = Vec::new();
            for mut session in member.sessions.drain(..) {
                if session.get("/").await.is_ok_and(|answer| answer.status == 200) {
                    *passed.entry(member.identity.clone()).or_default() += 1;
                    left.push(session);
                }
            }
            member.sessions = left;
        }
        passed
    }

    pub(crate) fn everybody(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for member in &self.members {
            *all.entry(member.identity.clone()).or_default() += member.sessions.len();
        }
        all
    }
}

fn terms(dice: &mut Dice, now: Time) -> Terms {
    let ago = Time::from_millis(now.as_millis() - 30 * 86_400_000);
    Terms {
        issued_before: [None, Some(ago), Some(now.plus(IDLE))][dice.below(3)],
        until: [None, Some(now), Some(now.plus(IDLE))][dice.below(3)],
        reason: None,
    }
}

fn known(lists: Vec<Arc<List>>, crls: Vec<Arc<Crl>>) -> Knowledge {
    Knowledge::Known(Arc::new(Snapshot::new(lists, crls, HashSet::new(), HashSet::new())))
}

/// Everything that a publish can change.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) bundle: Arc<Bundle>,
    knowledge: Knowledge,
    overlay: Arc<Overlay>,
    policy: Arc<Policy>,
}

impl Change {
    pub(crate) fn apply(self) -> impl FnOnce(&mut TrustState) {
        move |state| {
            state.bundle = self.bundle;
            state.knowledge = self.knowledge;
            state.overlay = self.overlay;
            state.policy = self.policy;
        }
    }
}
