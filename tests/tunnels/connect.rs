//! CONNECT: refused unless it is allowed, and then the app's affair alone; both ends may end their own direction.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{Ending, RawApp, raw_app};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{BOTH, Over, Version, ask_connect, open_connect, seen};
use crate::support::House;

/// An app that answers every head like this, and goes on if that accepts a tunnel.
async fn app<Serve, Served>(answer: &'static str, serve: Serve) -> (RawApp, Arc<Mutex<Vec<String>>>)
where
    Serve: Fn(TcpStream) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&heads);
    let app = RawApp::start(move |mut stream, _| {
        let (noted, serve) = (Arc::clone(&noted), serve.clone());
        async move {
            let head = raw_app::read_head(&mut stream).await;
            noted.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            serve(stream).await;
        }
    })
    .await;
    (app, heads)
}

const OK: &str = "HTTP/1.1 200 Connection established\r\nVia: the app\r\n\r\n";

async fn silence(_: TcpStream) {}

async fn echo(mut stream: TcpStream) {
    let (mut reading, mut writing) = stream.split();
    let _ = tokio::io::copy(&mut reading, &mut writing).await;
}

#[tokio::test]
async fn a_tunnel_leads_to_the_app_and_to_nothing_of_the_clients_choosing() {
    let (app, heads) = app(OK, echo).await;
    // Whoever dialled what the client names would come here.
    let elsewhere = RawApp::silent().await;
    let house = House::before(app.addr()).allow_connect().start();
    for version in BOTH {
        for target in [elsewhere.addr().to_string(), "db.invalid:5432".to_owned(), "[::1]:22".to_owned()] {
            let mut answered = ask_connect(&house, &house.client("a"), version, &target).await;
            assert_eq!((answered.status, answered.field("via")), (200, Some("the app")));
            answered.tunnel.send("through").await.unwrap();
            assert_eq!(answered.tunnel.exactly(7).await, b"through");
            let head = heads.lock().unwrap().pop().unwrap();
            assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
            assert_eq!(seen(&head, "host"), target);
            assert!(seen(&head, "x-forwarded-client-cert").contains("spiffe://td/a"), "{head}");
        }
    }
    assert_eq!((app.connections(), elsewhere.connections()), (6, 0));
    let counted = [("verdict", "permitted"), ("protocol", "tunnel")];
    assert_eq!(house.metric("portcullis_requests_total", &counted), 6.0);
}

#[tokio::test]
async fn without_the_flag_it_is_refused_and_counted() {
    let (app, _) = app(OK, silence).await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        assert_eq!(ask_connect(&house, &house.client("a"), version, "a:443").await.status, 405);
    }
    assert_eq!(app.connections(), 0);
    let counted = [("verdict", "refused"), ("reason", "connect"), ("protocol", "tunnel")];
    assert_eq!(house.metric("portcullis_requests_total", &counted), 2.0);
}

#[tokio::test]
async fn an_app_that_refuses_is_heard() {
    let (_app, _) = app("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n", silence).await;
    let house = House::before(_app.addr()).allow_connect().start();
    for version in BOTH {
        let mut answered = ask_connect(&house, &house.client("a"), version, "a:443").await;
        assert_eq!((answered.status, answered.tunnel.exactly(3).await), (403, b"no\n".to_vec()));
    }
    let house = House::before(raw_app::unused_address().await).allow_connect().start();
    for version in BOTH {
        assert_eq!(ask_connect(&house, &house.client("a"), version, "a:443").await.status, 502);
    }
}

#[tokio::test]
async fn an_answer_with_a_length_opens_a_tunnel_without_one() {
    let (app, _) = app("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n", echo).await;
    let house = House::before(app.addr()).allow_connect().start();
    for version in BOTH {
        let mut answered = ask_connect(&house, &house.client("a"), version, "a:443").await;
        assert_eq!((answered.status, answered.field("content-length")), (201, None));
        answered.tunnel.send("more than five").await.unwrap();
        assert_eq!(answered.tunnel.exactly(14).await, b"more than five");
    }
}

#[tokio::test]
async fn a_target_that_is_none_is_refused_and_so_is_a_body() {
    let (app, _) = app(OK, silence).await;
    let house = House::before(app.addr()).allow_connect().start();
    for request in [
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "CONNECT user@a:443 HTTP/1.1\r\nHost: user@a:443\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nHost: b\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3\r\n\r\nabc",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = house.client("a").raw(house.address(), request.as_bytes(), Duration::from_secs(20)).await.unwrap();
        assert!(answer.text().starts_with("HTTP/1.1 400 "), "{request}: {}", answer.text());
        assert_eq!(answer.ending, Ending::Clean, "{request}");
    }
    for target in ["a", "user@a:443"] {
        assert_eq!(ask_connect(&house, &house.client("a"), Version::Two, target).await.status, 400, "{target}");
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn each_end_may_end_its_own_direction_and_still_hear_the_other() {
    let (_first, _) = app(OK, |mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let (_second, _) = app(OK, |mut stream| async move {
        stream.write_all(b"all I have").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 300_000);
    })
    .await;
    for version in BOTH {
        let house = House::before(_first.addr()).allow_connect().start();
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.send(vec![7; 300_000]).await.unwrap();
        tunnel.finish().await;
        assert_eq!(tunnel.rest().await, (b"300000 bytes".to_vec(), Over::Clean), "{version:?}");
        let house = House::before(_second.addr()).allow_connect().start();
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.rest().await, (b"all I have".to_vec(), Over::Clean), "{version:?}");
        tunnel.send(vec![7; 300_000]).await.unwrap();
        tunnel.finish().await;
        _second.wait_for_silence().await;
        if version == Version::One {
            tunnel.closed().await;
            house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "client")], 1.0).await;
        }
        assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
    }
}

/// Of a tunnel's half, for tests that see it pass.
const LIMIT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn after_the_apps_goodbye_a_client_that_says_nothing_is_not_waited_for_without_end() {
    let (app, _) = app(OK, |mut stream| async move {
        stream.shutdown().await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let house = House::before(app.addr()).allow_connect().limits(|limits| limits.tunnel_half_closed = LIMIT).start();
    for version in BOTH {
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.rest().await, (Vec::new(), Over::Clean), "{version:?}");
        app.wait_for_silence().await;
        if version == Version::One {
            house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
        }
    }
}

#[tokio::test]
async fn after_the_clients_goodbye_an_app_may_think_for_as_long_as_it_likes() {
    let (app, _) = app(OK, |mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        tokio::time::sleep(LIMIT * 6).await;
        stream.write_all(b"at last").await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let house = House::before(app.addr()).allow_connect().limits(|limits| limits.tunnel_half_closed = LIMIT).start();
    for version in BOTH {
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.finish().await;
        assert_eq!(tunnel.rest().await, (b"at last".to_vec(), Over::Clean), "{version:?}");
    }
}

#[tokio::test]
async fn a_stop_that_breaks_a_tunnel_off_is_no_clean_end_for_its_app() {
    let (app, heard) = listening().await;
    for version in BOTH {
        let spec = House::before(app.addr()).allow_connect().limits(|limits| limits.stop = LIMIT);
        let house = spec.start();
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.send("half of what I had to s").await.unwrap();
        house.running.stop().await;
        assert!(matches!(tunnel.rest().await.1, Over::Broken(_)), "{version:?}");
        app.wait_for_silence().await;
        assert_eq!(heard.lock().unwrap().pop().unwrap(), Err(std::io::ErrorKind::ConnectionReset), "{version:?}");
    }
}

/// How the app's reading ended: `Ok` by a clean end.
type Heard = Arc<Mutex<Vec<Result<(), std::io::ErrorKind>>>>;

/// An app that accepts tunnels and notes how each ends.
pub(crate) async fn listening() -> (RawApp, Heard) {
    let heard: Heard = Arc::default();
    let noted = Arc::clone(&heard);
    let (app, _) = app(OK, move |mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            let mut all = Vec::new();
            let ended = stream.read_to_end(&mut all).await;
            noted.lock().unwrap().push(ended.map(|_| ()).map_err(|error| error.kind()));
        }
    })
    .await;
    (app, heard)
}

#[tokio::test]
async fn a_client_that_breaks_off_is_no_clean_end_for_the_app() {
    let (app, heard) = listening().await;
    let house = House::before(app.addr()).allow_connect().start();
    for version in BOTH {
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.send("half of what I had to s").await.unwrap();
        tunnel.vanish();
        app.wait_for_silence().await;
        assert_eq!(heard.lock().unwrap().pop().unwrap(), Err(std::io::ErrorKind::ConnectionReset), "{version:?}");
    }
}

#[tokio::test]
async fn an_app_that_breaks_off_is_no_clean_end_for_the_client() {
    let (_app, _) = app(OK, |mut stream| async move {
        let _ = stream.read_u8().await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let house = House::before(_app.addr()).allow_connect().start();
    for version in BOTH {
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.send("x").await.unwrap();
        let (bytes, over) = tunnel.rest().await;
        assert!(bytes.is_empty() && matches!(over, Over::Broken(_)), "{version:?}: {over:?}");
    }
    assert_eq!(house.metric("portcullis_app_faults_total", &[("kind", "broken")]), 2.0);
}
