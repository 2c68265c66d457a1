//! The story: trust ends in the middle of a stream, twice, and only the client concerned notices.
//!
//! Told by `demo.rs`. Every step is verified by what the clients see; a step that did not happen is said. It must never
//! look into the proxy but by its metrics.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trust::Time;

use super::app::TICK;
use super::client::{Client, Connection, End, NoConnection, Seen, Stream, plain_get};
use super::proxy_process::ProxyProcess;
use super::tell::{Teller, Who, millis};
use crate::certs::{Authority, Issued, entry, spiffe_id};
use crate::moment::rfc3339;

/// A step that takes longer did not happen: a cut takes milliseconds, noticing a file a few more.
const SOON: Duration = Duration::from_secs(1);
/// How long a wait for anything may be.
const PATIENCE: Duration = Duration::from_secs(10);
/// What carol's certificate gets: time for a request and a while of her stream.
const CAROL: Duration = Duration::from_secs(4);
/// Longest silence in bob's stream of a line every ten milliseconds: what was measured is told, and on a busy machine
/// the scheduler has its part in it.
const HICCUP: Duration = Duration::from_secs(1);
/// Lines that make a stream a live one: half a second.
const LIVE: u64 = 50;

/// Everybody on the stage.
pub(super) struct Stage<'a> {
    /// Tells.
    pub(super) teller: &'a Teller,
    /// Issues, and writes the list.
    pub(super) authority: &'a Authority,
    /// What alice's certificate is called in a list.
    pub(super) alice: Issued,
    /// The proxy.
    pub(super) proxy: &'a ProxyProcess,
}

impl Stage<'_> {
    /// Tells the whole story.
    pub(super) async fn tell(&self) {
        let (Some(alice), Some(bob), Some(stranger)) =
            (self.enter(Who::Alice), self.enter(Who::Bob), self.enter(Who::Stranger))
        else {
            return;
        };
        let alice_kept = self.teller.step(Who::Alice, self.requests_pass(&alice, "alice").await);
        let bob_kept = self.teller.step(Who::Bob, self.requests_pass(&bob, "bob").await);
        self.is_refused(Who::Stranger, &stranger, "without a certificate").await;
        let alice_stream = self.teller.step(Who::Alice, streams(&alice).await);
        let bob_stream = self.teller.step(Who::Bob, streams(&bob).await);
        let (Some(alice_kept), Some(mut bob_kept), Some(alice_stream), Some(bob_stream)) =
            (alice_kept, bob_kept, alice_stream, bob_stream)
        else {
            return;
        };
        self.alice_is_revoked(&alice, alice_kept, alice_stream).await;
        let unharmed = self.bob_is_unharmed(&mut bob_kept, &bob_stream, "meanwhile").await;
        self.teller.step(Who::Bob, unharmed);
        self.carol_expires().await;
        let unharmed = self.bob_is_unharmed(&mut bob_kept, &bob_stream, "all along").await;
        self.teller.step(Who::Bob, unharmed);
        self.teller.step(Who::Proxy, self.metrics_agree().await);
    }

    fn enter(&self, who: Who) -> Option<Client> {
        let name = match who {
            Who::Alice => Some("alice"),
            Who::Bob => Some("bob"),
            Who::Carol => Some("carol"),
            Who::Demo | Who::App | Who::Proxy | Who::Stranger => None,
        };
        let paths =
            name.map(|name| (self.authority.path(&format!("{name}.pem")), self.authority.path(&format!("{name}.key"))));
        let credential = paths.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
        let client = Client::new(self.proxy.listen, &self.authority.path("root.pem"), credential);
        self.teller.step(who, client.map(|client| (client, entrance(name))))
    }

    async fn requests_pass(&self, client: &Client, name: &str) -> Result<(Connection, String), String> {
        let mut connection = client.connect().await.map_err(words)?;
        let id = spiffe_id(name);
        for _ in 0..3 {
            let (status, text) = connection.request("/").await?;
            if status != StatusCode::OK || text.trim() != format!("hello, {id}") {
                return Err(format!("a request was answered with {status} {:?}", text.trim()));
            }
        }
        Ok((connection, format!("three requests on one connection: 200, and the app was told {id}")))
    }

    async fn is_refused(&self, who: Who, client: &Client, when: &str) {
        let refused = client.is_refused().await;
        self.teller.step(who, refused.map(|why| ((), format!("a new connection {when} is refused: {why}"))));
    }

    async fn alice_is_revoked(&self, alice: &Client, kept: Connection, stream: Stream) {
        let line = entry(&self.alice, "the demo");
        let sequence = self.authority.sequence().saturating_add(1);
        self.teller.say(Who::Demo, "alice's key is stolen, so her certificate goes into the revocation file:");
        self.teller.say(Who::Demo, &line);
        let began = Instant::now();
        let replaced = self.authority.list(sequence, &[line]);
        self.teller.step(Who::Demo, replaced.map(|()| ((), format!("the file is replaced, sequence {sequence}"))));
        let stopped = ended(stream.seen.clone(), |seen| seen.ended.clone()).await;
        self.teller.step(Who::Alice, stopped.and_then(|end| cut("her stream was cut", began, end)));
        let closed = ended(kept.ended.clone(), Clone::clone).await;
        // hyper calls the close of an idle connection a clean end: nothing was under way on it.
        let closed = closed.and_then(|end| in_time("her kept-alive connection was closed", began, end.at));
        self.teller.step(Who::Alice, closed);
        drop(kept);
        self.is_refused(Who::Alice, alice, "after that").await;
    }

    async fn bob_is_unharmed(
        &self,
        kept: &mut Connection,
        stream: &Stream,
        when: &str,
    ) -> Result<((), String), String> {
        // What counts is what still comes, not what came before.
        let before = stream.seen.borrow().ticks;
        let Seen { ticks, misplaced, largest_gap, ended } = lines(stream, before.saturating_add(LIVE)).await?;
        if let Some(end) = ended {
            return Err(format!("his stream ended ({})", end.why.unwrap_or_else(|| "cleanly".to_owned())));
        }
        if misplaced > 0 || largest_gap > HICCUP {
            return Err(format!("{misplaced} lines misplaced, largest gap {}", millis(largest_gap)));
        }
        match kept.request("/").await {
            Ok((StatusCode::OK, _)) => {}
            Ok((status, _)) => return Err(format!("his next request was answered with {status}")),
            Err(why) => return Err(format!("his kept-alive connection is gone ({why})")),
        }
        let (gap, tick) = (millis(largest_gap), millis(TICK));
        Ok((
            (),
            format!(
                "noticed nothing {when}: {ticks} lines, one every {tick}, none lost, largest gap {gap}; \
                 his kept-alive connection still answers"
            ),
        ))
    }

    async fn carol_expires(&self) {
        let now = proxy::Clock::real().now();
        // Whole seconds are all that a certificate can say.
        let not_after = Time::from_seconds(now.plus(CAROL).as_seconds());
        let Some(issued) = self.teller.step(Who::Demo, self.carol_is_issued(not_after)) else { return };
        let Some(carol) = self.enter(Who::Carol) else { return };
        self.teller.step(Who::Carol, self.requests_pass(&carol, "carol").await);
        let Some(stream) = self.teller.step(Who::Carol, streams(&carol).await) else { return };
        let end = ended(stream.seen.clone(), |seen| seen.ended.clone()).await;
        self.teller.step(Who::Carol, end.and_then(|end| on_the_second(&end, issued.not_after)));
        self.is_refused(Who::Carol, &carol, "with the expired certificate").await;
    }

    fn carol_is_issued(&self, not_after: Time) -> Result<(Issued, String), String> {
        let issued = self.authority.client("carol", not_after)?;
        Ok((issued, format!("carol gets a certificate that ends in seconds: notAfter {}", rfc3339(not_after))))
    }

    async fn metrics_agree(&self) -> Result<((), String), String> {
        let (_, text) = plain_get(self.proxy.observe, "/metrics").await?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        let revoked = value("portcullis_cuts_total{reason=\"revoked\"}");
        let expired = value("portcullis_cuts_total{reason=\"expired\"}");
        let (sum, count) = (value("portcullis_cut_seconds_sum"), value("portcullis_cut_seconds_count"));
        // Two connections of alice, one of carol.
        if revoked < 2.0 || expired < 1.0 || count < 1.0 {
            return Err(format!("its metrics count {revoked} cuts for a revocation and {expired} for an expiry"));
        }
        let mean = Duration::try_from_secs_f64(sum / count).unwrap_or_default();
        Ok((
            (),
            format!(
                "its metrics agree: {revoked} sessions cut as revoked, {expired} as expired, {} on average from the end \
                 of trust to the close of the socket",
                millis(mean)
            ),
        ))
    }
}

fn entrance(name: Option<&str>) -> String {
    name.map_or_else(|| "comes without a certificate".to_owned(), |name| format!("comes as {}", spiffe_id(name)))
}

fn words(no_connection: NoConnection) -> String {
    match no_connection {
        NoConnection::Unreachable(why) => format!("the proxy could not be reached ({why})"),
        NoConnection::Refused(why) => format!("the connection was refused ({why})"),
    }
}

async fn streams(client: &Client) -> Result<(Stream, String), String> {
    let stream = client.connect().await.map_err(words)?.stream().await?;
    let seen = lines(&stream, LIVE).await?;
    if seen.ended.is_some() {
        return Err("the stream ended at once".to_owned());
    }
    Ok((stream, format!("a live stream runs on a second connection, {} lines so far", seen.ticks)))
}

/// What was seen once so many lines came, or the stream ended.
async fn lines(stream: &Stream, count: u64) -> Result<Seen, String> {
    let mut seen = stream.seen.clone();
    let there = seen.wait_for(|seen| seen.ticks >= count || seen.ended.is_some());
    match timeout(PATIENCE, there).await {
        Ok(Ok(seen)) => Ok(seen.clone()),
        Ok(Err(_)) => Err("the stream is gone".to_owned()),
        Err(_) => Err(format!("the stream did not bring line {count} in ten seconds")),
    }
}

async fn ended<T>(mut news: watch::Receiver<T>, end: impl Fn(&T) -> Option<End>) -> Result<End, String> {
    match timeout(PATIENCE, news.wait_for(|state| end(state).is_some())).await {
        Ok(Ok(state)) => end(&state).ok_or_else(|| "its end is not known".to_owned()),
        Ok(Err(_)) => Err("its end is not known".to_owned()),
        Err(_) => Err("it was still open after ten seconds".to_owned()),
    }
}

/// An end that the client can tell from a whole answer, and soon.
fn cut(what: &str, began: Instant, end: End) -> Result<((), String), String> {
    let Some(why) = end.why else { return Err("it ended as if it were whole".to_owned()) };
    in_time(what, began, end.at).map(|((), text)| ((), format!("{text} ({why})")))
}

fn in_time(what: &str, began: Instant, at: Instant) -> Result<((), String), String> {
    let took = at.saturating_duration_since(began);
    if took > SOON {
        return Err(format!("{what}, but {} after the file was replaced", millis(took)));
    }
    Ok(((), format!("{what} {} after the file was replaced", millis(took))))
}

/// Cut after the last moment of validity, and within a second of it.
fn on_the_second(end: &End, not_after: Time) -> Result<((), String), String> {
    let Some(why) = &end.why else { return Err("her stream ended as if it were whole".to_owned()) };
    if end.moment < not_after {
        return Err(format!("her stream was cut {} early", millis(not_after.since(end.moment))));
    }
    let late = end.moment.since(not_after);
    if late > SOON {
        return Err(format!("her stream was cut {} late", millis(late)));
    }
    Ok(((), format!("her stream was cut {} after her notAfter ({why})", millis(late))))
}
