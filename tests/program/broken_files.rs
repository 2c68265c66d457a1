//! Files that must change nothing: broken, empty, older or forged. Each costs one count and one error line that names
//! the file and the reason, while the age of what is in force grows. It must never accept a second line.

use testkit::{Authority, CrlSpec, crl_der::signed_list};

use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::status;

/// What is in force, as an operator sees it.
async fn in_force(program: &Program) -> [f64; 4] {
    let mut seen = [0.0; 4];
    let names = [
        "portcullis_epoch",
        "portcullis_snapshot_sequence",
        "portcullis_snapshot_entries",
        "portcullis_snapshot_lists",
    ];
    for (value, name) in seen.iter_mut().zip(names) {
        *value = program.metric(name, &[]).await;
    }
    seen
}

/// A CRL that is the root's in every word, signed by somebody else.
fn forged(stage: &Stage) -> Vec<u8> {
    let to_be_signed = CrlSpec::new(1).to_be_signed(&stage.client_root);
    let signature = Authority::root("clients' root").sign(&to_be_signed);
    signed_list(&to_be_signed, &signature)
}

#[tokio::test]
async fn a_broken_empty_older_or_forged_file_changes_nothing_but_a_count_and_an_age() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    stage.client("bob");
    let good = stage.list(5).serial(&alice);
    stage.publish(&good);
    let program = stage.start().await;
    let stream = Stream::open(&stage, &program, ("bob", "--http2")).await;
    let before = in_force(&program).await;
    let text = good.clone().header_field("sequence", "6").text();
    let cut_short = good.clone().header_field("sequence", "6").claiming(2).text();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a half-written list", text.as_bytes()[..text.len() - 30].to_vec(), &["line 2"]),
        ("a list cut short at a line's end", cut_short.into_bytes(), &["2", "1"]),
        ("an empty file", Vec::new(), &["empty"]),
        ("a lower sequence", stage.list(4).text().into_bytes(), &["4", "5"]),
        ("the same sequence with other content", stage.list(5).text().into_bytes(), &["5"]),
        ("an unknown key", stage.list(6).entry("{\"serail\":\"01\"}").text().into_bytes(), &["line 2", "serail"]),
        ("a forged CRL", forged(&stage), &["is not signed by the issuer"]),
        ("bytes of no format", vec![0xff; 100], &[]),
    ];
    for (number, (what, bytes, words)) in (1..).zip(cases) {
        let age = program.metric("portcullis_snapshot_age_seconds", &[]).await;
        stage.write("list.jsonl", bytes);
        let failed = [("source", "revocations"), ("result", "failed")];
        program.wait_for_metric("portcullis_reloads_total", &failed, f64::from(number)).await;
        assert_eq!(in_force(&program).await, before, "{what}");
        let errors = || program.log.lines().into_iter().filter(|line| line["level"] == "ERROR").collect::<Vec<_>>();
        eventually("the error line comes", async || errors().len() >= number as usize).await;
        let errors = errors();
        assert_eq!(errors.len(), number as usize, "{what}: {errors:?}");
        let line = &errors[errors.len() - 1];
        assert_eq!((&line["event"], &line["result"]), (&"reload".into(), &"failed".into()), "{line}");
        assert_eq!(line["path"], stage.text("list.jsonl"), "{line}");
        let message = line["message"].as_str().unwrap();
        for word in words.iter().chain(&["list.jsonl", "stays in force"]) {
            assert!(message.contains(word), "{what}: {word:?} is not in {message}");
        }
        assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 0, "{what}");
        assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200, "{what}");
        assert!(program.metric("portcullis_snapshot_age_seconds", &[]).await >= age, "{what}");
    }
    stream.flows().await;
    let age = program.metric("portcullis_snapshot_age_seconds", &[]).await;
    eventually("the age grows", async || program.metric("portcullis_snapshot_age_seconds", &[]).await > age).await;
    assert_eq!(program.get("/readyz").await.0, 200);
    // The way back is a good file.
    stage.publish(&stage.list(7));
    program.wait_for_sequence(7).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
}

#[tokio::test]
async fn a_certificate_without_its_key_and_a_key_without_its_certificate_change_nothing() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    let stream = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    let next = stage.server();
    let expiry = program.metric("portcullis_certificate_expiry_timestamp_seconds", &[]).await;
    let failed = [("source", "credential"), ("result", "failed")];
    stage.write("server.pem", next.chain_pem());
    program.wait_for_metric("portcullis_reloads_total", &failed, 1.0).await;
    stage.write("server.key", "-----BEGIN PRIVATE KEY-----\n");
    program.wait_for_metric("portcullis_reloads_total", &failed, 2.0).await;
    assert_eq!(program.metric("portcullis_certificate_expiry_timestamp_seconds", &[]).await, expiry);
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    stage.write("server.key", next.key_pem());
    let changed = [("source", "credential"), ("result", "changed")];
    program.wait_for_metric("portcullis_reloads_total", &changed, 1.0).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    stream.flows().await;
}
