//! docs/cut.md's tables: every path and every cause is really run, and what was seen is compared with the page.
//! `UPDATE_DOCS=1` writes the page's tables anew. It must never write anything that changes from run to run.

use std::fmt::Write as _;
use std::time::Duration;

use testkit::Authority;

use crate::paths::{Clients, PATHS, SESSION_COUNT, Sights};
use crate::program::Program;
use crate::script::Script;
use crate::stage::{Flags, Stage};
use crate::stream::Stream;
use crate::tools::{curl, run};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cut.md");
/// A certificate's whole life and a session's: long enough for every path to be open before.
const LIFE: Duration = Duration::from_secs(9);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A cause of a cut: its reason, and what happened.
struct Cause {
    reason: &'static str,
    what: &'static str,
}

const CAUSES: [Cause; 4] = [
    Cause { reason: "revoked", what: "a list, a CRL or a denial names it" },
    Cause { reason: "expired", what: "`notAfter` of a certificate of its chain has passed" },
    Cause { reason: "anchor_removed", what: "its anchor left `--client-ca`, and no other path verifies" },
    Cause { reason: "session_too_old", what: "it is older than `--max-session-age`" },
];

/// What one cause did: what clients saw, the detail in the log, what the next connection meets.
struct Outcome {
    sights: Sights,
    detail: String,
    next: String,
}

struct Theatre {
    stage: Stage,
    /// Vouches for the clients of whom it is said that their anchor left.
    leaving: Authority,
    app: Script,
}

impl Theatre {
    async fn new() -> Theatre {
        let (stage, app) = tokio::join!(Stage::new(), Script::start("grpc_app", &[]));
        let leaving = Authority::root("leaving root");
        stage.write("client_root.pem", stage.client_root.pem() + &leaving.pem());
        Theatre { stage, leaving, app }
    }

    /// The HTTP app's inbound comes first, the gRPC app's second.
    fn flags(&self) -> Flags {
        let grpc = self.app.said("ready")[0]["port"].clone();
        self.stage.flags().and("--inbound", format!("127.0.0.1:0=127.0.0.1:{grpc}"))
    }

    /// Lets trust end; what time ends, ends by itself.
    fn end(&self, reason: &str) {
        match reason {
            "revoked" => self.stage.publish(&self.stage.list(2).id("spiffe://td/revoked/*")),
            "anchor_removed" => self.stage.write("client_root.pem", self.stage.client_root.pem()),
            _ => {}
        }
    }

    async fn outcome(&self, reason: &str, program: &Program, clients: &mut Clients<'_>) -> Outcome {
        let (issuing, life) = match reason {
            "expired" => (&self.stage.issuing, LIFE),
            "anchor_removed" => (&self.leaving.intermediate("leaving issuing authority"), DAY),
            _ => (&self.stage.issuing, DAY),
        };
        let open = clients.open((reason, issuing, life), program, &self.app).await;
        let early = clients.ended(reason);
        assert!(early.is_empty(), "{reason}: these ended before their time: {early:?}");
        self.end(reason);
        program.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], SESSION_COUNT).await;
        let sights = clients.sights(open).await;
        Outcome { sights, detail: logged(reason, program), next: self.next(reason, program).await }
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

/// Fails unless the log has one line for the cut and one for the close of each session; returns the detail they share.
fn logged(reason: &str, program: &Program) -> String {
    let theirs = |event: &str| {
        let mut lines = program.log.events(event);
        lines.retain(|line| line["identity"].as_str().unwrap().starts_with(&format!("uri:spiffe://td/{reason}/")));
        assert_eq!(lines.len() as f64, SESSION_COUNT, "{event}: {lines:?}");
        assert!(lines.iter().all(|line| line["reason"] == reason), "{lines:?}");
        lines
    };
    theirs("session_closed");
    let mut details: Vec<String> =
        theirs("session_cut").iter().map(|line| line["detail"].as_str().unwrap().to_owned()).collect();
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    details.remove(0)
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
    for (name, path, client) in PATHS {
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

#[tokio::test]
async fn docs_cut_md_says_what_clients_see_on_every_path_for_every_cause() {
    let theatre = Theatre::new().await;
    theatre.stage.client("bystander");
    let program = Program::start(&theatre.flags()).await;
    let aging = Program::start(&theatre.flags().with("--max-session-age", format!("{}s", LIFE.as_secs()))).await;
    let mut clients = Clients::new(&theatre.stage).await;
    let bystander = Stream::open(&theatre.stage, &program, ("bystander", "--http2")).await;
    let mut outcomes = Vec::new();
    for cause in &CAUSES {
        let program = if cause.reason == "session_too_old" { &aging } else { &program };
        outcomes.push(theatre.outcome(cause.reason, program, &mut clients).await);
        bystander.flows().await;
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    let now = with_table(&page, "paths", &paths_table(&outcomes));
    let now = with_table(&now, "causes", &causes_table(&outcomes));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &now).unwrap();
    }
    assert!(now == page, "docs/cut.md is not what clients saw; look, then run this with UPDATE_DOCS=1:\n{now}");
}
