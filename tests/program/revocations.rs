//! `portcullis revocations` on files, as an operator or a script meets it: lists begun, changed, taken back and renewed.
//! The other modules of these commands use its desk. Keys and certificates are openssl's, so that the program's own
//! forms are held against another reader's.
//! It must never read a list by the program's own crates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Authority, Leaf, LeafSpec, atomic_write};

use crate::tools::{Told, command, run, run_with};

/// A folder in which somebody keeps lists.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { folder: tempfile::tempdir().unwrap() }
    }

    /// One with the list `prod`, which is empty and was issued as sequence 1 for a day.
    pub(crate) fn with_list() -> Desk {
        let desk = Desk::new();
        let text = "{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":0,\
                    \"issued_at\":\"2020-01-01T00:00:00Z\",\"expires_at\":\"2020-01-02T00:00:00Z\"}\n";
        desk.write("prod.jsonl", text);
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        atomic_write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A certificate in `<name>.pem`, without its issuer, which is in `<name>-ca.pem`.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        let authority = Authority::root(&format!("{name}'s authority"));
        let leaf = authority.issue(LeafSpec::spiffe(&format!("spiffe://td/{name}")));
        self.write(&format!("{name}.pem"), leaf.cert_pem());
        self.write(&format!("{name}-ca.pem"), authority.pem());
        leaf
    }

    /// `portcullis revocations` in this folder with these words, parted by spaces.
    pub(crate) fn program(&self, words: &str) -> tokio::process::Command {
        let mut program = command(env!("CARGO_BIN_EXE_portcullis"));
        program.current_dir(self.folder.path()).arg("revocations").args(words.split(' '));
        program
    }

    /// Runs it to its end.
    pub(crate) async fn ask(&self, words: &str) -> Told {
        run(&mut self.program(words)).await
    }

    /// The same, and it ends well.
    pub(crate) async fn does(&self, words: &str) -> Told {
        let told = self.ask(words).await;
        assert_eq!(told.code, Some(0), "{words}: {told:?}");
        told
    }

    /// The same, and its report.
    pub(crate) async fn report(&self, words: &str) -> Value {
        let told = self.does(&format!("{words} --json")).await;
        serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{words}: {error}: {told:?}"))
    }

    /// The same, and it refuses: one sentence that holds all of these.
    pub(crate) async fn refuses(&self, words: &str, holds: &[&str]) {
        let told = self.ask(words).await;
        assert_eq!((told.code, told.out.as_str()), (Some(64), ""), "{words}: {told:?}");
        assert!(told.err.starts_with("portcullis: ") && told.err.lines().count() == 1, "{words}: {told:?}");
        for text in holds {
            assert!(told.err.contains(text), "{words}: {text:?} is not in {told:?}");
        }
    }

    /// The header of a list in plain JSON lines, and its entries.
    pub(crate) fn lines(&self, name: &str) -> (Value, Vec<Value>) {
        let text = self.text(name);
        assert!(text.ends_with('\n'), "the last line of {name} has its end");
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (lines.next().unwrap(), lines.collect())
    }
}

#[tokio::test]
async fn the_first_add_begins_the_list_and_every_later_one_raises_its_sequence() {
    let desk = Desk::new();
    desk.refuses("add prod.jsonl --id spiffe://td/a", &["prod.jsonl", "--list", "--expires"]).await;
    desk.refuses("add prod.jsonl --id spiffe://td/a --list prod", &["--expires +24h"]).await;
    assert!(!desk.path("prod.jsonl").exists());
    let first = desk.report("add prod.jsonl --id spiffe://td/a --list prod --expires +24h --note first").await;
    assert_eq!((&first["sequence"], &first["previous_sequence"]), (&Value::from(1), &Value::Null));
    let second = desk.report("add prod.jsonl --trust-domain partner --reason superseded --until +1h").await;
    assert_eq!((&second["sequence"], &second["previous_sequence"]), (&Value::from(2), &Value::from(1)));
    assert_eq!(second["added"][0]["trust_domain"], "partner");
    let (header, entries) = desk.lines("prod.jsonl");
    assert_eq!((&header["list"], &header["sequence"], &header["entries"]), (&"prod".into(), &2.into(), &2.into()));
    let named = |key: &str, value: &str| entries.iter().find(|entry| entry[key] == value).cloned().unwrap();
    assert_eq!(named("id", "spiffe://td/a")["note"], "first");
    assert_eq!(named("trust_domain", "partner")["reason"], "superseded");
    assert!(named("trust_domain", "partner")["until"].is_string());
}

#[tokio::test]
async fn a_list_may_begin_empty_and_beginning_it_again_changes_nothing() {
    let desk = Desk::new();
    let told = desk.report("add prod.jsonl --list prod --expires +24h --scope eu --list-mode observe").await;
    assert_eq!((&told["entries"], &told["sequence"], &told["mode"]), (&0.into(), &1.into(), &"observe".into()));
    let told = desk.report("add prod.jsonl --list prod --expires +24h").await;
    assert_eq!((&told["changed"], &told["sequence"]), (&false.into(), &1.into()));
    desk.refuses("add prod.jsonl --list prod --scope us", &["--scope", "us", "eu"]).await;
}

#[tokio::test]
async fn a_change_refreshes_the_dates_and_keeps_the_lifetime_unless_it_is_told_another() {
    let desk = Desk::with_list();
    let told = desk.report("add prod.jsonl --id spiffe://td/a").await;
    let moment = |value: &Value| time_of(value.as_str().unwrap());
    assert_eq!(moment(&told["expires_at"]) - moment(&told["issued_at"]), 86_400);
    assert!(moment(&told["issued_at"]) > time_of("2020-01-03T00:00:00Z"));
    let told = desk.report("renew prod.jsonl --expires +2h").await;
    assert!((7_199..=7_201).contains(&(moment(&told["expires_at"]) - moment(&told["issued_at"]))), "{told}");
    desk.refuses("renew prod.jsonl --expires 2020-01-01T00:00:00Z", &["--expires", "denies everybody", "+24h"]).await;
}

fn time_of(text: &str) -> i64 {
    let moment = testkit::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    moment.unwrap().unix_timestamp()
}

#[tokio::test]
async fn adding_and_taking_back_leaves_a_difference_that_git_shows_in_a_few_lines() {
    let desk = Desk::with_list();
    for n in 0..20 {
        desk.does(&format!("add prod.jsonl --id spiffe://td/job-{n:02}")).await;
    }
    let git = async |words: &str| {
        let mut git = command("git");
        git.current_dir(desk.path("")).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]);
        let told = run(git.args(words.split(' '))).await;
        assert_eq!(told.code, Some(0), "{words}: {told:?}");
        told.out
    };
    git("init --quiet").await;
    git("add prod.jsonl").await;
    git("commit --quiet --message=before").await;
    desk.does("add prod.jsonl --id spiffe://td/job-075").await;
    // The header and the one entry, in its place among the others.
    assert_eq!(git("diff --numstat").await.trim(), "2\t1\tprod.jsonl");
    let middle = git("diff --unified=1").await;
    assert!(middle.contains("job-07\"") && middle.contains("+{\"id\":\"spiffe://td/job-075\""), "{middle}");
    desk.does("remove prod.jsonl --id spiffe://td/job-075").await;
    assert_eq!(git("diff --numstat").await.trim(), "1\t1\tprod.jsonl");
}

#[tokio::test]
async fn an_entry_that_is_there_already_changes_no_byte() {
    let desk = Desk::with_list();
    desk.does("add prod.jsonl --id spiffe://td/a --note why").await;
    let before = desk.text("prod.jsonl");
    let told = desk.report("add prod.jsonl --id spiffe://td/a --note why").await;
    assert_eq!((&told["changed"], &told["sequence"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(desk.text("prod.jsonl"), before);
}

#[tokio::test]
async fn replacing_narrows_an_entry_that_adding_would_have_left_wide() {
    let desk = Desk::with_list();
    desk.does("add prod.jsonl --id spiffe://td/a").await;
    let told = desk.report("add prod.jsonl --id spiffe://td/a --issued-before -1h --replace").await;
    assert_eq!((told["removed"].as_array().unwrap().len(), told["added"].as_array().unwrap().len()), (1, 1));
    let (_, entries) = desk.lines("prod.jsonl");
    assert!(entries.len() == 1 && entries[0]["issued_before"].is_string(), "{entries:?}");
}

#[tokio::test]
async fn one_note_takes_a_whole_incident_back() {
    let desk = Desk::with_list();
    desk.does("add prod.jsonl --id spiffe://td/a --id spiffe://td/b/* --note incident-7").await;
    desk.does("add prod.jsonl --trust-domain partner --note incident-8").await;
    let told = desk.report("remove prod.jsonl --note incident-7").await;
    assert_eq!(told["removed"].as_array().unwrap().len(), 2);
    let (_, entries) = desk.lines("prod.jsonl");
    assert!(entries.len() == 1 && entries[0]["trust_domain"] == "partner", "{entries:?}");
    let before = desk.text("prod.jsonl");
    desk.refuses("remove prod.jsonl --note incident-7", &["no entry", "prod.jsonl", "inspect"]).await;
    desk.refuses("remove prod.jsonl --id spiffe://td/b/*", &["--id spiffe://td/b/*", "no entry"]).await;
    assert_eq!(desk.text("prod.jsonl"), before, "what was refused changed nothing");
}

#[tokio::test]
async fn renewing_drops_what_has_ended_only_when_asked() {
    let desk = Desk::with_list();
    let ended = "{\"id\":\"spiffe://td/old\",\"until\":\"2020-01-01T00:00:00Z\"}\n";
    desk.write("prod.jsonl", desk.text("prod.jsonl").replace("\"entries\":0", "\"entries\":1") + ended);
    assert_eq!(desk.report("renew prod.jsonl").await["entries"], 1);
    let told = desk.report("renew prod.jsonl --drop-ended").await;
    assert_eq!((&told["entries"], &told["sequence"]), (&Value::from(0), &Value::from(3)));
    assert_eq!(told["removed"][0]["id"], "spiffe://td/old");
}

#[tokio::test]
async fn a_certificate_with_its_issuer_is_named_by_serial_number_as_openssl_reads_it() {
    let desk = Desk::with_list();
    let leaf = desk.leaf("alice");
    let mut openssl = command("openssl");
    openssl.current_dir(desk.path("")).args(["x509", "-in", "alice.pem", "-noout", "-serial"]);
    let serial = run(&mut openssl).await.out.trim().strip_prefix("serial=").unwrap().to_owned();
    desk.does("add prod.jsonl --cert alice.pem --issuer alice-ca.pem --reason keyCompromise").await;
    let expected = (serial.to_lowercase(), testkit::hex(&leaf.issuer_spki_sha256()));
    let named = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        (text("serial").trim_start_matches('0').to_owned(), text("issuer"))
    };
    let (_, entries) = desk.lines("prod.jsonl");
    assert_eq!(named(&entries[0]), (expected.0.trim_start_matches('0').to_owned(), expected.1));
    // The serial number as openssl prints it, and the chain in one file, name the same certificate.
    let told =
        desk.report(&format!("add prod.jsonl --serial {serial} --issuer alice-ca.pem --reason keyCompromise")).await;
    assert_eq!(told["changed"], false, "{told}");
    desk.write("chain.pem", leaf.chain_pem() + &desk.text("alice-ca.pem"));
    let told = desk.report("remove prod.jsonl --cert chain.pem").await;
    assert_eq!(told["entries"], 0, "{told}");
}

#[tokio::test]
async fn an_issuer_that_did_not_sign_the_certificate_is_refused() {
    let desk = Desk::with_list();
    desk.leaf("alice");
    // The same name, another key: an entry by it would revoke nobody.
    let namesake = Authority::root("alice's authority");
    desk.write("namesake.pem", namesake.pem());
    desk.refuses("add prod.jsonl --cert alice.pem --issuer namesake.pem", &["--issuer", "alice.pem", "issued"]).await;
}

#[tokio::test]
async fn a_leaf_alone_is_named_by_its_fingerprint_as_openssl_prints_it() {
    let desk = Desk::with_list();
    let leaf = desk.leaf("alice");
    desk.does("add prod.jsonl --cert alice.pem").await;
    let (_, entries) = desk.lines("prod.jsonl");
    assert_eq!(entries, [serde_json::json!({ "certificate": testkit::hex(&leaf.sha256()) })]);
    let mut openssl = command("openssl");
    openssl.current_dir(desk.path("")).args(["x509", "-in", "alice.pem", "-noout", "-fingerprint", "-sha256"]);
    let printed = run(&mut openssl).await.out.trim().split_once('=').unwrap().1.to_owned();
    let told = desk.report(&format!("add prod.jsonl --certificate {printed}")).await;
    assert_eq!(told["changed"], false, "{told}");
    // The file's certificate is the same one, whatever it was named by.
    assert_eq!(desk.report("remove prod.jsonl --cert alice.pem --issuer alice-ca.pem").await["entries"], 0);
}

#[tokio::test]
async fn keys_are_named_by_certificate_by_public_key_and_by_digest_alike() {
    let desk = Desk::with_list();
    let leaf = desk.leaf("alice");
    let mut openssl = command("openssl");
    openssl.current_dir(desk.path("")).args(["x509", "-in", "alice.pem", "-noout", "-pubkey"]);
    desk.write("alice.pub", run(&mut openssl).await.out);
    let digest = testkit::hex(&leaf.spki_sha256());
    assert_eq!(desk.report("add prod.jsonl --spki alice.pem").await["added"][0]["spki"], digest);
    for spelled in ["alice.pub", &digest, &digest.to_uppercase()] {
        let told = desk.report(&format!("add prod.jsonl --spki {spelled}")).await;
        assert_eq!(told["changed"], false, "{spelled}: {told}");
    }
    let issuer = testkit::hex(&leaf.issuer_spki_sha256());
    assert_eq!(desk.report("add prod.jsonl --issuer alice-ca.pem").await["added"][0]["issuer"], issuer);
}

#[tokio::test]
async fn wrong_input_is_one_sentence_that_names_the_flag_and_leaves_the_file() {
    let desk = Desk::with_list();
    desk.leaf("alice");
    desk.write("ca.crl", "-----BEGIN X509 CRL-----\n");
    let before = desk.text("prod.jsonl");
    for (words, holds) in [
        ("add prod.jsonl", vec!["name somebody", "--id"]),
        ("add prod.jsonl --id prod/ns", vec!["--id", "prod/ns"]),
        ("add prod.jsonl --id spiffe://td/a --trust-domain td", vec!["--id", "--trust-domain", "one kind"]),
        ("add prod.jsonl --trust-domain spiffe://td", vec!["--trust-domain"]),
        ("add prod.jsonl --serial 0a", vec!["--serial", "--issuer"]),
        ("add prod.jsonl --serial xyz --issuer alice-ca.pem", vec!["--serial", "xyz"]),
        ("add prod.jsonl --cert missing.pem", vec!["missing.pem", "no such file"]),
        ("add prod.jsonl --cert prod.jsonl", vec!["--cert", "prod.jsonl", "no certificate"]),
        ("add prod.jsonl --cert alice.pem --issued-before now", vec!["--issued-before", "--cert"]),
        ("add prod.jsonl --spki nothing", vec!["--spki", "nothing", "64"]),
        ("add prod.jsonl --certificate 0a", vec!["--certificate", "64", "--cert"]),
        ("add prod.jsonl --id spiffe://td/a --until -1h", vec!["--until", "has passed", "+24h"]),
        ("add prod.jsonl --id spiffe://td/a --until 24h", vec!["--until", "24h", "+24h"]),
        ("add prod.jsonl --id spiffe://td/a --reason lost", vec!["--reason", "lost", "keyCompromise"]),
        ("add prod.jsonl --id spiffe://td/a --mode shadow", vec!["--mode", "shadow", "observe"]),
        ("add prod.jsonl --id spiffe://td/a --list dev", vec!["--list", "dev", "prod"]),
        ("add prod.jsonl --id spiffe://td/a --key alice.pem", vec!["--key", "alice.pem"]),
        ("add missing/prod.jsonl --id spiffe://td/a", vec!["missing"]),
        ("remove missing.jsonl --id spiffe://td/a", vec!["missing.jsonl", "add"]),
        ("add alice.pem --id spiffe://td/a", vec!["alice.pem"]),
        ("frobnicate", vec!["frobnicate"]),
        ("add", vec!["FILE"]),
    ] {
        desk.refuses(words, &holds).await;
    }
    assert_eq!(desk.text("prod.jsonl"), before);
}

#[tokio::test]
async fn a_changed_file_keeps_its_mode_and_its_link_and_leaves_nothing_beside_it() {
    let desk = Desk::with_list();
    fs::set_permissions(desk.path("prod.jsonl"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("prod.jsonl", desk.path("link.jsonl")).unwrap();
    desk.does("add link.jsonl --id spiffe://td/a").await;
    assert!(fs::symlink_metadata(desk.path("link.jsonl")).unwrap().is_symlink());
    assert_eq!(fs::metadata(desk.path("prod.jsonl")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(desk.lines("prod.jsonl").0["sequence"], 2);
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 2);
}

#[tokio::test]
async fn of_two_changes_made_at_once_none_is_lost() {
    let desk = Desk::with_list();
    let words = |n: usize| format!("add prod.jsonl --id spiffe://td/{n}");
    let mut running: Vec<_> = (0..8).map(|n| desk.program(&words(n)).spawn().unwrap()).collect();
    for child in &mut running {
        assert!(crate::program::in_time("the change", child.wait()).await.unwrap().success());
    }
    let (header, entries) = desk.lines("prod.jsonl");
    assert_eq!((&header["sequence"], entries.len()), (&Value::from(9), 8));
}

#[tokio::test]
async fn a_list_goes_from_standard_input_to_standard_output_with_the_report_beside_it() {
    let desk = Desk::with_list();
    let mut program = desk.program("add - --id spiffe://td/a --json");
    let told = run_with(&mut program, desk.text("prod.jsonl").as_bytes()).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.lines().count() == 2 && told.out.contains("spiffe://td/a"), "{told:?}");
    let report: Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!(report["sequence"], 2);
    desk.write("new.jsonl", told.out);
    desk.does("inspect new.jsonl").await;
}

#[tokio::test]
async fn every_command_has_a_help_with_an_example() {
    let desk = Desk::new();
    let all = desk.does("--help").await.out;
    for name in ["keygen", "add", "remove", "renew", "import", "sign", "compile", "inspect", "verify", "diff"] {
        assert!(all.contains(&format!("  {name}")), "{name} is not in {all}");
        let help = desk.does(&format!("{name} --help")).await.out;
        let example =
            help.contains(&format!("portcullis revocations {name}")) || help.contains(&format!("revocations {name} "));
        assert!(help.contains("Example") && example && help.contains("--json"), "{help}");
        assert!(help.contains("Exit codes"), "{help}");
    }
}
