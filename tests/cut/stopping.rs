//! The stop: open requests end, idle connections close, nobody new comes in, and the call returns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::{Ending, RawApp, RecordingApp, read_to_end};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::stage::{Line, Stream, Wire, stage};
use crate::support::{House, eventually};

/// Far below `Limits::stop`: whoever waits for that limit has not understood that all is closed.
const PROMPT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_stop_lets_open_requests_end_closes_idle_connections_and_returns() {
    let (app, house) = stage().await;
    let client = house.client("a");
    let mut idle = Line::both(&house, &client).await;
    for line in &mut idle {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    let open = Line::both(&house, &client).await.map(|mut line| {
        tokio::spawn(async move { (line.status("/slow/400").await.expect("an open request ends whole"), line) })
    });
    app.wait_for(4).await;
    let started = Instant::now();
    house.running.stop().await;
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
    for task in open {
        let (status, mut line) = task.await.unwrap();
        assert_eq!(status, 200);
        line.closed().await;
    }
    for line in &mut idle {
        line.closed().await;
    }
    assert_eq!(house.metric("portcullis_sessions_active", &[]), 0.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), 4.0);
    assert!(TcpStream::connect(house.address()).await.is_err(), "the address is still listened on");
}

#[tokio::test]
async fn a_stop_closes_parked_sessions() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.park_after = Duration::from_millis(20)).start();
    let [mut one, mut two] = Line::both(&house, &house.client("a")).await;
    assert_eq!(one.status("/").await.unwrap(), 200);
    // Nothing shows from outside that a session was parked; a worker looks for quiet ones once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let started = Instant::now();
    house.running.stop().await;
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
    one.closed().await;
    two.closed().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_limit_for_a_stream_without_end() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.stop = Duration::from_millis(500)).start();
    let streams = Stream::both(&house, &house.client("a")).await;
    let watching = streams.map(|mut stream| tokio::spawn(async move { while stream.step().await.is_ok() {} }));
    let started = Instant::now();
    house.running.stop().await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(450), "the streams had their time: {took:?}");
    assert!(took < PROMPT, "the stop took {took:?}");
    // It returns when all is closed, and counted.
    assert_eq!(house.metric("portcullis_sessions_active", &[]), 0.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), 2.0);
    for task in watching {
        tokio::time::timeout(PROMPT, task).await.expect("the stream ends in an error").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_never_begins_to_speak_http2_does_not_hold_up_a_stop() {
    let (_app, house) = stage().await;
    let mut silent = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    let mut half = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    house.wait_for_metric("portcullis_sessions_active", &[], 2.0).await;
    let started = Instant::now();
    house.running.stop().await;
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
    for stream in [&mut silent, &mut half] {
        let answer = read_to_end(stream, PROMPT).await;
        assert_ne!(answer.ending, Ending::StillOpen, "{answer:?}");
    }
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), 2.0);
}

#[tokio::test]
async fn a_handshake_that_ends_after_the_stop_began_does_not_hold_it_up() {
    let (app, house) = stage().await;
    let (address, go) = (house.address(), Arc::new(Notify::new()));
    let pass = Arc::clone(&go);
    // It connects at once and passes bytes on when the test says so.
    let relay = RawApp::start(move |mut near, _| {
        let pass = Arc::clone(&pass);
        async move {
            let mut far = TcpStream::connect(address).await.unwrap();
            pass.notified().await;
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    })
    .await;
    let (client, relayed) = (house.client("late"), relay.addr());
    let late = tokio::spawn(async move { client.connect(relayed, &["http/1.1"]).await });
    relay.wait_for_connections(1).await;
    // This one's connection came later, and was accepted; its request keeps the stop from being over at once.
    let mut open = house.client("a").http1(address).await.unwrap();
    let open = tokio::spawn(async move { open.get("/slow/500").await.unwrap().status });
    app.wait_for(1).await;
    let started = Instant::now();
    let shaking = async {
        while !house.running.is_stopping() {
            tokio::task::yield_now().await;
        }
        // The workers have taken the list of those whom they ask to end.
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        go.notify_one();
        late.await
    };
    let (_, shaken) = tokio::join!(house.running.stop(), shaking);
    let _closed = shaken.unwrap();
    assert_eq!(open.await.unwrap(), 200);
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_revocation_during_the_stop_still_cuts() {
    let (_app, house) = stage().await;
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let stopping = house.running.stop();
    let revoking = async {
        while !house.running.is_stopping() {
            tokio::task::yield_now().await;
        }
        let since = Instant::now();
        house.revoke("a");
        tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    };
    let started = Instant::now();
    tokio::join!(stopping, revoking);
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "revoked")]), 2.0);
}

#[tokio::test]
async fn an_answer_that_the_stop_breaks_off_does_not_look_whole() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.stop = Duration::from_millis(200)).start();
    let mut wires = Vec::new();
    // Without chunks, the close of the connection is the end of the answer.
    for version in ["1.0", "1.1"] {
        let mut wire = Wire::connect(&house, &house.client("a")).await;
        wire.say(format!("GET /stream HTTP/{version}\r\nHost: localhost\r\n\r\n")).await;
        wire.until(b"chunk 3\n").await;
        wires.push(wire);
    }
    house.running.stop().await;
    for mut wire in wires {
        let (_, ending) = wire.rest().await;
        assert_eq!(ending, Ending::Reset);
    }
}

#[tokio::test]
async fn a_stop_under_load_loses_no_request_of_clients_that_heed_what_they_are_told() {
    const CLIENTS: usize = 20;
    let (app, house) = stage().await;
    let mut loads = Vec::new();
    for number in 0..CLIENTS {
        let client = house.client(&format!("{number}"));
        let [one, two] = Line::both(&house, &client).await;
        for line in [one, two] {
            loads.push(tokio::spawn(until_told(line, Duration::from_millis(number as u64))));
        }
    }
    app.wait_for(CLIENTS * 10).await;
    let started = Instant::now();
    house.running.stop().await;
    assert!(started.elapsed() < PROMPT, "the stop took {:?}", started.elapsed());
    let mut answered = 0;
    for load in loads {
        answered += load.await.unwrap();
    }
    assert_eq!(answered, app.count(), "a request that reached the app was not answered");
    let all = 2.0 * CLIENTS as f64;
    assert_eq!(house.metric("portcullis_drains_total", &[("limit", "stop")]), all);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), all);
}

/// Requests until the client is told to go: by an answer, or by GOAWAY, after which none is sent; how many passed.
async fn until_told(mut line: Line, pause: Duration) -> usize {
    let mut answered = 0;
    loop {
        let told = match &mut line {
            Line::One(client) => {
                let answer = client.get("/").await.expect("no request fails before an answer told to go");
                assert_eq!(answer.status, 200);
                answer.header("connection").as_deref() == Some("close")
            }
            Line::Two(client) => match client.get("/").await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200);
                    false
                }
                Err(_) => return answered,
            },
        };
        answered += 1;
        if told {
            return answered;
        }
        tokio::time::sleep(pause).await;
    }
}
