//! How long a tunnel may be silent, and that nobody is asked what a tunnel cannot be asked.

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

#[tokio::test]
async fn after_the_apps_goodbye_a_client_that_says_nothing_is_not_waited_for_without_end() {
    let mut app = HandedOver::start().await;
    let house = app.house().limits(|limits| limits.tunnel_half_closed = Duration::from_millis(300)).start();
    let (mut client, mut app) = app.session(&house).await;
    app.shutdown().await.unwrap();
    for _ in 0..3 {
        // Whoever still speaks is heard.
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.write_all(b".").await.unwrap();
        hears(&mut app, b".").await;
    }
    assert_eq!(rest(&mut app).await, (vec![], RESET));
    assert_eq!(rest(&mut client).await, (vec![], Ok(())));
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
}

#[tokio::test]
async fn after_the_clients_goodbye_an_app_may_think_for_as_long_as_it_likes() {
    let mut app = HandedOver::start().await;
    let house = app.house().limits(|limits| limits.tunnel_half_closed = Duration::from_millis(50)).start();
    let (mut client, mut app) = app.session(&house).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut app).await, (vec![], Ok(())));
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.write_all(b"forty-two").await.unwrap();
    drop(app);
    assert_eq!(rest(&mut client).await, (b"forty-two".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_tunnel_is_not_counted_as_asked_to_leave_before_a_planned_end_that_it_cannot_be_told_of() {
    let mut app = HandedOver::start().await;
    let age = Duration::from_secs(600);
    let house = app.house().policy(|policy| policy.max_session_age = Some(age)).with_clock().start();
    let (_client, _app) = app.session(&house).await;
    house.advance(age - Duration::from_millis(1));
    let since = Instant::now();
    house.advance(Duration::from_millis(1));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "session_too_old", 1.0).await;
    assert_eq!(house.metric("portcullis_drains_total", &[]), 0.0);
}
