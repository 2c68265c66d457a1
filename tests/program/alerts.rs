//! What a client that is not let in hears: a TLS alert with the reason, never a bare reset.
//! By curl, whose OpenSSL has words for each alert. It must never accept "connection reset" for an alert.

use testkit::{Authority, Duration, LeafSpec, OffsetDateTime};

use crate::program::Program;
use crate::stage::Stage;
use crate::tools::{Told, curl, run};

async fn refused(stage: &Stage, program: &Program, name: Option<&str>, version: &str) -> Told {
    let mut command = curl(stage, name);
    let told =
        run(command.args(["--verbose", "--tls-max", version, "--write-out", "%{http_code}", &program.url("/hello")]))
            .await;
    assert_eq!(told.out, "000", "{told:?}");
    // Which of its codes curl chooses depends on the alert, and on whether the handshake had ended for the client.
    assert!(matches!(told.code, Some(35 | 56 | 60 | 98)), "{told:?}");
    told
}

#[tokio::test]
async fn curl_that_is_not_let_in_is_told_why_by_an_alert() {
    let stage = Stage::new().await;
    let revoked = stage.client("revoked");
    stage.publish(&stage.list(2).serial(&revoked));
    let foreign = Authority::root("a foreign root").issue(LeafSpec::spiffe("spiffe://td/foreign"));
    foreign.write_to(stage.folder(), "foreign");
    let yesterday = OffsetDateTime::now_utc() - Duration::days(1);
    let expired = LeafSpec::spiffe("spiffe://td/expired").not_before(yesterday - Duration::days(1));
    stage.issuing.issue(expired.not_after(yesterday)).write_to(stage.folder(), "expired");
    let program = stage.start().await;
    for (name, alert) in [
        (Some("foreign"), "TLS alert, unknown CA"),
        (Some("expired"), "TLS alert, certificate expired"),
        (Some("revoked"), "TLS alert, certificate revoked"),
    ] {
        for version in ["1.2", "1.3"] {
            let told = refused(&stage, &program, name, version).await;
            let heard = format!("TLSv{version} (IN), {alert}");
            assert!(told.err.contains(&heard), "{name:?} over TLS {version}: {told:?}");
        }
    }
    let told = refused(&stage, &program, None, "1.3").await;
    assert!(told.err.contains("alert certificate required"), "{told:?}");
    // TLS 1.2 has no alert of that name (RFC 8446 §6).
    let told = refused(&stage, &program, None, "1.2").await;
    assert!(told.err.contains("TLSv1.2 (IN), TLS alert, "), "{told:?}");
    assert_eq!(stage.app.count(), 0);
}
