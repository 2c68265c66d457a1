//! Who the app is told the client is: the headers that say it, copies that a client sends, names that try to forge.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use testkit::{Leaf, LeafSpec, RecordingApp, Seen, hex};

use crate::speech::{Caller, Raw};
use crate::support::House;
use crate::xfcc;

/// Spellings that some gateway or app reads as the name of an identity header.
const SPELLINGS: [&str; 28] = [
    "X-Forwarded-Client-Cert",
    "x-forwarded-client-cert",
    "X-FORWARDED-CLIENT-CERT",
    "X_Forwarded_Client_Cert",
    "x-forwarded_client-cert",
    "x.forwarded.client.cert",
    "X-Forwarded.Client_Cert",
    "Client-Cert",
    "client-CERT",
    "Client_Cert",
    "client.cert",
    "Client-Cert-Chain",
    "Client_Cert-Chain",
    "CLIENT_CERT_CHAIN",
    "X-Forwarded-For",
    "x_forwarded_for",
    "x-forwarded.for",
    "X-Forwarded-Proto",
    "X_FORWARDED_PROTO",
    "X-Forwarded-Host",
    "x-forwarded-port",
    "X-Forwarded-User",
    "x_forwarded-email",
    "Forwarded",
    "FORWARDED",
    "X-Real-IP",
    "x_real_ip",
    "X-Forwarded",
];

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
}

fn der_of(field: &str) -> Vec<u8> {
    let inside = field.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    STANDARD.decode(inside.expect("a byte sequence stands between colons (RFC 8941 §3.3.5)")).unwrap()
}

/// Our headers and nothing else of their kind.
fn assert_says(seen: &Seen, leaf: &Leaf, chain: &[&[u8]]) {
    assert_eq!(seen.all("client-cert").len(), 1, "{seen:?}");
    assert_eq!(der_of(&seen.header("client-cert").unwrap()), leaf.der().to_vec());
    let links: Vec<Vec<u8>> =
        seen.all("client-cert-chain").iter().flat_map(|all| all.split(", ")).map(der_of).collect();
    assert_eq!(links, chain);
    assert_eq!(seen.all("x-forwarded-client-cert").len(), 1);
    let pairs = xfcc::read(&seen.header("x-forwarded-client-cert").unwrap());
    assert_eq!(xfcc::all(&pairs, "Hash"), [hex(&leaf.sha256())]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    let ours = ["x-forwarded-client-cert", "client-cert", "client-cert-chain", "x-forwarded-for", "x-forwarded-proto"];
    for (name, value) in &seen.headers {
        let like_ours = name.contains("forwarded") || name.contains("client") || name.contains("real");
        assert!(!like_ours || ours.contains(&name.as_str()), "{name} arrived");
        assert!(!String::from_utf8_lossy(value).contains("spoofed"), "{name} carries a client's value");
    }
}

#[tokio::test]
async fn the_app_is_told_the_certificate_the_chain_and_the_address_over_both_protocols() {
    let (app, house) = house().await;
    for mut caller in Caller::both(&house, "ns/a/sa/b").await {
        caller.get("/").await.unwrap();
    }
    let leaf = house.leaf("ns/a/sa/b");
    for seen in app.wait_for(2).await {
        assert_says(&seen, &leaf, &[house.pki.issuing.der()]);
        let pairs = xfcc::read(&seen.header("x-forwarded-client-cert").unwrap());
        assert_eq!(xfcc::all(&pairs, "URI"), ["spiffe://td/ns/a/sa/b"]);
        assert_eq!(xfcc::all(&pairs, "Subject"), [""]);
        assert_eq!(xfcc::all(&pairs, "DNS"), [""; 0]);
    }
}

#[tokio::test]
async fn a_certificate_with_names_of_every_kind_is_told_with_all_of_them() {
    let (app, house) = house().await;
    let spec = LeafSpec::spiffe("spiffe://td/a").and_dns("one.example").and_dns("two.example");
    let leaf = house.pki.client_root.issue(spec.organization("Org").common_name("Name"));
    house.client_of(&leaf).http1(house.address()).await.unwrap().get("/").await.unwrap();
    let seen = app.wait_for(1).await.remove(0);
    assert_says(&seen, &leaf, &[]);
    let pairs = xfcc::read(&seen.header("x-forwarded-client-cert").unwrap());
    assert_eq!(xfcc::all(&pairs, "URI"), ["spiffe://td/a"]);
    assert_eq!(xfcc::all(&pairs, "DNS"), ["one.example", "two.example"]);
    let subject = xfcc::all(&pairs, "Subject")[0];
    assert!(subject.contains("CN=Name") && subject.contains("O=Org"), "{subject}");
}

#[tokio::test]
async fn certificates_beside_the_verified_path_are_not_told_to_the_app() {
    let (app, house) = house().await;
    let leaf = house.leaf("a");
    let stray = testkit::Authority::root("stray");
    let mut chain = leaf.chain();
    chain.push(stray.der().clone());
    let client = testkit::TlsClient::presenting(house.pki.server_root.der(), &leaf, chain);
    client.http1(house.address()).await.unwrap().get("/").await.unwrap();
    assert_says(&app.wait_for(1).await[0], &leaf, &[house.pki.issuing.der()]);
}

#[tokio::test]
async fn spoofed_copies_in_every_spelling_never_arrive_over_http1() {
    let (app, house) = house().await;
    // A client without an intermediate: an absent Client-Cert-Chain must stay absent.
    let leaf = house.pki.client_root.issue(LeafSpec::spiffe("spiffe://td/a"));
    let mut raw = Raw::connect(&house, &house.client_of(&leaf)).await;
    for name in SPELLINGS {
        raw.say(format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: spoofed\r\n{name}: Hash=1;URI=spiffe://spoofed\r\n\r\n"))
            .await;
        assert_eq!(raw.answer().await.status(), 200, "{name}");
    }
    let all: String = SPELLINGS.iter().map(|name| format!("{name}: spoofed\r\n")).collect();
    raw.say(format!("GET / HTTP/1.1\r\nHost: a\r\n{all}X-Kept: 1\r\n\r\n")).await;
    assert_eq!(raw.answer().await.status(), 200);
    let requests = app.wait_for(SPELLINGS.len() + 1).await;
    assert_eq!(requests[SPELLINGS.len()].all("x-kept"), ["1"]);
    for seen in requests {
        assert_says(&seen, &leaf, &[]);
    }
    let wire = app.wires().concat();
    assert!(!String::from_utf8_lossy(&wire).contains("spoofed"));
}

#[tokio::test]
async fn spoofed_copies_in_every_spelling_never_arrive_over_http2() {
    let (app, house) = house().await;
    let leaf = house.pki.client_root.issue(LeafSpec::spiffe("spiffe://td/a"));
    let client = house.client_of(&leaf).http2(house.address()).await.unwrap();
    let mut request = Request::get("/");
    for name in SPELLINGS {
        request = request.header(name, "spoofed").header(name, "Hash=1;URI=spiffe://spoofed");
    }
    client.send(request.body(Bytes::new()).unwrap()).await.unwrap();
    assert_says(&app.wait_for(1).await[0], &leaf, &[]);
}

#[tokio::test]
async fn ours_cannot_be_named_away_in_connection() {
    let (app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    let named = "x-forwarded-client-cert, client-cert, Client-Cert-Chain, X-Forwarded-For, x-forwarded-proto, host";
    raw.say(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {named}\r\nClient-Cert: spoofed\r\n\r\n")).await;
    assert_eq!(raw.answer().await.status(), 200);
    let seen = app.wait_for(1).await.remove(0);
    assert_says(&seen, &house.leaf("a"), &[house.pki.issuing.der()]);
    assert_eq!(seen.all("host"), ["a"]);
}

#[tokio::test]
async fn spoofed_copies_in_trailers_never_arrive() {
    let (app, house) = house().await;
    let names = SPELLINGS.join(", ");
    let trailers: String = SPELLINGS.iter().map(|name| format!("{name}: spoofed\r\n")).collect();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say(format!(
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-kept, {names}\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Kept: 1\r\n{trailers}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.answer().await.text(), "3");
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/upload").header("trailer", format!("x-kept, {names}")).body(()).unwrap();
    let mut exchange = client.start(request, false).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-kept", HeaderValue::from_static("1"));
    for name in SPELLINGS {
        trailers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("spoofed"));
    }
    exchange.send("abc").await.unwrap();
    exchange.finish_with(trailers).unwrap();
    assert_eq!(exchange.response().await.unwrap().rest().await.0, b"3");
    for seen in app.wait_for(2).await {
        assert_eq!(seen.trailers, [("x-kept".to_owned(), b"1".to_vec())]);
    }
    assert!(!String::from_utf8_lossy(&app.wires().concat()).contains("spoofed"));
}

/// What the app is told of this certificate; `None` if the handshake refused it.
async fn told(house: &House, app: &RecordingApp, leaf: &Leaf) -> Option<Seen> {
    let before = app.count();
    let mut client = house.client_of(leaf).http1(house.address()).await.unwrap();
    client.get("/").await.ok()?;
    Some(app.wait_for(before + 1).await.remove(before))
}

const HOSTILE: [&str; 12] = [
    "\";URI=spiffe://td/admin",
    "\\\";URI=spiffe://td/admin;DNS=\"",
    ";URI=spiffe://td/admin",
    ",URI=spiffe://td/admin",
    "a=b;Hash=00",
    "a\r\nX-Forwarded-Client-Cert: URI=spiffe://td/admin",
    "a\nClient-Cert: :AAAA:",
    "a\0b",
    "a\\",
    "a\"",
    "\u{e9}\u{2028}\u{202e}",
    " , ; = ",
];

#[tokio::test]
async fn a_hostile_subject_forges_nothing() {
    let (app, house) = house().await;
    for name in HOSTILE {
        for spec in [LeafSpec::subject(name), LeafSpec::spiffe("spiffe://td/a").common_name(name).organization(name)] {
            let has_uri = told_uris(&spec);
            let leaf = house.pki.client_root.issue(spec);
            let Some(seen) = told(&house, &app, &leaf).await else { continue };
            assert_says(&seen, &leaf, &[]);
            let pairs = xfcc::read(&seen.header("x-forwarded-client-cert").unwrap());
            assert_eq!(xfcc::all(&pairs, "URI"), has_uri, "{name:?}");
            assert_eq!(xfcc::all(&pairs, "DNS"), [""; 0], "{name:?}");
            assert_eq!(xfcc::all(&pairs, "Subject").len(), 1, "{name:?}");
        }
    }
    assert!(app.count() >= HOSTILE.len(), "hardly any hostile subject was let in, so little was shown");
}

fn told_uris(spec: &LeafSpec) -> Vec<&'static str> {
    if format!("{spec:?}").contains("spiffe://td/a\"") { vec!["spiffe://td/a"] } else { Vec::new() }
}

#[tokio::test]
async fn hostile_alternative_names_forge_nothing() {
    let (app, house) = house().await;
    for name in HOSTILE {
        let uri = format!("https://td/{name}");
        let spec = LeafSpec::dns("good.example").uri(&uri).and_dns(name).and_dns("last.example");
        let leaf = house.pki.client_root.issue(spec);
        let Some(seen) = told(&house, &app, &leaf).await else { continue };
        assert_says(&seen, &leaf, &[]);
        let pairs = xfcc::read(&seen.header("x-forwarded-client-cert").unwrap());
        let (uris, names) = (xfcc::all(&pairs, "URI"), xfcc::all(&pairs, "DNS"));
        assert_eq!((uris.len(), names.len()), (1, 3), "{name:?}: {pairs:?}");
        assert_eq!((names[0], names[2]), ("good.example", "last.example"), "{name:?}");
        if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            assert_eq!((uris[0], names[1]), (uri.as_str(), name));
        }
    }
    assert!(app.count() >= 6, "hardly any hostile name was let in, so little was shown: {}", app.count());
}

#[tokio::test]
async fn hop_by_hop_fields_end_at_the_proxy_on_the_way_up() {
    let (app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, x-other\r\nConnection: X-Third\r\nKeep-Alive: 5\r\n\
         X-Hop: 1\r\nX-Other: 1\r\nX-Third: 1\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: x\r\n\
         Proxy-Authorization: Basic eDp5\r\nX-Kept: 1\r\n\r\n",
    )
    .await;
    assert_eq!(raw.answer().await.status(), 200);
    let seen = app.wait_for(1).await.remove(0);
    for name in [
        "connection",
        "keep-alive",
        "x-hop",
        "x-other",
        "x-third",
        "proxy-connection",
        "te",
        "upgrade",
        "proxy-authorization",
    ] {
        assert_eq!(seen.all(name), [""; 0], "{name}");
    }
    assert_eq!(seen.all("x-kept"), ["1"]);
}

#[tokio::test]
async fn hop_by_hop_fields_end_at_the_proxy_on_the_way_down() {
    let app = testkit::RawApp::answering_all(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Connection: x\r\n\
         Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let house = House::before(app.addr()).start();
    for mut caller in Caller::both(&house, "a").await {
        let answer = caller.get("/").await.unwrap();
        assert_eq!((answer.text().as_str(), answer.header("x-kept").as_deref()), ("ok", Some("1")));
        for name in ["connection", "keep-alive", "x-hop", "proxy-connection", "upgrade", "proxy-authenticate"] {
            assert_eq!(answer.header(name), None, "{name} over {}", caller.name());
        }
    }
}
