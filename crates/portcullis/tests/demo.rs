//! The demo as `make run` starts it where there is no terminal.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use program::{portcullis, stderr, stdout};

#[test]
fn every_step_of_the_story_happens_and_the_demo_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let output = portcullis().arg("demo").arg(folder.path()).output().unwrap();
    let story = stdout(&output);
    assert!(output.status.success(), "{story}{}", stderr(&output));
    assert!(!story.contains("DID NOT HAPPEN") && !story.contains('\u{1b}'), "{story}");
    for step in [
        "alice     three requests on one connection: 200",
        "bob       three requests on one connection: 200",
        "stranger  a new connection without a certificate is refused",
        "alice     her stream was cut",
        "alice     her kept-alive connection was closed",
        "alice     a new connection after that is refused: received fatal alert: CertificateRevoked",
        "carol     her stream was cut",
        "carol     a new connection with the expired certificate is refused",
        "bob       noticed nothing all along",
        "proxy     its metrics agree: 2 sessions cut as revoked, 1 as expired",
        "proxy     stopped, exit 0",
    ] {
        assert!(story.contains(step), "{step:?} is not in:\n{story}");
    }
}
