//! Keys and signatures of `portcullis revocations`: made here and checked by openssl, made by openssl and checked here;
//! several holders one after another; what a change costs. It must never trust what the program says of a signature
//! where openssl can say it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::program::Program;
use crate::revocations::Desk;
use crate::stage::Stage;
use crate::tools::{Told, command, run, status};

/// What is signed, by the DSSE specification: lengths and texts of type and payload.
fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Each under its key's id.
type Signatures = Vec<(String, Vec<u8>)>;

/// The envelope on line 1: its type, its payload and its signatures.
fn envelope(desk: &Desk, name: &str) -> (String, Vec<u8>, Signatures) {
    let file = fs::read(desk.path(name)).unwrap();
    let line: Value = serde_json::from_slice(file.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let one = |one: &Value| (one["keyid"].as_str().unwrap().to_owned(), bytes(&one["sig"]));
    let signatures = line["signatures"].as_array().unwrap().iter().map(one).collect();
    (line["payloadType"].as_str().unwrap().to_owned(), bytes(&line["payload"]), signatures)
}

async fn openssl(desk: &Desk, words: &str) -> Told {
    let mut openssl = command("openssl");
    run(openssl.current_dir(desk.path("")).args(words.split(' '))).await
}

/// Whether openssl holds the signature with this id for that of this public key.
async fn openssl_verifies(desk: &Desk, name: &str, (public, id): (&str, &str)) -> bool {
    let (kind, payload, signatures) = envelope(desk, name);
    assert_eq!(kind, "application/vnd.portcullis.revocations+json");
    let signature = &signatures.iter().find(|(keyid, _)| keyid == id).expect("there is a signature of this id").1;
    desk.write("signed.bin", pre_authentication_encoding(&kind, &payload));
    desk.write("signature.bin", signature);
    let words = format!("pkeyutl -verify -pubin -inkey {public} -rawin -in signed.bin -sigfile signature.bin");
    openssl(desk, &words).await.out.contains("Signature Verified Successfully")
}

/// A desk with a list and the keys of anna and bert, whose ids it gives.
async fn two_holders() -> (Desk, [String; 2]) {
    let desk = Desk::with_list();
    desk.does("add prod.jsonl --id spiffe://td/a").await;
    let mut ids = Vec::new();
    for name in ["anna", "bert"] {
        let told = desk.report(&format!("keygen --out {name}.key")).await;
        ids.push(told["id"].as_str().unwrap().to_owned());
    }
    (desk, ids.try_into().unwrap())
}

#[tokio::test]
async fn a_new_key_is_readable_by_its_owner_alone_and_openssl_reads_both_files() {
    let desk = Desk::new();
    let told = desk.does("keygen --out revoke.key").await;
    let (secret, public) = (desk.text("revoke.key"), desk.text("revoke.pub"));
    assert_eq!(fs::metadata(desk.path("revoke.key")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(told.out.contains(&public) && told.out.contains("revoke.pub"), "{told:?}");
    let body = secret.lines().nth(1).unwrap();
    assert!(!told.all().contains(body), "the secret key was printed: {told:?}");
    let told = openssl(&desk, "pkey -in revoke.key -pubout").await;
    assert_eq!(told.out, public, "{told:?}");
    assert!(openssl(&desk, "pkey -in revoke.key -noout -text").await.out.contains("ED25519"));
}

#[tokio::test]
async fn a_key_that_is_there_is_never_replaced() {
    let desk = Desk::new();
    desk.does("keygen --out revoke.key").await;
    let before = (desk.text("revoke.key"), desk.text("revoke.pub"));
    desk.refuses("keygen --out revoke.key", &["--out", "revoke.key", "never replaced"]).await;
    desk.refuses("keygen --out other.key --public revoke.pub", &["--public", "revoke.pub"]).await;
    assert!(!desk.path("other.key").exists(), "half a pair was made");
    assert_eq!((desk.text("revoke.key"), desk.text("revoke.pub")), before);
    desk.refuses("keygen --out -", &["--out -", "name a file"]).await;
    desk.refuses("keygen --out same.pub", &["--public"]).await;
}

#[tokio::test]
async fn holders_sign_one_after_another_and_openssl_verifies_each_signature() {
    let (desk, [anna, bert]) = two_holders().await;
    let body = desk.text("prod.jsonl").split_once('\n').unwrap().1.to_owned();
    let told = desk.report("sign prod.jsonl --key anna.key").await;
    assert_eq!(told["signed_by"], Value::from(vec![anna.clone()]));
    let told = desk.report("sign prod.jsonl --key bert.key").await;
    assert_eq!(told["signed_by"].as_array().unwrap().len(), 2);
    assert!(openssl_verifies(&desk, "prod.jsonl", ("anna.pub", &anna)).await);
    assert!(openssl_verifies(&desk, "prod.jsonl", ("bert.pub", &bert)).await);
    assert!(!openssl_verifies(&desk, "prod.jsonl", ("anna.pub", &bert)).await);
    // What is signed speaks of exactly the bytes that follow.
    assert_eq!(desk.text("prod.jsonl").split_once('\n').unwrap().1, body);
    let header: Value = serde_json::from_slice(&envelope(&desk, "prod.jsonl").1).unwrap();
    assert_eq!(header["sha256"], testkit::hex(&testkit::sha256(body.as_bytes())));
    assert_eq!(header["bytes"], body.len());
    let told = desk.report("sign prod.jsonl --key anna.key").await;
    assert_eq!(told["signed_by"].as_array().unwrap().len(), 2, "each key signs once");
}

#[tokio::test]
async fn a_key_that_openssl_made_signs_and_verifies() {
    let desk = Desk::with_list();
    assert_eq!(openssl(&desk, "genpkey -algorithm ed25519 -out o.key").await.code, Some(0));
    assert_eq!(openssl(&desk, "pkey -in o.key -pubout -out o.pub").await.code, Some(0));
    desk.does("renew prod.jsonl --key o.key").await;
    let told = desk.report("verify prod.jsonl --revocation-key o.pub").await;
    let id = told["signed_by"][0].as_str().unwrap().to_owned();
    assert!(openssl_verifies(&desk, "prod.jsonl", ("o.pub", &id)).await);
}

#[tokio::test]
async fn verifying_asks_for_as_many_holders_as_the_threshold_says() {
    let (desk, _) = two_holders().await;
    let words = "verify prod.jsonl --revocation-key anna.pub --revocation-key bert.pub --revocation-threshold 2";
    let does_not_hold = async |words: &str, label: &str| {
        let told = desk.ask(words).await;
        assert!(told.code == Some(1) && told.err.contains("does not hold"), "{told:?}");
        let told = desk.ask(&format!("{words} --json")).await;
        let report: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!((told.code, &report["ok"], &report["problem"]["label"]), (Some(1), &false.into(), &label.into()));
    };
    does_not_hold(words, "unsigned").await;
    desk.does("sign prod.jsonl --key anna.key").await;
    does_not_hold(words, "under_signed").await;
    desk.does("sign prod.jsonl --key bert.key").await;
    assert_eq!(desk.report(words).await["signed_by"].as_array().unwrap().len(), 2);
    desk.does("verify prod.jsonl --revocation-key bert.pub").await;
    // One entry more than was signed.
    let signed = desk.text("prod.jsonl");
    desk.write("prod.jsonl", signed.replace("spiffe://td/a", "spiffe://td/b"));
    does_not_hold(words, "digest_mismatch").await;
    desk.refuses("verify prod.jsonl --revocation-threshold 2", &["--revocation-threshold", "--revocation-key"]).await;
    desk.refuses("verify prod.jsonl --revocation-key anna.key", &["--revocation-key", "anna.key"]).await;
}

#[tokio::test]
async fn verifying_notices_an_expired_list_and_another_scope() {
    let desk = Desk::with_list();
    let told = desk.ask("verify prod.jsonl").await;
    assert!(told.code == Some(1) && told.err.contains("expired"), "{told:?}");
    desk.does("add new.jsonl --list new --expires +1h --scope eu --id spiffe://td/a").await;
    desk.does("verify new.jsonl --scope eu").await;
    let told = desk.ask("verify new.jsonl --scope us").await;
    assert!(told.code == Some(1) && told.err.contains("scope"), "{told:?}");
    desk.write("cut.jsonl", desk.text("new.jsonl").lines().next().unwrap());
    assert_eq!(desk.ask("verify cut.jsonl").await.code, Some(1));
    desk.write("none.jsonl", "nothing\n");
    desk.refuses("verify none.jsonl", &["none.jsonl"]).await;
}

#[tokio::test]
async fn a_change_of_a_signed_list_says_which_signatures_it_cost() {
    let (desk, [anna, bert]) = two_holders().await;
    desk.does("sign prod.jsonl --key anna.key --key bert.key").await;
    let told = desk.ask("add prod.jsonl --id spiffe://td/b --key anna.key --json").await;
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(report["signed_by"], Value::from(vec![anna.clone()]));
    assert_eq!(report["signatures_dropped"], Value::from(vec![bert.clone()]));
    assert!(told.err.contains(&bert) && !told.err.contains(&anna) && told.err.contains("sign it again"), "{told:?}");
    desk.does("verify prod.jsonl --revocation-key anna.pub").await;
    let told = desk.ask("remove prod.jsonl --id spiffe://td/b").await;
    assert!(told.err.contains(&anna), "{told:?}");
    assert_eq!(desk.lines("prod.jsonl").0["list"], "prod", "it is plain again");
}

#[tokio::test]
async fn confirming_is_part_of_what_is_signed_and_ends_with_the_issue() {
    let (desk, [anna, _]) = two_holders().await;
    desk.does("sign prod.jsonl --key bert.key").await;
    let told = desk.ask("sign prod.jsonl --key anna.key --confirm").await;
    assert!(told.code == Some(0) && told.err.contains("must sign again"), "{told:?}");
    let header: Value = serde_json::from_slice(&envelope(&desk, "prod.jsonl").1).unwrap();
    assert_eq!(header["confirm"], true);
    assert!(openssl_verifies(&desk, "prod.jsonl", ("anna.pub", &anna)).await);
    desk.does("renew prod.jsonl --key anna.key").await;
    let header: Value = serde_json::from_slice(&envelope(&desk, "prod.jsonl").1).unwrap();
    assert_ne!(header["confirm"], true, "the next issue asks anew");
}

#[tokio::test]
async fn a_compiled_list_is_signed_and_verified_like_lines() {
    let (desk, [anna, _]) = two_holders().await;
    desk.does("sign prod.jsonl --key anna.key").await;
    let told = desk.ask("compile prod.jsonl --out prod.bin").await;
    assert!(told.code == Some(0) && told.err.contains("signatures do not survive"), "{told:?}");
    assert_eq!(desk.ask("verify prod.bin --revocation-key anna.pub").await.code, Some(1));
    desk.does("sign prod.bin --key anna.key").await;
    desk.does("verify prod.bin --revocation-key anna.pub").await;
    assert!(openssl_verifies(&desk, "prod.bin", ("anna.pub", &anna)).await);
    desk.does("compile prod.jsonl --out other.bin --key bert.key").await;
    desk.does("verify other.bin --revocation-key bert.pub").await;
}

#[tokio::test]
async fn a_sidecar_takes_what_enough_holders_signed_and_nothing_less() {
    let stage = Stage::new().await;
    stage.client("alice");
    let revocations = async |words: &str| {
        let mut revocations = command(env!("CARGO_BIN_EXE_portcullis"));
        let told = run(revocations.current_dir(stage.folder()).arg("revocations").args(words.split(' '))).await;
        assert_eq!(told.code, Some(0), "{words}: {told:?}");
    };
    for name in ["anna", "bert"] {
        revocations(&format!("keygen --out {name}.key")).await;
    }
    revocations("sign list.jsonl --key anna.key --key bert.key").await;
    // A repeatable flag: one value a line, as in the environment.
    let keys = format!("{}\n{}", stage.text("anna.pub"), stage.text("bert.pub"));
    let flags = stage.flags().with("--revocation-key", keys).with("--revocation-threshold", "2");
    let program = Program::start(&flags).await;
    let url = program.url("/hello");
    assert_eq!(status(&stage, "alice", &url).await, 200);
    // One holder alone revokes nobody, whatever the sequence.
    revocations("add list.jsonl --id spiffe://td/alice --key anna.key").await;
    let refused = program.log.wait_for("the list of one holder is refused", |line| {
        line["level"] == "ERROR" && line.to_string().contains("list.jsonl")
    });
    refused.await;
    assert_eq!(status(&stage, "alice", &url).await, 200);
    revocations("sign list.jsonl --key bert.key").await;
    program.wait_for_sequence(2).await;
    assert_eq!(status(&stage, "alice", &url).await, 0);
    // The binary form, signed by both, is the same list: the next issue takes its place.
    revocations("remove list.jsonl --id spiffe://td/alice").await;
    revocations("compile list.jsonl --out list.bin --key anna.key --key bert.key").await;
    stage.write("list.jsonl", fs::read(stage.path("list.bin")).unwrap());
    program.wait_for_sequence(3).await;
    assert_eq!(status(&stage, "alice", &url).await, 200);
}
