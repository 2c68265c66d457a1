//! The text of revocation lists as the forge writes it. Run by the workspace's tests.
//! It must never read the text with the product's own reader.

use serde_json::Value;
use testkit::{Authority, Duration, LeafSpec, ListSpec, OffsetDateTime, hex};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

#[test]
fn a_list_has_a_header_that_counts_and_one_entry_a_line() {
    let root = Authority::root("Root");
    let leaf = root.issue(LeafSpec::dns("a.example"));
    let at = OffsetDateTime::from_unix_timestamp(2_000_000_000).expect("a valid time");
    let list = ListSpec::new("prod", 12)
        .issued_at(at)
        .expires_in(Duration::hours(2))
        .serial(&leaf)
        .reason("stolen \"laptop\"")
        .id("spiffe://td/ns/*")
        .issued_before(at)
        .entry(r#"{"trust_domain":"td"}"#)
        .note("x")
        .issuer(&root);
    let lines = lines(&list.text());
    assert_eq!(lines[0]["portcullis"], "revocations/v1");
    assert_eq!(lines[0]["list"], "prod");
    assert_eq!(lines[0]["sequence"], 12);
    assert_eq!(lines[0]["entries"], 4);
    assert_eq!(lines[0]["issued_at"], "2033-05-18T03:33:20Z");
    assert_eq!(lines[0]["expires_at"], "2033-05-18T05:33:20Z");
    assert_eq!(lines[1]["serial"], leaf.serial_hex());
    assert_eq!(lines[1]["issuer"], hex(&root.spki_sha256()));
    assert_eq!(lines[1]["reason"], "stolen \"laptop\"");
    assert_eq!(lines[2]["issued_before"], "2033-05-18T03:33:20Z");
    assert_eq!(lines[3]["note"], "x");
    assert_eq!(lines[4]["issuer"], hex(&root.spki_sha256()));
    assert_eq!(lines.len(), 5);
}

#[test]
fn a_header_can_lie_and_lack() {
    let list = ListSpec::new("prod", 1).claiming(9).without_header_field("expires_at").header_field("extra", "true");
    let header = &lines(&list.text())[0];
    assert_eq!(header["entries"], 9);
    assert_eq!(header["extra"], true);
    assert!(header.get("expires_at").is_none());
}
