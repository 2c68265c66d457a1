//! CRLs that the real openssl made, of authorities that the real openssl made. It must never forge a byte of them.

use std::fs;

use crate::program::Program;
use crate::stage::{Flags, Stage};
use crate::stream::Stream;
use crate::tools::{command, curl, run, status};

/// What `openssl ca` wants to know.
const CONFIGURATION: &str = "\
[ca]
default_ca = authority
[authority]
database = $ENV::NAME.index
serial = $ENV::NAME.serial
crlnumber = $ENV::NAME.crlnumber
certificate = $ENV::NAME.pem
private_key = $ENV::NAME.key
new_certs_dir = .
default_md = sha256
default_days = 5
default_crl_days = 2
policy = anything
unique_subject = no
copy_extensions = none
[anything]
commonName = optional
[req]
distinguished_name = nothing
prompt = no
[nothing]
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
subjectAltName = $ENV::SAN
[crl]
authorityKeyIdentifier = keyid
";

/// Runs openssl in the stage's folder as this authority.
async fn openssl(stage: &Stage, (authority, name): (&str, &str), arguments: &str) {
    let mut command = command("openssl");
    command.current_dir(stage.folder()).env("NAME", authority).env("SAN", format!("URI:spiffe://td/{name}"));
    let told = run(command.args(arguments.split(' '))).await;
    assert_eq!(told.code, Some(0), "openssl {arguments}: {}", told.err);
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// `ca_root`, and `ca_issuing` below it.
async fn authorities(stage: &Stage) {
    stage.write("openssl.cnf", CONFIGURATION);
    for name in ["ca_root", "ca_issuing"] {
        stage.write(&format!("{name}.index"), "");
        stage.write(&format!("{name}.serial"), "4A00\n");
        stage.write(&format!("{name}.crlnumber"), "01\n");
    }
    let root = format!(
        "req -x509 -config openssl.cnf -extensions root -subj /CN=root -days 10 {NEW_KEY} -keyout ca_root.key -out ca_root.pem"
    );
    openssl(stage, ("ca_root", "root"), &root).await;
    issue(stage, ("ca_root", "ca_issuing"), "intermediate").await;
    fs::create_dir(stage.path("crls")).unwrap();
}

/// A certificate of `authority`, with the chain up to the root, for curl.
async fn issue(stage: &Stage, (authority, name): (&str, &str), kind: &str) {
    let names = (authority, name);
    let request = format!("req -new -config openssl.cnf -subj /CN={name} {NEW_KEY} -keyout {name}.key -out {name}.csr");
    openssl(stage, names, &request).await;
    let sign = format!("ca -batch -notext -config openssl.cnf -extensions {kind} -in {name}.csr -out {name}.leaf");
    openssl(stage, names, &sign).await;
    let above = if authority == "ca_root" { String::new() } else { read(stage, &format!("{authority}.pem")) };
    stage.write(&format!("{name}.pem"), format!("{}{above}", read(stage, &format!("{name}.leaf"))));
}

fn read(stage: &Stage, name: &str) -> String {
    fs::read_to_string(stage.path(name)).unwrap()
}

async fn revoke(stage: &Stage, authority: &str, name: &str) {
    let revoke = format!("ca -config openssl.cnf -revoke {name}.leaf -crl_reason keyCompromise");
    openssl(stage, (authority, name), &revoke).await;
}

/// `openssl ca -gencrl`, put in place by a rename.
async fn publish(stage: &Stage, authority: &str) {
    let generate = "ca -config openssl.cnf -gencrl -crlexts crl -out next.crl";
    openssl(stage, (authority, "nobody"), generate).await;
    fs::rename(stage.path("next.crl"), stage.path(&format!("crls/{authority}.crl"))).unwrap();
}

fn flags(stage: &Stage) -> Flags {
    stage.flags().with("--client-ca", stage.text("ca_root.pem")).with("--revocations", stage.text("crls"))
}

#[tokio::test]
async fn a_crl_by_openssl_ends_the_stream_of_whom_it_names_and_nobody_elses() {
    let stage = Stage::new().await;
    authorities(&stage).await;
    issue(&stage, ("ca_root", "alice"), "client").await;
    issue(&stage, ("ca_root", "bob"), "client").await;
    publish(&stage, "ca_root").await;
    let program = Program::start(&flags(&stage)).await;
    let alice = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    let bob = Stream::open(&stage, &program, ("bob", "--http2")).await;
    revoke(&stage, "ca_root", "alice").await;
    publish(&stage, "ca_root").await;
    alice.end().await.assert_broken();
    bob.flows().await;
    let again = run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    assert!(again.err.contains("alert certificate revoked"), "{again:?}");
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200);
    assert_eq!(program.metric("portcullis_snapshot_crls", &[]).await, 1.0);
    assert_eq!(program.reloads("failed").await, 0.0);
}

#[tokio::test]
async fn a_crl_of_an_intermediate_that_only_clients_show_is_heeded_from_the_first_handshake_on() {
    let stage = Stage::new().await;
    authorities(&stage).await;
    for name in ["alice", "bob"] {
        issue(&stage, ("ca_issuing", name), "client").await;
    }
    revoke(&stage, "ca_issuing", "alice").await;
    publish(&stage, "ca_root").await;
    publish(&stage, "ca_issuing").await;
    let program = Program::start(&flags(&stage)).await;
    // The one who introduces the issuer is the one whom its CRL names. Her TLS handshake has ended before the CRL can
    // be checked, so the first time she is cut instead of hearing an alert.
    let first = run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    assert_eq!((first.code.is_some_and(|code| code != 0), first.out.as_str()), (true, ""), "{first:?}");
    program.wait_for_metric("portcullis_cuts_total", &[("reason", "revoked")], 1.0).await;
    let second = run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    assert!(second.err.contains("alert certificate revoked"), "{second:?}");
    let bob = Stream::open(&stage, &program, ("bob", "--http2")).await;
    assert_eq!(program.metric("portcullis_snapshot_crls", &[]).await, 2.0);
    revoke(&stage, "ca_issuing", "bob").await;
    publish(&stage, "ca_issuing").await;
    bob.end().await.assert_broken();
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 0);
    assert_eq!(stage.app.count(), 1);
}

#[tokio::test]
async fn without_the_crl_of_an_issuer_the_status_is_unknown_and_nobody_below_it_comes_in() {
    let stage = Stage::new().await;
    authorities(&stage).await;
    issue(&stage, ("ca_issuing", "alice"), "client").await;
    publish(&stage, "ca_root").await;
    let program = Program::start(&flags(&stage)).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 0);
    program.wait_for_metric("portcullis_handshakes_total", &[("result", "status_unknown")], 1.0).await;
    publish(&stage, "ca_issuing").await;
    program.log.wait_for("the CRL was looked at", |line| line["event"] == "reload").await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
}
