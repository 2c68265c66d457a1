//! Lists pushed to a running sidecar: what they cut, what is refused, and what waits to be confirmed. It must never
//! look at the sidecar from inside: streams, metrics, the log and the API are what an operator has.

use testkit::Duration;

use crate::control::{By, Office};
use crate::program::{Program, eventually};
use crate::stream::Stream;
use crate::tools::{run_with, status};

#[tokio::test]
async fn a_push_cuts_a_live_stream_and_disturbs_nobody_else() {
    let office = Office::new().await;
    let alice = office.stage.client("alice");
    office.stage.client("bob");
    let program = Program::start(&office.by_socket()).await;
    let hers = Stream::open(&office.stage, &program, ("alice", "--http2")).await;
    let his = Stream::open(&office.stage, &program, ("bob", "--http1.1")).await;
    let list = office.stage.list(2).serial(&alice).text();
    let answer = office.push(&program, (By::Socket, ""), &list).await;
    assert_eq!((answer.status, &answer.value["result"]), (200, &"changed".into()), "{answer:?}");
    hers.end().await.assert_broken();
    his.flows().await;
    let lists = office.ask(&program, (By::Socket, "/v1/revocations"), &[]).await;
    assert_eq!(lists.value["lists"][0]["sequence"], 2, "{lists:?}");
    let line = program.log.wait_for("the push is told", |line| line["event"] == "control").await;
    assert_eq!((&line["action"], &line["result"]), (&"push".into(), &"changed".into()), "{line}");
    assert_eq!(line["what"], "list test, sequence 2", "{line}");
    // The same by our own client is nothing new; an older one is refused.
    office.stage.write("two.jsonl", &list);
    office.stage.write("one.jsonl", office.stage.list(1).text());
    let told = office.run(&program, By::Socket, &["revocations", "push", &office.stage.text("two.jsonl")]).await;
    assert_eq!((told.code, told.out.starts_with("unchanged ")), (Some(0), true), "{told:?}");
    let told = office.run(&program, By::Socket, &["revocations", "push", &office.stage.text("one.jsonl")]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let state = office.ask(&program, (By::Socket, "/v1/state"), &[]).await;
    assert_eq!(state.value["refusals"][0]["label"], "older", "{state:?}");
}

#[tokio::test]
async fn stale_knowledge_denies_the_apps_clients_and_not_the_push_that_heals_it() {
    let office = Office::new().await;
    office.stage.client("alice");
    office.operator("anna");
    office.stage.publish(&office.stage.list(1).expires_in(Duration::seconds(5)));
    let program = Program::start(&office.by_certificate(&["anna=push"])).await;
    eventually("knowledge is stale", async || program.get("/readyz").await.0 == 503).await;
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 0);
    office.stage.write("two.jsonl", office.stage.list(2).text());
    let push = ["revocations", "push", &office.stage.text("two.jsonl"), "--json"];
    let told = office.run(&program, By::Certificate("anna"), &push).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let pushed: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&pushed["result"], &pushed["sequence"]), (&"changed".into(), &2.into()));
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 200);
    assert_eq!(program.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_preview_names_exactly_those_whom_the_push_then_cuts() {
    let office = Office::new().await;
    let alice = office.stage.client("alice");
    office.stage.client("bob");
    office.stage.client("carol");
    let program = Program::start(&office.by_socket()).await;
    let mut cut = Vec::new();
    for (name, version) in [("alice", "--http2"), ("bob", "--http1.1"), ("bob", "--http2")] {
        cut.push(Stream::open(&office.stage, &program, (name, version)).await);
    }
    let stays = Stream::open(&office.stage, &program, ("carol", "--http2")).await;
    let list = office.stage.list(2).serial(&alice).reason("keyCompromise").id("spiffe://td/bob").text();
    office.stage.write("two.jsonl", &list);
    let file = office.stage.text("two.jsonl");
    let told = office.run(&program, By::Socket, &["revocations", "preview", &file, "--json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let seen: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&seen["live"], &seen["cut"]), (&4.into(), &3.into()), "{seen}");
    assert_eq!(seen["by_reason"], serde_json::json!({ "revoked": 3 }), "{seen}");
    // Nothing has happened.
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0);
    assert_eq!(program.metric("portcullis_snapshot_sequence", &[]).await, 1.0);
    assert_eq!(office.run(&program, By::Socket, &["revocations", "push", &file]).await.code, Some(0));
    for stream in cut {
        stream.end().await.assert_broken();
    }
    stays.flows().await;
    program.wait_for_metric("portcullis_cuts_total", &[("reason", "revoked")], 3.0).await;
    let mut told = None;
    eventually("every cut is told", async || {
        let cuts = program.log.events("session_cut");
        told = (cuts.len() == 3).then_some(cuts);
        told.is_some()
    })
    .await;
    // Identity by identity, with the very words of the denial.
    let mut cuts: Vec<_> =
        told.unwrap().iter().map(|line| (line["identity"].clone(), line["detail"].clone())).collect();
    let mut foreseen = Vec::new();
    for one in seen["identities"].as_array().unwrap() {
        for _ in 0..one["sessions"].as_u64().unwrap() {
            foreseen.push((one["identity"].clone(), one["sentence"].clone()));
        }
    }
    cuts.sort_by_key(|cut| cut.0.to_string());
    foreseen.sort_by_key(|cut| cut.0.to_string());
    assert_eq!(cuts, foreseen);
}

#[tokio::test]
async fn a_push_on_top_of_what_somebody_else_published_is_refused() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let put = async |sequence: u64, matching: &str| {
        let mut curl = office.curl(&program, By::Socket, "/v1/revocations");
        curl.args(["--request", "PUT", "--data-binary", "@-", "--header", &format!("If-Match: {matching}")]);
        let told = run_with(&mut curl, office.stage.list(sequence).text().as_bytes()).await;
        let (body, status) = told.out.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap())
    };
    assert_eq!(put(2, "\"1\"").await.0, "200");
    let (status, problem) = put(3, "\"1\"").await;
    assert_eq!((status.as_str(), &problem["label"], &problem["in_force"]), ("412", &"mismatch".into(), &2.into()));
    assert_eq!(put(3, "\"0\"").await.0, "412");
    assert_eq!(put(3, "W/\"2\"").await.0, "400");
    assert_eq!(put(3, "\"2\"").await.0, "200");
    office.stage.write("four.jsonl", office.stage.list(4).text());
    let push = ["revocations", "push", &office.stage.text("four.jsonl"), "--if-match"];
    assert_eq!(office.run(&program, By::Socket, &[push.as_slice(), &["2"]].concat()).await.code, Some(1));
    assert_eq!(office.run(&program, By::Socket, &[push.as_slice(), &["3"]].concat()).await.code, Some(0));
}

#[tokio::test]
async fn more_than_the_cap_is_refused_whether_its_length_is_told_or_not() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket().with("--revocation-max-bytes", "64KiB")).await;
    let body = vec![b' '; 8 << 20];
    for (path, method) in [("/v1/revocations", "PUT"), ("/v1/revocations/preview", "POST")] {
        let mut told = office.curl(&program, By::Socket, path);
        let with_length = run_with(told.args(["--request", method, "--data-binary", "@-"]), &body).await;
        let mut chunked = office.curl(&program, By::Socket, path);
        let chunked = run_with(chunked.args(["--request", method, "--upload-file", "-"]), &body).await;
        for told in [with_length, chunked] {
            let (problem, status) = told.out.rsplit_once('\n').unwrap();
            assert_eq!(status, "413", "{told:?}");
            let problem: serde_json::Value = serde_json::from_str(problem).unwrap();
            assert_eq!(problem["label"], "too_large", "{problem}");
        }
    }
    assert_eq!(office.push(&program, (By::Socket, ""), &office.stage.list(2).text()).await.status, 200);
}

#[tokio::test]
async fn what_would_cut_too_many_is_held_until_it_is_confirmed() {
    let office = Office::new().await;
    let alice = office.stage.client("alice");
    let program = Program::start(&office.by_socket().with("--max-cut-fraction", "0.5")).await;
    let stream = Stream::open(&office.stage, &program, ("alice", "--http2")).await;
    let list = office.stage.list(2).serial(&alice).text();
    office.stage.write("two.jsonl", &list);
    let file = office.stage.text("two.jsonl");
    assert!(program.get("/readyz?verbose").await.1.contains("[ok] held: nothing waits"));
    let told = office.run(&program, By::Socket, &["revocations", "preview", &file]).await;
    assert_eq!((told.code, told.out.contains("it would be held")), (Some(1), true), "{told:?}");
    let answer = office.push(&program, (By::Socket, ""), &list).await;
    assert_eq!((answer.status, &answer.value["result"]), (202, &"held".into()), "{answer:?}");
    assert_eq!(office.run(&program, By::Socket, &["revocations", "push", &file]).await.code, Some(1));
    let (ready, conditions) = program.get("/readyz?verbose").await;
    assert_eq!((ready, conditions.contains("[ok] held: 1 waits")), (200, true), "{conditions}");
    assert!(conditions.contains("[ok] stale: nothing in force is past its expiry"), "{conditions}");
    let state = office.ask(&program, (By::Socket, "/v1/state"), &[]).await;
    assert_eq!(state.value["held"][0]["digest"], answer.value["held"]["digest"], "{state:?}");
    stream.flows().await;
    let told = office.run(&program, By::Socket, &["revocations", "confirm"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    stream.end().await.assert_broken();
    assert_eq!(office.run(&program, By::Socket, &["revocations", "confirm"]).await.code, Some(64));
    // A floor that is taken away lets an older number in; whoever confirms with the push is not held.
    let told = office.run(&program, By::Socket, &["revocations", "reset", "test"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let again = office.push(&program, (By::Socket, "?confirm=true"), &office.stage.list(1).text()).await;
    assert_eq!((again.status, &again.value["result"]), (200, &"changed".into()), "{again:?}");
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 200);
    let actions: Vec<_> = program.log.events("control").iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["push", "push", "confirm", "confirm", "reset_floor", "push"]);
}
