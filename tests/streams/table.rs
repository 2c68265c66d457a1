//! docs/cut.md's tables: every path and every cause is really run, and what was seen is compared with the page.
//! `UPDATE_DOCS=1` writes the page's tables anew. It must never write anything that changes from run to run.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Authority;

use crate::apps::Apps;
use crate::paths::{self, Clients, Open, SESSION_COUNT, Sights};
use crate::program::{Program, eventually};
use crate::stage::{Flags, Stage};
use crate::stream::{self, Stream};
use crate::tools::{command, curl, run};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cut.md");
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A cause of a cut: its reason, and what happened.
struct Cause {
    reason: &'static str,
    what: &'static str,
}

const CAUSES: [Cause; 5] = [
    Cause { reason: "revoked", what: "a list, a CRL or a denial names it" },
    Cause { reason: "expired", what: "`notAfter` of a certificate of its chain has passed" },
    Cause { reason: "anchor_removed", what: "its anchor left `--client-ca`, and no other path verifies" },
    Cause { reason: "session_too_old", what: "it is older than `--max-session-age`" },
    Cause { reason: "ended_by_operator", what: "an operator ended it: `portcullis sessions end`" },
];

/// From the publish, or the deadline, to the last byte of the notice: the promise, that half of all cuts keep even on a
/// machine that is busy with their clients. (`tests/cut` holds each single cut to it.)
const PROMISE: Duration = Duration::from_millis(50);
/// The same for the slowest.
const SLOWEST: Duration = Duration::from_secs(1);

/// What one cause did: what clients saw, the detail in the log, what the next connection meets, how long each cut took.
struct Outcome {
    sights: Sights,
    detail: String,
    next: String,
    took: Vec<f64>,
}

struct Theatre {
    stage: Stage,
    /// Vouches for the clients of whom it is said that their anchor left.
    leaving: Authority,
    apps: Apps,
}

impl Theatre {
    async fn new() -> Theatre {
        let (stage, apps) = tokio::join!(Stage::new(), Apps::start());
        let leaving = Authority::root("leaving root");
        stage.write("client_root.pem", stage.client_root.pem() + &leaving.pem());
        Theatre { stage, leaving, apps }
    }

    fn flags(&self) -> Flags {
        self.apps.flags(&self.stage).with("--control", self.control())
    }

    fn control(&self) -> String {
        format!("unix:{}", self.stage.text("control.sock"))
    }

    /// Lets trust end; what time ends, ends by itself.
    async fn end(&self, reason: &str) {
        match reason {
            "revoked" => self.stage.publish(&self.stage.list(2).id("spiffe://td/revoked/*")),
            "anchor_removed" => self.stage.write("client_root.pem", self.stage.client_root.pem()),
            "ended_by_operator" => {
                let mut portcullis = command(env!("CARGO_BIN_EXE_portcullis"));
                portcullis.args(["sessions", "end", "--identity", "spiffe://td/ended_by_operator/*"]);
                let told = run(portcullis.args(["--reason", "incident 7", "--control", &self.control()])).await;
                assert_eq!(told.code, Some(0), "{told:?}");
            }
            _ => {}
        }
    }

    /// Opens every path for this cause; certificates of those who shall expire live so long.
    async fn open(
        &self,
        reason: &'static str,
        life: Duration,
        (program, clients): (&Program, &mut Clients<'_>),
    ) -> Open<'static> {
        let leaving = self.leaving.intermediate("leaving issuing authority");
        let issuing = if reason == "anchor_removed" { &leaving } else { &self.stage.issuing };
        let open = clients.open((reason, issuing, life), program, &self.apps).await;
        let early = clients.ended(reason);
        assert!(early.is_empty(), "{reason}: these ended before their time: {early:?}");
        let opened = lines(reason, program, "session_opened");
        assert_eq!(opened.len(), SESSION_COUNT, "{reason}: {opened:?}");
        open
    }

    /// Lets trust end and looks.
    async fn outcome(&self, open: Open<'_>, program: &Program, clients: &mut Clients<'_>) -> Outcome {
        let reason = open.cause;
        self.end(reason).await;
        let what = format!("all sessions of {reason} are closed");
        eventually(&what, async || lines(reason, program, "session_closed").len() == SESSION_COUNT).await;
        let sights = clients.sights(open).await;
        let (detail, took) = logged(reason, program);
        Outcome { sights, detail, next: self.next(reason, program).await, took }
    }

    /// What the next connection with a certificate of this cause meets.
    async fn next(&self, reason: &str, program: &Program) -> String {
        let mut curl = curl(&self.stage, Some(&format!("{reason}-http1-idle")));
        let told =
            run(curl.args(["--write-out", "%{http_code}", "--output", "/dev/null", &program.url("/hello")])).await;
        match told.err.split_once(" alert ") {
            Some((_, alert)) => format!("TLS alert `{}`", alert.split(',').next().unwrap().trim().replace(' ', "_")),
            None => format!("`{}`", told.out),
        }
    }
}

/// The log's lines of this event about clients of this cause.
fn lines(reason: &str, program: &Program, event: &str) -> Vec<Value> {
    let mut lines = program.log.events(event);
    lines.retain(|line| line["identity"].as_str().unwrap().starts_with(&format!("uri:spiffe://td/{reason}/")));
    lines
}

/// Fails unless the log has one line for the cut and one for the close of each session; returns the detail they share
/// and how long each took.
fn logged(reason: &str, program: &Program) -> (String, Vec<f64>) {
    let [closed, cut] = ["session_closed", "session_cut"].map(|event| lines(reason, program, event));
    assert_eq!((closed.len(), cut.len()), (SESSION_COUNT, SESSION_COUNT), "{closed:?} {cut:?}");
    assert!(closed.iter().chain(&cut).all(|line| line["reason"] == reason), "{closed:?} {cut:?}");
    let mut details: Vec<String> = cut.iter().map(|line| line["detail"].as_str().unwrap().to_owned()).collect();
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    (details.remove(0), closed.iter().map(|line| line["cut_seconds"].as_f64().unwrap()).collect())
}

/// The page's text between this table's marks.
fn between(name: &str) -> (String, String) {
    (format!("<!-- table: {name} -->\n"), "<!-- end of table -->".to_owned())
}

/// The page with this table in its place.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (start, end) = between(name);
    let (before, rest) = page.split_once(&start).unwrap_or_else(|| panic!("docs/cut.md has no table {name}"));
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{start}{table}{end}{after}")
}

fn paths_table(outcomes: &[Outcome]) -> String {
    let mut table = String::from("| Path | Client in the test |");
    CAUSES.iter().for_each(|cause| write!(table, " `{}` |", cause.reason).unwrap());
    table += "\n|---|---|";
    table += &"---|".repeat(CAUSES.len());
    for (name, path, client) in paths::all() {
        write!(table, "\n| {path} | {client} |").unwrap();
        outcomes.iter().for_each(|outcome| write!(table, " {} |", outcome.sights[name]).unwrap());
    }
    table + "\n"
}

fn causes_table(outcomes: &[Outcome]) -> String {
    let mut table = String::from("| Trust ends because… | `reason` | `detail` in the log | The next connection |\n");
    table += "|---|---|---|---|\n";
    for (cause, outcome) in CAUSES.iter().zip(outcomes) {
        writeln!(table, "| {} | `{}` | `{}` | {} |", cause.what, cause.reason, outcome.detail, outcome.next).unwrap();
    }
    table
}

/// The bounds, once they are kept.
fn times_table(outcomes: &[Outcome]) -> String {
    let mut took: Vec<f64> = outcomes.iter().flat_map(|outcome| outcome.took.clone()).collect();
    took.sort_by(f64::total_cmp);
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    assert!(median < PROMISE.as_secs_f64() && slowest < SLOWEST.as_secs_f64(), "{took:?}");
    let mut table = String::from("| From | To | Within | Checked by |\n|---|---|---|---|\n");
    let [promise, seen] = [PROMISE, stream::PROMISE].map(|bound| format!("{} ms", bound.as_millis()));
    let rows = [
        (
            "the publish or the deadline",
            "the last byte for or from the app",
            "no time at all",
            "stamped bytes, see below",
        ),
        (
            "the publish or the deadline",
            "the end of the connection",
            &promise,
            "every test of `tests/cut`, for each cut",
        ),
        (
            "the same, on a machine busy with all these clients",
            "the same",
            &promise,
            "this table's test, for half of all",
        ),
        ("the rename of a list", "the end that curl sees", &seen, "`tests/program/revoked.rs`, for half of all"),
    ];
    for (from, to, within, by) in rows {
        writeln!(table, "| {from} | {to} | {within} | {by} |").unwrap();
    }
    table
}

#[tokio::test]
async fn docs_cut_md_says_what_clients_see_on_every_path_for_every_cause() {
    let theatre = Theatre::new().await;
    theatre.stage.client("bystander");
    let program = Program::start(&theatre.flags()).await;
    let mut clients = Clients::new(&theatre.stage).await;
    let bystander = Stream::open(&theatre.stage, &program, ("bystander", "--http2")).await;
    let [revoked, expired, removed, aged, ended] = CAUSES.map(|cause| cause.reason);
    let began = Instant::now();
    let open = theatre.open(revoked, DAY, (&program, &mut clients)).await;
    // What time ends has to live until every path is open, on a machine as busy as this one.
    let life = Duration::from_secs(4) + 4 * began.elapsed();
    let mut outcomes = vec![theatre.outcome(open, &program, &mut clients).await];
    let aging = theatre.flags().without("--control").with("--max-session-age", format!("{}ms", life.as_millis()));
    let aging = Program::start(&aging).await;
    let expiring = theatre.open(expired, life, (&program, &mut clients)).await;
    let growing_old = theatre.open(aged, DAY, (&aging, &mut clients)).await;
    outcomes.push(theatre.outcome(expiring, &program, &mut clients).await);
    let leaving = theatre.open(removed, DAY, (&program, &mut clients)).await;
    outcomes.push(theatre.outcome(leaving, &program, &mut clients).await);
    outcomes.push(theatre.outcome(growing_old, &aging, &mut clients).await);
    let open = theatre.open(ended, DAY, (&program, &mut clients)).await;
    outcomes.push(theatre.outcome(open, &program, &mut clients).await);
    bystander.flows().await;
    let page = std::fs::read_to_string(PAGE).unwrap();
    let now = with_table(&page, "paths", &paths_table(&outcomes));
    let now = with_table(&now, "causes", &causes_table(&outcomes));
    let now = with_table(&now, "times", &times_table(&outcomes));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &now).unwrap();
    }
    assert!(now == page, "docs/cut.md is not what clients saw; look, then run this with UPDATE_DOCS=1:\n{now}");
}
