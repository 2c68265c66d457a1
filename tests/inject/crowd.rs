//! Strangers at the webhook's port who hold what they can, without a certificate: API servers are answered all the same.
//!
//! It must never wait for a stranger to be sent away where it says that an API server need not.

use testkit::TlsClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::program::in_time;
use crate::webhook::{Webhook, good};

fn stranger(webhook: &Webhook) -> TlsClient {
    TlsClient::new(webhook.root.der(), None).server_name("localhost")
}

#[tokio::test]
async fn bodies_that_are_announced_and_do_not_come_take_nothing_from_others() {
    let webhook = Webhook::start().await;
    let client = stranger(&webhook);
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = in_time("a handshake", client.connect(webhook.listen, &[])).await.unwrap();
        stream.write_all(b"POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n{").await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    let mut first = held.swap_remove(0);
    let mut byte = [0];
    let review = good();
    tokio::select! {
        biased;
        _ = first.read(&mut byte) => panic!("a stranger was sent away before an API server was answered"),
        answer = webhook.ask(&review) => assert_eq!(answer["response"]["allowed"], true),
    }
}

#[tokio::test]
async fn connections_that_rest_make_room_when_the_house_is_full() {
    let webhook = Webhook::start().await;
    let client = stranger(&webhook);
    let review = good().to_string();
    let question = format!("POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{review}", review.len());
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = in_time("a handshake", client.connect(webhook.listen, &[])).await.unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut status = [0; 15];
        in_time("an answer", stream.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    assert_eq!(webhook.ask(&good()).await["response"]["allowed"], true);
    let ended = in_time("the first is sent away", held.swap_remove(0).read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof));
}
