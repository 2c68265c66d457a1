//! Certificates as weapons: chains, names and keys of a size that nobody needs.

use std::time::Instant;

use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;
use testkit::der::{object_identifier, sequence, unsigned, value};
use testkit::{AuthoritySpec, LeafSpec, TlsClient, read_to_end};
use tokio::io::AsyncWriteExt as _;

use crate::forger::Forger;
use crate::ground::Ground;
use crate::program::PATIENCE;

/// Handshakes of one attack.
const TIMES: usize = 50;
/// What one attack may cost, in kilobytes.
const CERTIFICATES: u64 = 24 * 1024;
/// What a handshake may take that is refused for its certificates. One with a good P-256 chain takes 5 ms here.
const SLOWEST: u128 = 2_000;

/// The SubjectPublicKeyInfo of an RSA key with a modulus and an exponent of so many bytes, which need not be good ones.
fn rsa(modulus: usize, exponent: usize) -> Vec<u8> {
    let algorithm = sequence(&[object_identifier(&[1, 2, 840, 113_549, 1, 1, 1]), vec![5, 0]]);
    let odd = |length: usize| unsigned(&[&vec![0xc5; length - 1][..], &[0x41]].concat());
    let key = sequence(&[odd(modulus), odd(exponent)]);
    sequence(&[algorithm, value(3, &[&[0][..], &key].concat())])
}

/// One handshake with this chain by a client that has no key; how long the proxy took to refuse it.
async fn forged(ground: &Ground, chain: &[CertificateDer<'static>], signature: usize) -> u128 {
    let began = Instant::now();
    let forger = Forger { chain: chain.to_vec(), scheme: SignatureScheme::RSA_PSS_SHA256, signature };
    let told = forger.handshake(ground.stage.server_root.der(), ground.address()).await;
    assert!(!told.contains("StillOpen"), "{told}");
    began.elapsed().as_millis()
}

/// The same by a client that has its key.
async fn presented(ground: &Ground, client: &TlsClient) -> u128 {
    let began = Instant::now();
    if let Ok(mut stream) = client.connect(ground.address(), &["http/1.1"]).await {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let answer = read_to_end(&mut stream, PATIENCE).await;
        assert!(!answer.text().starts_with("HTTP/1.1 200"), "{answer:?}");
    }
    began.elapsed().as_millis()
}

async fn judge(ground: &Ground, attack: &str, mut took: Vec<u128>) {
    took.sort_unstable();
    println!("{attack}: {} handshakes, p50 {} ms, max {} ms", took.len(), took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() - 1] <= SLOWEST, "{attack}");
    assert_eq!(ground.program.metric("portcullis_handshakes_total", &[("result", "timeout")]).await, 0.0, "{attack}");
}

#[tokio::test]
async fn chains_of_a_hundred_certificates_are_refused_for_little() {
    let ground = Ground::with(|flags| flags).await;
    let honest = ground.honest();
    let leaf = ground.stage.client("deep");
    // A hundred authorities of one name, each of which could have issued the next.
    let (mut above, mut long) = (ground.stage.client_root.clone(), Vec::new());
    for _ in 0..100 {
        above = above.intermediate_with(AuthoritySpec::new("one of a hundred"));
        long.insert(0, above.der().clone());
    }
    let issued = above.issue(LeafSpec::spiffe("spiffe://td/deep"));
    let alike: Vec<_> = (0..100).map(|_| ground.stage.issuing.intermediate("alike").der().clone()).collect();
    let junk: Vec<_> = std::iter::repeat_n(leaf.der().clone(), 100).collect();
    let root = ground.stage.server_root.der();
    for (attack, shown, key) in [
        ("a path of 100 links", [vec![issued.der().clone()], long].concat(), &issued),
        ("100 authorities of one name", [vec![leaf.der().clone()], alike].concat(), &leaf),
        ("100 times the same", junk, &leaf),
    ] {
        let client = TlsClient::presenting(root, key, shown);
        let mut took = Vec::new();
        for _ in 0..TIMES {
            took.push(presented(&ground, &client).await);
        }
        judge(&ground, attack, took).await;
    }
    honest.end("chains of a hundred certificates").await;
    ground.assert_memory("chains of a hundred certificates", CERTIFICATES);
}

#[tokio::test]
async fn certificates_of_thousands_of_names_or_of_64_kilobytes_cost_little() {
    let ground = Ground::with(|flags| flags).await;
    let honest = ground.honest();
    let issue = |spec: LeafSpec| ground.stage.issuing.issue(spec);
    let names = (0..2_500)
        .fold(LeafSpec::spiffe("spiffe://td/many"), |spec, number| spec.and_dns(&format!("n{number}.example")));
    let uris = (0..2_000)
        .fold(LeafSpec::spiffe("spiffe://td/many"), |spec, number| spec.uri(&format!("spiffe://td/{number}")));
    let large = LeafSpec::spiffe("spiffe://td/large").big(60_000);
    for (attack, spec) in [("2,500 DNS names", names), ("2,000 URI names", uris), ("60 kB", large)] {
        let leaf = issue(spec);
        let client = TlsClient::new(ground.stage.server_root.der(), Some(&leaf));
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            // Let in or not, it is one handshake and one request.
            if let Ok(mut client) = client.http1(ground.address()).await {
                let _ = client.get("/").await;
            }
            took.push(began.elapsed().as_millis());
        }
        judge(&ground, attack, took).await;
    }
    // Larger than any message of a handshake may be.
    let huge = issue(LeafSpec::spiffe("spiffe://td/huge").big(1_000_000)).chain();
    let mut took = Vec::new();
    for _ in 0..TIMES {
        took.push(forged(&ground, &huge, 256).await);
    }
    judge(&ground, "1 MB", took).await;
    honest.end("large certificates").await;
    ground.assert_memory("large certificates", CERTIFICATES);
}

#[tokio::test]
async fn rsa_keys_of_16384_bits_and_endless_exponents_are_refused_for_little() {
    let ground = Ground::with(|flags| flags).await;
    let honest = ground.honest();
    let over = |modulus: usize, exponent: usize| {
        let spec = LeafSpec::spiffe("spiffe://td/rsa");
        let leaf = ground.stage.issuing.issue_over(spec, &rsa(modulus, exponent));
        [vec![leaf], ground.stage.issuing.chain()].concat()
    };
    for (attack, chain, signature) in [
        ("RSA of 8,192 bits", over(1024, 3), 1024),
        ("RSA of 16,384 bits", over(2048, 3), 2048),
        ("RSA of 8,192 bits, an exponent of as many", over(1024, 1024), 1024),
        ("RSA of 131,072 bits", over(16_384, 16_384), 16_384),
    ] {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            took.push(forged(&ground, &chain, signature).await);
        }
        judge(&ground, attack, took).await;
    }
    honest.end("large RSA keys").await;
    ground.assert_memory("large RSA keys", CERTIFICATES);
    assert_eq!(ground.stage.app.requests().iter().filter(|seen| seen.header("client-cert").is_none()).count(), 0);
}
