//! Flags, their twins in the environment, and the files they name: against the real binary.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use program::{Pki, arguments, assert_refused, portcullis, stderr, stdout};
use serde_json::Value;

/// The good flags without `without`, and with `with`.
fn check_with(pki: &Pki, without: &[&str], with: &[(&str, &str)]) -> std::process::Output {
    let mut flags = pki.flags();
    flags.retain(|(flag, _)| !without.contains(flag));
    flags.extend(with.iter().map(|(flag, value)| (*flag, (*value).to_owned())));
    portcullis().arg("check").args(arguments(&flags)).output().unwrap()
}

fn report(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

#[test]
fn a_missing_or_contradictory_flag_is_one_sentence_that_names_it() {
    let pki = Pki::new();
    for (without, with, named) in [
        (vec!["--inbound"], vec![], vec!["--inbound"]),
        (vec!["--cert", "--key"], vec![], vec!["--cert and --key", "--credential-bundle"]),
        (vec!["--key"], vec![], vec!["--cert is given without --key"]),
        (vec!["--cert"], vec![], vec!["--key is given without --cert"]),
        (vec![], vec![("--credential-bundle", "x.pem")], vec!["--credential-bundle", "--cert"]),
        (vec!["--cert"], vec![("--credential-bundle", "x.pem")], vec!["--credential-bundle", "--key"]),
        (vec!["--client-ca"], vec![], vec!["--client-ca"]),
        (vec!["--allow"], vec![], vec!["--allow", "--allow-any"]),
        (vec![], vec![("--allow-any", "")], vec!["--allow", "--allow-any"]),
        (vec!["--revocations"], vec![], vec!["--revocations", "--no-revocations"]),
        (vec![], vec![("--no-revocations", "")], vec!["--revocations", "--no-revocations"]),
    ] {
        assert_refused(&check_with(&pki, &without, &with), &named);
    }
}

#[test]
fn a_bad_value_is_one_sentence_that_names_flag_value_and_remedy() {
    let pki = Pki::new();
    for (without, flag, value, remedy) in [
        ("--inbound", "--inbound", "8443=app:80", "IP:PORT"),
        ("--inbound", "--inbound", "0.0.0.0:8443=app:80,proto=x", "protocol=auto|http1|h2c"),
        ("--client-ca", "--client-ca", "TD=root.pem", "no trust domain"),
        ("--client-ca", "--client-ca", "./a=b.pem", "no trust domain"),
        ("--client-ca", "--client-ca", "td=", "write a path"),
        ("--allow", "--allow", "spiffe://td/a", "uri:spiffe://"),
        ("--allow", "--allow", "dns:*.example", "without '*'"),
        ("--allow", "--allow", "subject:Jürgen", "like CN=a,O=b"),
        ("--allow", "--allow", "subject:cn=Jürgen, O=b", r"write subject:CN=J\C3\BCrgen,O=b"),
        ("", "--crl-coverage", "some", "all, leaf or none"),
        ("", "--snapshot-max-age", "10", "10s"),
        ("", "--max-session-age", "1x", "10s"),
        ("", "--max-certificate-age", "0s", "more than zero"),
        ("", "--idle-timeout", "-5m", "--idle-timeout"),
        ("", "--drain", "30", "10s"),
        ("--drain-delay", "--drain-delay", "soon", "10s"),
        ("", "--stop-timeout", "", "10s"),
        ("", "--workers", "0", "from 1"),
        ("", "--workers", "many", "from 1"),
        ("--observe", "--observe", "9464", "IP:PORT"),
        ("--observe", "--observe", "localhost:9464", "IP:PORT"),
        ("", "--log-format", "xml", "text or json"),
        ("", "--log-level", "loud", "error, warn, info"),
    ] {
        let glued = format!("{flag}={value}");
        let mut flags = pki.flags();
        flags.retain(|(known, _)| *known != without);
        let output = portcullis().arg("check").args(arguments(&flags)).arg(glued).output().unwrap();
        assert_refused(&output, &[flag, remedy]);
    }
    assert_refused(
        &check_with(&pki, &[], &[("--inbound", "127.0.0.1:1=a:1"), ("--inbound", "127.0.0.1:1=b:1")]),
        &["--inbound", "127.0.0.1:1 twice"],
    );
    assert_refused(
        &check_with(&pki, &["--observe"], &[("--inbound", "127.0.0.1:9464=a:1")]),
        &["--inbound", "--observe"],
    );
}

#[test]
fn a_usage_error_of_the_command_line_exits_with_64_too() {
    for (line, named) in [
        (vec![], "run, check, deny"),
        (vec!["fly"], "'fly'"),
        (vec!["run", "--inbond", "x"], "--inbound"),
        (vec!["run", "--workers"], "--workers"),
        (vec!["run", "--workers", "1", "--workers", "2"], "--workers"),
        (vec!["run", "stray"], "stray"),
        (vec!["certs"], "DIR"),
    ] {
        assert_refused(&portcullis().args(&line).output().unwrap(), &[named]);
    }
}

#[test]
fn help_and_version_exit_with_0_and_list_every_flag() {
    let help = portcullis().args(["run", "--help"]).output().unwrap();
    assert!(help.status.success());
    let text = stdout(&help);
    for name in "inbound cert key credential-bundle client-ca allow allow-any revocations crl-coverage no-revocations \
                 snapshot-max-age max-session-age max-certificate-age idle-timeout workers observe control control-ca \
                 control-allow log-format log-level"
        .split(' ')
    {
        let twin = format!("PORTCULLIS_{}", name.to_ascii_uppercase().replace('-', "_"));
        assert!(text.contains(&format!("--{name} ")) || text.contains(&format!("--{name}\n")), "{name}");
        assert!(text.contains(&twin), "{twin}");
    }
    let version = portcullis().arg("--version").output().unwrap();
    assert!(version.status.success());
    assert_eq!(stdout(&version), format!("portcullis {}\n", env!("CARGO_PKG_VERSION")));
    assert!(portcullis().arg("--help").status().unwrap().success());
}

#[test]
fn every_flag_may_come_from_its_twin_and_gives_the_same_report() {
    let pki = Pki::new();
    let more = [
        ("--inbound", "127.0.0.1:8444=unix:/run/app,protocol=h2c"),
        ("--allow", "dns:a.example"),
        ("--snapshot-max-age", "1h"),
        ("--max-session-age", "1h30m"),
        ("--max-certificate-age", "30d"),
        ("--idle-timeout", "500ms"),
        ("--workers", "3"),
        ("--crl-coverage", "leaf"),
        ("--control", "127.0.0.1:9465"),
        ("--control-ca", &pki.text("root.pem")),
        ("--control-allow", "uri:spiffe://dev.portcullis/ns/demo/*=read"),
        ("--control-allow", "dns:ops.example=push,deny"),
        ("--log-format", "json"),
        ("--log-level", "debug"),
    ];
    let by_flags = check_with(&pki, &[], &[more.as_slice(), &[("--json", "")]].concat());
    let mut twins: Vec<(String, String)> = Vec::new();
    let all = pki.flags().into_iter().chain(more.iter().map(|(flag, value)| (*flag, (*value).to_owned())));
    for (flag, value) in all {
        let name = format!("PORTCULLIS_{}", flag.trim_start_matches("--").to_ascii_uppercase().replace('-', "_"));
        match twins.iter_mut().find(|(known, _)| *known == name) {
            // Repeatable: one value a line.
            Some((_, lines)) => *lines = format!("{lines}\n{value}\n"),
            None => twins.push((name, value)),
        }
    }
    let by_twins = portcullis().args(["check", "--json"]).envs(twins).output().unwrap();
    let (one, other) = (report(&by_flags), report(&by_twins));
    assert_eq!(one, other);
    assert_eq!(one["workers"], 3);
    assert_eq!(one["control"]["address"], "127.0.0.1:9465");
    assert_eq!(one["control"]["allow"][1], "dns:ops.example=deny,push");
    assert_eq!(one["allow"], serde_json::json!(["uri:spiffe://dev.portcullis/ns/demo/*", "dns:a.example"]));
    assert_eq!(one["inbounds"][1], "127.0.0.1:8444=unix:/run/app,protocol=h2c");
}

#[test]
fn a_bad_twin_is_named_by_its_own_name_and_a_blank_one_is_absent() {
    let pki = Pki::new();
    let check = |name: &str, value: &str| {
        portcullis().arg("check").args(arguments(&pki.flags())).env(name, value).output().unwrap()
    };
    assert_refused(&check("PORTCULLIS_WORKERS", "0"), &["PORTCULLIS_WORKERS"]);
    assert_refused(&check("PORTCULLIS_IDLE_TIMEOUT", "5"), &["PORTCULLIS_IDLE_TIMEOUT"]);
    assert_refused(&check("PORTCULLIS_ALLOW_ANY", "true"), &["PORTCULLIS_ALLOW_ANY", "--allow"]);
    assert_refused(&check("PORTCULLIS_ALLOW_ANY", "perhaps"), &["--allow-any", "true or false"]);
    assert_refused(&check("PORTCULLIS_CREDENTIAL_BUNDLE", "x.pem"), &["PORTCULLIS_CREDENTIAL_BUNDLE", "--cert"]);
    for (name, value) in [
        ("PORTCULLIS_WORKERS", " "),
        ("PORTCULLIS_ALLOW_ANY", ""),
        ("PORTCULLIS_NO_REVOCATIONS", "false"),
        ("PORTCULLIS_CREDENTIAL_BUNDLE", ""),
        // The flag on the command line replaces its twin, whatever that says.
        ("PORTCULLIS_CERT", "/nowhere"),
        ("PORTCULLIS_REVOCATIONS", "/nowhere"),
    ] {
        let output = check(name, value);
        assert!(output.status.success(), "{name}={value:?}: {}", stderr(&output));
    }
    // A blank value that somebody typed is a variable of the shell that was not set: never in silence.
    assert_refused(&check_with(&pki, &["--revocations"], &[("--revocations=", "")]), &["--revocations"]);
}

#[test]
fn a_file_that_cannot_be_used_is_one_sentence_that_names_it() {
    let pki = Pki::new();
    let write = |name: &str, text: &str| {
        std::fs::write(pki.path(name), text).unwrap();
        pki.text(name)
    };
    let (empty, junk) = (write("empty", ""), write("junk", "neither PEM nor a list\n"));
    for flag in ["--cert", "--key", "--client-ca", "--revocations"] {
        for path in ["/nowhere/at/all", &empty, &junk] {
            let output = check_with(&pki, &[flag], &[(flag, path)]);
            assert_refused(&output, &[path]);
        }
    }
    for path in ["/nowhere/at/all", &empty, &junk] {
        assert_refused(&check_with(&pki, &["--cert", "--key"], &[("--credential-bundle", path)]), &[path]);
    }
    let other_key = pki.text("bob.key");
    assert_refused(&check_with(&pki, &["--key"], &[("--key", &other_key)]), &[&other_key]);
    let list = std::fs::read_to_string(pki.path("revocations.jsonl")).unwrap();
    let short = write("short.jsonl", &list.replace("\"entries\":0", "\"entries\":2"));
    assert_refused(&check_with(&pki, &["--revocations"], &[("--revocations", &short)]), &[&short]);
    let unknown = write("unknown.jsonl", &list.replace("\"entries\":0", "\"entries\":1").replace('}', "}\n{\"x\":1}"));
    assert_refused(&check_with(&pki, &["--revocations"], &[("--revocations", &unknown)]), &[&unknown]);
}

#[test]
fn check_reports_what_would_run_and_starts_nothing() {
    let pki = Pki::new();
    // Every port that is named is taken: whoever listened would fail.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let observe = other.local_addr().unwrap().to_string();
    let inbound = format!("127.0.0.1:{port}=127.0.0.1:9");
    let flags = [("--inbound", inbound.as_str()), ("--observe", observe.as_str())];
    let output = check_with(&pki, &["--inbound", "--observe"], &flags);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for part in [
        "dns:localhost",
        "chain of 2, expires in 6 days",
        "portcullis development root",
        "dev, sequence 1, 0 entries, expires in",
        "uri:spiffe://dev.portcullis/ns/demo/*",
        "nothing was started",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let as_json = report(&check_with(&pki, &["--inbound"], &[("--inbound", &inbound), ("--json", "")]));
    assert_eq!(as_json["ok"], true);
    assert_eq!(as_json["revocations"]["lists"][0]["list"], "dev");
    assert_eq!(as_json["certificate"]["chain"], 2);
    let without = [("--no-revocations", ""), ("--allow-any", ""), ("--json", "")];
    let open = report(&check_with(&pki, &["--revocations", "--allow"], &without));
    assert_eq!((&open["revocations"], &open["allow"]), (&"not checked".into(), &"any".into()));
}
