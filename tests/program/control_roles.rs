//! Who comes in at the control listener, and what they may do there. It must never let a test pass because nobody
//! answered: where somebody is refused, somebody else is let in beside them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::control::{By, Office};
use crate::program::{Program, eventually, in_time};
use crate::tools::{curl, run};

#[tokio::test]
async fn nobody_comes_in_over_mtls_whom_no_grant_names() {
    let office = Office::new().await;
    office.operator("anna");
    office.stage.client("alice");
    let program = Program::start(&office.by_certificate(&[])).await;
    program
        .log
        .wait_for("it is said that nobody may come in", |line| {
            line["event"] == "load_warning" && line["message"].as_str().unwrap().contains("--control-allow")
        })
        .await;
    let state = (By::Certificate("anna"), "/v1/state");
    let told = office.ask(&program, state, &[]).await;
    assert_eq!((told.status, told.told.code == Some(0)), (0, false), "{told:?}");
    let line = program.log.wait_for("it is told", |line| line["event"] == "control_turned_away").await;
    assert_eq!(line["who"], "uri:spiffe://ops/anna", "{line}");
    drop(program);
    let program = Program::start(&office.by_certificate(&["anna=read"])).await;
    assert_eq!(office.ask(&program, state, &[]).await.status, 200);
    // A client of the app is no operator, and whoever shows no certificate neither.
    let address = Office::address(&program);
    let url = format!("https://localhost:{}/v1/state", address.rsplit_once(':').unwrap().1);
    for name in [Some("alice"), None] {
        let told = run(curl(&office.stage, name).args(["--write-out", "%{http_code}", &url])).await;
        assert_eq!((told.code == Some(0), told.out.as_str()), (false, "000"), "{told:?}");
    }
}

#[tokio::test]
async fn each_role_opens_its_own_requests_and_roles_add_up() {
    let office = Office::new().await;
    let names = ["reader", "denier", "pusher", "ender", "both"];
    names.iter().for_each(|name| drop(office.operator(name)));
    let grants = ["reader=read", "denier=deny", "pusher=push", "ender=end", "both=deny", "both=push"];
    let program = Program::start(&office.by_certificate(&grants)).await;
    let json = ["--header", "Content-Type: application/json", "--data", "{}"];
    let put = ["--request", "PUT", "--data", "no list"];
    let delete = ["--request", "DELETE"];
    // What somebody who may is answered, and who may.
    let requests: [(&str, &[&str], u16, &[&str]); 14] = [
        ("/v1/state", &[], 200, &["reader", "pusher", "both"]),
        ("/v1/revocations", &[], 200, &["reader", "pusher", "both"]),
        ("/v1/revocations", &put, 422, &["pusher", "both"]),
        ("/v1/revocations/preview", &["--data", "no list"], 422, &["reader", "pusher", "both"]),
        ("/v1/revocations/confirm", &json, 404, &["pusher", "both"]),
        ("/v1/revocations/other/floor", &delete, 404, &["pusher", "both"]),
        ("/v1/denials", &[], 200, &["reader", "denier", "both"]),
        ("/v1/denials", &json, 422, &["denier", "both"]),
        ("/v1/denials/d-000000", &delete, 404, &["denier", "both"]),
        ("/v1/sessions", &[], 200, &["reader", "ender"]),
        ("/v1/sessions/0", &[], 404, &["reader", "ender"]),
        ("/v1/sessions/0?reason=x", &delete, 404, &["ender"]),
        ("/v1/sessions/end", &json, 422, &["ender"]),
        ("/v1/openapi.yaml", &[], 200, &names),
    ];
    for (path, arguments, status, may) in requests {
        for name in names {
            let answer = office.ask(&program, (By::Certificate(name), path), arguments).await;
            match may.contains(&name) {
                true => assert_eq!(answer.status, status, "{name} {path} {arguments:?}: {answer:?}"),
                false => answer.assert_problem(403, "role"),
            }
        }
    }
    let refused = program.log.events("control");
    let forbidden = refused.iter().filter(|line| line["status"] == 403 && line["result"] == "refused").count();
    // Every change that was asked for without the role is told. Two of the five may do five of them, one the other two.
    assert_eq!(forbidden, 3 * 5 + 4 * 2, "{refused:?}");
}

#[tokio::test]
async fn the_socket_file_is_for_its_owner_alone_and_goes_with_the_program() {
    let office = Office::new().await;
    let path = office.stage.path("control.sock");
    let mut program = Program::start(&office.by_socket()).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let answer = office.deny(&program, By::Socket, "spiffe://td/alice").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let who = answer.value["who"].as_str().unwrap().to_owned();
    assert!(who.starts_with("unix:uid="), "{who}");
    let line = program.log.wait_for("the change is told", |line| line["event"] == "control").await;
    assert_eq!((&line["who"], &line["action"], &line["result"]), (&who.into(), &"deny".into(), &"denied".into()));
    assert_eq!(line["what"], answer.value["id"]);
    program.terminate().await;
    assert_eq!(program.ended().await, Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn without_the_flag_there_is_no_control_listener() {
    let office = Office::new().await;
    let program = Program::start(&office.stage.flags()).await;
    assert_eq!(Office::address(&program), "none");
    // The plaintext endpoint for probes knows none of it.
    assert_eq!(program.get("/v1/state").await.0, 404);
}

#[tokio::test]
async fn an_operator_whose_trust_ends_is_cut_in_the_middle_of_a_push() {
    let office = Office::new().await;
    office.operator("anna");
    office.operator("bert");
    let program = Program::start(&office.by_certificate(&["anna=push", "bert=deny"])).await;
    let (anna, bert) = (By::Certificate("anna"), By::Certificate("bert"));
    let mut curl = office.curl(&program, anna, "/v1/revocations");
    // A connection that is open and idle would be cut as well; one with a body half sent shows that nothing comes of it.
    let mut upload = curl.args(["--upload-file", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = upload.stdin.take().unwrap();
    let list = office.stage.list(2).text();
    stdin.write_all(&list.as_bytes()[..list.len() / 2]).await.unwrap();
    stdin.flush().await.unwrap();
    let answer = office.deny(&program, bert, "spiffe://ops/anna").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let line = program
        .log
        .wait_for("she is cut or turned away", |line| {
            ["control_cut", "control_turned_away"].contains(&line["event"].as_str().unwrap_or_default())
        })
        .await;
    assert_eq!((&line["who"], &line["reason"]), (&"uri:spiffe://ops/anna".into(), &"revoked".into()), "{line}");
    let _ = stdin.write_all(&list.as_bytes()[list.len() / 2..]).await;
    drop(stdin);
    let ended = in_time("curl's end", upload.wait_with_output()).await.unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert_eq!(program.metric("portcullis_snapshot_sequence", &[]).await, 1.0);
    // She does not come in again, not by our own client either, and he does.
    assert_eq!(office.ask(&program, (anna, "/v1/state"), &[]).await.status, 0);
    let told = office.run(&program, anna, &["state"]).await;
    assert_eq!(told.code, Some(77), "{told:?}");
    let denials = office.ask(&program, (bert, "/v1/denials"), &[]).await;
    let id = denials.value["denials"][0]["id"].as_str().unwrap().to_owned();
    let told = office.run(&program, bert, &["undeny", &id]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(office.ask(&program, (anna, "/v1/state"), &[]).await.status, 200);
}

#[tokio::test]
async fn new_anchors_of_operators_come_into_force_without_a_restart() {
    let office = Office::new().await;
    office.operator("anna");
    let program = Program::start(&office.by_certificate(&["anna=read"])).await;
    let state = (By::Certificate("anna"), "/v1/state");
    assert_eq!(office.ask(&program, state, &[]).await.status, 200);
    office.stage.write("operators.pem", office.stage.client_root.pem());
    eventually("her anchor is gone", async || office.ask(&program, state, &[]).await.status == 0).await;
    program.log.wait_for("it is told", |line| line["event"] == "control_ca").await;
}
