//! Lists in other forms and other people's CRLs, by `portcullis revocations`: compiled and inspected, compared,
//! imported; and that what was made here cuts the right client. It must never compare two outputs of the program where
//! one could be known beforehand.

use serde_json::{Value, json};
use testkit::{Authority, CrlSpec, LeafSpec, pem};

use crate::revocations::Desk;
use crate::stage::Stage;
use crate::tools::{command, run, run_with, status};

/// One entry of every kind, with and without terms.
fn every_kind() -> Vec<Value> {
    let digest = |digit: &str| digit.repeat(64);
    vec![
        json!({ "serial": "0a1b2c", "issuer": digest("1") }),
        json!({ "serial": "0a1b2d", "issuer": digest("1"), "reason": "keyCompromise" }),
        json!({ "serial": "0a1b2e", "issuer": digest("1"), "until": "2100-01-01T00:00:00Z" }),
        json!({ "serial": "0a1b2f", "issuer": digest("1"), "note": "ticket 7" }),
        json!({ "spki": digest("2"), "reason": "superseded" }),
        json!({ "spki": digest("3"), "issued_before": "2026-01-01T00:00:00Z" }),
        json!({ "certificate": digest("4") }),
        json!({ "certificate": digest("5"), "mode": "observe" }),
        json!({ "id": "spiffe://td/ns/ci/*", "issued_before": "2026-01-01T00:00:00Z", "note": "job 812" }),
        json!({ "id": "dns:db.example" }),
        json!({ "trust_domain": "partner", "reason": "cessationOfOperation" }),
        json!({ "issuer": digest("6"), "reason": "cACompromise" }),
    ]
}

fn desk_with(entries: &[Value]) -> Desk {
    let desk = Desk::new();
    let header = json!({ "portcullis": "revocations/v1", "list": "prod", "sequence": 7, "entries": entries.len(),
        "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2100-01-01T00:00:00Z" });
    let lines: Vec<String> = std::iter::once(&header).chain(entries).map(|line| format!("{line}\n")).collect();
    desk.write("prod.jsonl", lines.concat());
    desk
}

#[tokio::test]
async fn every_kind_of_entry_survives_compiling() {
    let entries = every_kind();
    let desk = desk_with(&entries);
    let told = desk.report("compile prod.jsonl --out prod.bin").await;
    assert_eq!((&told["entries"], &told["sequence"]), (&Value::from(entries.len()), &Value::from(7)));
    let same = desk.report("diff prod.jsonl prod.bin").await;
    assert_eq!(same["same"], true, "{same}");
    let lines = desk.report("inspect prod.jsonl --all").await;
    let compiled = desk.report("inspect prod.bin --all").await;
    assert_eq!((&lines["encoding"], &compiled["encoding"]), (&"lines".into(), &"binary".into()));
    for key in ["list", "mode", "sequence", "issued_at", "expires_at", "counts", "observed", "entries_total"] {
        assert_eq!(lines[key], compiled[key], "{key}");
    }
    assert_eq!(
        lines["counts"],
        json!({ "serial": 4, "spki": 2, "certificate": 2, "id": 2, "trust_domain": 1, "issuer": 1 })
    );
    // What has terms or a note is kept word for word.
    let all = compiled["entries"].as_array().unwrap();
    for entry in entries.iter().filter(|entry| entry.get("note").is_some() || entry.get("mode").is_some()) {
        assert!(all.contains(entry), "{entry} is not in {compiled}");
    }
}

#[tokio::test]
async fn a_compiled_list_is_not_edited_and_never_takes_the_place_of_its_source() {
    let desk = desk_with(&every_kind());
    let before = desk.text("prod.jsonl");
    desk.refuses("compile prod.jsonl --out prod.jsonl", &["--out", "another"]).await;
    assert_eq!(desk.text("prod.jsonl"), before);
    desk.does("compile prod.jsonl --out prod.bin").await;
    desk.refuses("add prod.bin --id spiffe://td/a", &["prod.bin", "compiled", "again"]).await;
    desk.refuses("renew prod.bin", &["prod.bin", "compiled"]).await;
}

#[tokio::test]
async fn inspecting_shows_people_header_freshness_and_entries() {
    let desk = desk_with(&every_kind());
    let told = desk.does("inspect prod.jsonl").await;
    for text in [
        "prod",
        "7",
        "2100-01-01T00:00:00Z",
        "none",
        "12: ",
        "4 by serial",
        "1 only observed",
        "0a1b2c of issuer 1111",
        "spiffe://td/ns/ci/*",
        "job 812",
        "keyCompromise",
        "observe",
    ] {
        assert!(told.out.contains(text), "{text:?} is not in {told:?}");
    }
    assert!(!told.out.contains('\u{1b}'), "colour went to a pipe: {told:?}");
    let many: Vec<Value> = (0..25).map(|n| json!({ "id": format!("spiffe://td/{n:02}") })).collect();
    let desk = desk_with(&many);
    let told = desk.does("inspect prod.jsonl").await;
    assert!(told.out.contains("and 5 more") && !told.out.contains("spiffe://td/24"), "{told:?}");
    assert!(desk.does("inspect prod.jsonl --all").await.out.contains("spiffe://td/24"));
    assert_eq!(desk.report("inspect prod.jsonl").await["more"], 5);
    let mut program = desk.program("inspect - --json");
    let told = run_with(&mut program, desk.text("prod.jsonl").as_bytes()).await;
    assert!(told.code == Some(0) && told.out.contains("spiffe://td/00"), "{told:?}");
}

#[tokio::test]
async fn a_note_cannot_steer_the_terminal_that_shows_it() {
    let desk = desk_with(&[json!({ "id": "spiffe://td/a", "note": "\u{1b}[2Jgone" })]);
    let told = desk.does("inspect prod.jsonl").await;
    assert!(told.out.contains("[2Jgone") && !told.out.contains('\u{1b}'), "{told:?}");
}

#[tokio::test]
async fn comparing_tells_what_changes_and_says_so_in_its_exit_code() {
    let entries = every_kind();
    let desk = desk_with(&entries);
    let reversed: Vec<Value> = entries.iter().rev().cloned().collect();
    desk.write("old.jsonl", desk.text("prod.jsonl"));
    let lines = reversed.iter().map(|line| format!("{line}\n")).collect::<String>();
    let header = desk.text("prod.jsonl").lines().next().unwrap().to_owned();
    desk.write("prod.jsonl", format!("{header}\n{lines}"));
    assert_eq!(desk.does("diff old.jsonl prod.jsonl").await.out, "the same\n");
    desk.does("add prod.jsonl --id spiffe://td/new").await;
    desk.does("remove prod.jsonl --trust-domain partner").await;
    let told = desk.ask("diff old.jsonl prod.jsonl").await;
    assert!(told.code == Some(1) && told.err.is_empty(), "{told:?}");
    let starts = |sign: &str, text: &str| told.out.lines().any(|line| line.starts_with(sign) && line.contains(text));
    assert!(starts("+", "spiffe://td/new") && starts("-", "partner") && told.out.contains("7 → 9"), "{told:?}");
    let mut program = desk.program("diff - prod.jsonl --json");
    let told = run_with(&mut program, desk.text("old.jsonl").as_bytes()).await;
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code, &report["same"]), (Some(1), &Value::from(false)));
    assert_eq!(report["added"], json!([{ "id": "spiffe://td/new" }]));
    desk.refuses("diff old.jsonl missing.jsonl", &["missing.jsonl"]).await;
}

#[tokio::test]
async fn the_entries_of_a_crl_are_imported_once_and_only_with_its_issuers_signature() {
    let desk = Desk::new();
    let authority = Authority::root("authority");
    let other = Authority::root("authority");
    let crl = authority.crl(CrlSpec::new(3).revoke(&[0x0a, 0x01]).revoke_with_reason(&[0x0a, 0x02], 1));
    desk.write("ca.pem", authority.pem());
    desk.write("other.pem", other.pem());
    desk.write("ca.crl", &crl);
    desk.write("ca.crl.pem", pem("X509 CRL", &crl));
    let begin = "--list prod --expires +24h";
    desk.refuses(&format!("import prod.jsonl ca.crl --issuer other.pem {begin}"), &["ca.crl"]).await;
    assert!(!desk.path("prod.jsonl").exists());
    let told = desk.report(&format!("import prod.jsonl ca.crl --issuer ca.pem {begin} --note from-ca")).await;
    assert_eq!(told["added"].as_array().unwrap().len(), 2);
    let issuer = testkit::hex(&authority.spki_sha256());
    let (_, entries) = desk.lines("prod.jsonl");
    let named = |entry: &Value| (entry["issuer"].as_str().unwrap().to_owned(), entry["reason"].clone());
    let expected = [(issuer.clone(), Value::Null), (issuer, Value::from("keyCompromise"))];
    assert_eq!(entries.iter().map(named).collect::<Vec<_>>(), expected);
    assert!(entries.iter().all(|entry| entry["note"] == "from-ca"), "{entries:?}");
    let told = desk.report("import prod.jsonl ca.crl.pem --issuer ca.pem --note from-ca").await;
    assert_eq!(told["changed"], false, "{told}");
    desk.refuses("import prod.jsonl prod.jsonl --issuer ca.pem", &["a list, not a CRL"]).await;
}

#[tokio::test]
async fn crls_full_and_delta_are_shown_and_verified_against_their_issuer() {
    let desk = Desk::new();
    let authority = Authority::root("authority");
    desk.write("ca.pem", authority.pem());
    desk.write("full.crl", authority.crl(CrlSpec::new(16).revoke_with_reason(&[0x0a, 0x02], 1)));
    let delta = authority.crl(CrlSpec::new(18).revoke_with_reason(&[0x0a, 0x03], 8).delta_of(16));
    desk.write("delta.crl", pem("X509 CRL", &delta));
    let full = desk.does("inspect full.crl").await.out;
    assert!(full.contains("CN=authority") && full.contains("0a02") && full.contains("keyCompromise"), "{full}");
    let report = desk.report("inspect delta.crl").await;
    let crl = &report["crls"][0];
    assert_eq!((&crl["number"], &crl["delta_base"]), (&"18".into(), &"16".into()));
    assert_eq!(crl["entries"][0]["reason"], "removeFromCRL");
    let mut openssl = command("openssl");
    openssl.current_dir(desk.path("")).args(["crl", "-inform", "DER", "-in", "full.crl", "-noout", "-crlnumber"]);
    assert!(run(&mut openssl).await.out.contains("0x10") && full.contains("16"), "{full}");
    desk.refuses("verify full.crl", &["full.crl", "--issuer"]).await;
    assert_eq!(desk.report("verify full.crl --issuer ca.pem").await["crls"][0]["entries"], 1);
    desk.write("other.pem", Authority::root("authority").pem());
    assert_eq!(desk.ask("verify full.crl --issuer other.pem").await.code, Some(1));
    let told = desk.ask("verify delta.crl --issuer ca.pem").await;
    assert!(told.code == Some(1) && told.err.contains("delta"), "a delta alone clears nobody: {told:?}");
}

#[tokio::test]
async fn a_list_made_here_ends_the_sessions_of_whom_it_names_and_of_nobody_else() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    stage.client("bob");
    stage.write("alice-leaf.pem", alice.cert_pem());
    stage.write("issuing.pem", stage.issuing.pem());
    let program = stage.start().await;
    let url = program.url("/hello");
    assert_eq!((status(&stage, "alice", &url).await, status(&stage, "bob", &url).await), (200, 200));
    let revocations = async |words: &str| {
        let mut revocations = command(env!("CARGO_BIN_EXE_portcullis"));
        let told = run(revocations.current_dir(stage.folder()).arg("revocations").args(words.split(' '))).await;
        assert_eq!(told.code, Some(0), "{words}: {told:?}");
    };
    let mut sequence = 1;
    for by in [
        "--cert alice-leaf.pem --issuer issuing.pem",
        "--cert alice-leaf.pem",
        "--id spiffe://td/alice",
        "--spki alice.pem",
    ] {
        revocations(&format!("add list.jsonl {by}")).await;
        program.wait_for_sequence(sequence + 1).await;
        assert_eq!((status(&stage, "alice", &url).await, status(&stage, "bob", &url).await), (0, 200), "{by}");
        revocations(&format!("remove list.jsonl {by}")).await;
        program.wait_for_sequence(sequence + 2).await;
        assert_eq!(status(&stage, "alice", &url).await, 200, "{by} taken back");
        sequence += 2;
    }
    // A renewed certificate lives.
    revocations("add list.jsonl --id spiffe://td/alice --issued-before now").await;
    program.wait_for_sequence(sequence + 1).await;
    assert_eq!(status(&stage, "alice", &url).await, 0);
    let later = testkit::OffsetDateTime::now_utc() + testkit::Duration::seconds(1);
    let renewed = stage.issuing.issue(LeafSpec::spiffe("spiffe://td/alice").not_before(later));
    renewed.write_to(stage.folder(), "renewed");
    crate::program::eventually("the renewed certificate is valid", async || {
        status(&stage, "renewed", &url).await == 200
    })
    .await;
}
