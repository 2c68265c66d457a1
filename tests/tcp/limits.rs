//! What a tunnel's idle time is, and what is counted and logged of it.

use std::time::{Duration, Instant};

use testkit::read_to_end;
use tokio::io::AsyncWriteExt as _;

use crate::stage::{HandedOver, RESET, assert_cut, assert_left, hears, rest};
use crate::support::PATIENCE;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_byte_in_either_direction_keeps_a_tunnel_and_none_for_so_long_ends_it() {
    let mut app = HandedOver::start().await;
    let house = app.house().policy(|policy| policy.idle_timeout = Some(LIMIT)).with_clock().start();
    let (mut client, mut app) = app.session(&house).await;
    for _ in 0..3 {
        house.advance(LIMIT - Duration::from_millis(1));
        client.write_all(b"?").await.unwrap();
        hears(&mut app, b"?").await;
        house.advance(LIMIT - Duration::from_millis(1));
        app.write_all(b"!").await.unwrap();
        hears(&mut client, b"!").await;
    }
    house.advance(LIMIT - Duration::from_millis(1));
    assert_eq!(house.metric("portcullis_sessions_active", &[]), 1.0);
    let since = Instant::now();
    house.advance(Duration::from_millis(1));
    assert_left(&house, 0.0, since).await;
    assert_eq!(rest(&mut app).await, (vec![], RESET));
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, testkit::Ending::Reset);
    assert_cut(&house, "idle", 1.0).await;
}

#[tokio::test]
async fn a_tunnel_without_an_idle_limit_stays_however_quiet_it_is() {
    let mut app = HandedOver::start().await;
    let limits = |limits: &mut proxy::Limits| {
        limits.request_head = Duration::from_millis(50);
        limits.park_after = Duration::from_millis(20);
    };
    let house = app.house().limits(limits).start();
    let (mut client, mut app) = app.session(&house).await;
    // Longer than any limit on heads, and than a worker's beat.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.write_all(b"?").await.unwrap();
    hears(&mut app, b"?").await;
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}
