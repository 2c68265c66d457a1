//! Handshakes that are begun and never ended, by the thousand and byte by byte.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ground::Ground;
use crate::program::in_time;

/// What a connection whose handshake is under way may hold, in kilobytes: rustls' state and buffers, a task, a socket.
const HANDSHAKE: u64 = 64;

/// Connections in each hundredth of a second: as fast as two busy cores take them in, or whoever is honest waits in the
/// kernel's queue behind the others.
const PACE: usize = 25;

/// The first bytes of a record that says it is a ClientHello of 16 kB.
const HALF: [u8; 11] = [22, 3, 1, 64, 0, 1, 0, 63, 252, 3, 3];

#[tokio::test]
async fn ten_thousand_half_open_handshakes_keep_nobody_out() {
    let ground = Ground::with(|flags| flags.with("--handshake-timeout", "60s")).await;
    let honest = ground.honest();
    let began = Instant::now();
    let mut half_open = Vec::new();
    for number in 0..10_000_usize {
        let mut stream = in_time("a connection", TcpStream::connect(ground.address())).await.unwrap();
        if number % 2 == 0 {
            // One that was asked to go already is found out by nobody but the program.
            let _ = stream.write_all(&HALF).await;
        }
        half_open.push(stream);
        if number % PACE == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let took = began.elapsed();
    // A thousand may wait, shared by two workers, and some of them came after the last one that had to go.
    ground.wait_for_limit("handshakes", 8_900.0).await;
    let gone = ground.limited("handshakes").await;
    println!("10,000 half-open handshakes in {took:.1?}: {gone} had to go for others");
    honest.end("half-open handshakes").await;
    ground.assert_memory("half-open handshakes", 1_000 * HANDSHAKE);
    assert_eq!(ground.limited("handshake_timeout").await, 0.0, "nobody was waited for");
    assert!(gone <= 10_000.0, "no honest client had to go");
    // Those that had to go were reset: no socket of theirs is kept in TIME_WAIT.
    let oldest = half_open.first_mut().unwrap();
    let read = in_time("the oldest's end", oldest.read(&mut [0; 1])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn handshakes_byte_by_byte_end_at_their_deadline() {
    let ground = Ground::with(|flags| flags.with("--handshake-timeout", "2s")).await;
    let honest = ground.honest();
    let (address, began) = (ground.address(), Instant::now());
    let mut dripping = tokio::task::JoinSet::new();
    for _ in 0..300 {
        dripping.spawn(async move {
            let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
            let drip = async {
                for byte in HALF.into_iter().chain(std::iter::repeat(0)) {
                    if writing.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                std::future::pending::<()>().await;
            };
            let mut byte = [0; 1];
            tokio::select! {
                read = reading.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_)), "{read:?}"),
                () = drip => unreachable!("it waits for the reading side"),
            }
        });
    }
    in_time("the end of all of them", dripping.join_all()).await;
    let took = began.elapsed();
    println!("300 handshakes byte by byte: all ended after {took:.1?}");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    honest.end("handshakes byte by byte").await;
    ground.assert_memory("handshakes byte by byte", 300 * HANDSHAKE);
    assert_eq!(ground.limited("handshake_timeout").await, 300.0);
}
