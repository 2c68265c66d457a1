//! `portcullis demo`: an app, the proxy and real clients on this host, and the story of what happens when trust ends
//! while a stream is open.
//!
//! Called by `main.rs`; what `make run` runs. It must never listen anywhere but on 127.0.0.1, and leaves no process
//! behind.

mod app;
mod client;
mod proxy_process;
mod story;
mod tell;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::DemoWish;
use crate::certs::{self, Authority};
use crate::{Failure, print};
use proxy_process::ProxyProcess;
use story::Stage;
use tell::{Teller, Who, millis};

/// Alice's and bob's live as long as everything; the story issues carol's when her time has come.
const CAROL_BEFORE_THE_STORY: Duration = Duration::from_secs(60);

/// Runs the demo; an error if any step of the story did not happen.
pub(crate) fn demo(wish: &DemoWish) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::AtStart(format!("the demo's runtime cannot start ({error})")))?;
    let ended = runtime.block_on(perform(wish));
    runtime.shutdown_background();
    ended
}

async fn perform(wish: &DemoWish) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let teller = Teller::new(terminal && !plain);
    let mut interrupts = Interrupts::listen().map_err(Failure::AtStart)?;
    let authority = certs::make(&wish.folder, false, CAROL_BEFORE_THE_STORY).map_err(Failure::AtStart)?;
    teller.say(Who::Demo, &format!("a development PKI is in {}", wish.folder.display()));
    let app = app::start().await.map_err(Failure::AtStart)?;
    teller.say(Who::App, &format!("listens on http://{app}, plaintext, and checks nobody"));
    let mut proxy = ProxyProcess::start(&authority, app, wish.log).map_err(Failure::AtStart)?;
    let stopped = tokio::select! {
        () = interrupts.next() => true,
        () = play(&teller, &authority, &mut proxy) => false,
    };
    let stays = terminal && !wish.once && !stopped && teller.failed() == 0;
    if stays {
        print::out(&invitation(&authority, &proxy, app));
        tokio::select! {
            () = interrupts.next() => {}
            why = proxy.ended() => return Err(Failure::WhileRunning(why)),
        }
    }
    if teller.failed() > 0 {
        for line in proxy.last_lines() {
            print::out(&format!("              | {line}\n"));
        }
    }
    let end = proxy.stop().await.and_then(|status| {
        if status.success() { Ok(((), "stopped, exit 0".to_owned())) } else { Err(format!("stopped with {status}")) }
    });
    teller.step(Who::Proxy, end);
    match teller.failed() {
        0 if stopped => Err(Failure::WhileRunning("the story was interrupted".to_owned())),
        0 => Ok(()),
        count => Err(Failure::WhileRunning(format!("{count} steps of the story did not happen; see the lines above"))),
    }
}

async fn play(teller: &Teller, authority: &Authority, proxy: &mut ProxyProcess) {
    let began = tokio::time::Instant::now();
    let ready = proxy.ready().await.map(|()| {
        let (id, listen, observe) = (proxy.id(), proxy.listen.port(), proxy.observe);
        let took = millis(began.elapsed());
        (
            (),
            format!("process {id} is ready after {took}: https://localhost:{listen}, metrics http://{observe}/metrics"),
        )
    });
    if teller.step(Who::Proxy, ready).is_none() {
        return;
    }
    let alice = authority.named("alice").map(|alice| {
        let text = format!("alice's certificate has the serial number {}", alice.serial);
        (alice, text)
    });
    let Some(alice) = teller.step(Who::Demo, alice) else { return };
    Stage { teller, authority, alice, proxy }.tell().await;
}

/// What ends the demo: Ctrl-C, a polite kill, a closed terminal.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn listen() -> Result<Interrupts, String> {
        let on = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to ({error})"));
        Ok(Interrupts([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// What to try while everything stays up.
fn invitation(authority: &Authority, proxy: &ProxyProcess, app: SocketAddr) -> String {
    let path = |name: &str| authority.path(name).display().to_string();
    let url = format!("https://localhost:{}", proxy.listen.port());
    let curl = |name: &str, options: &str, page: &str| {
        let (root, chain, key) = (path("root.pem"), path(&format!("{name}.pem")), path(&format!("{name}.key")));
        format!("  curl {options}--cacert {root} --cert {chain} --key {key} {url}{page}\n")
    };
    let list = path("revocations.jsonl");
    // A list replaces the one before it: whoever is left out is revoked no longer.
    let alice = authority.named("alice").map(|alice| certs::entry(&alice, "the demo"));
    let entries: Vec<String> = alice.into_iter().chain([certs::entry_for("bob")]).collect();
    format!(
        "\nEverything stays up. Bob may come in, alice is revoked, carol has expired:\n\n{}{}{}\nHis stream, and the \
         list that revokes him while it runs:\n\n{}  printf '%s\\n' {} > {list}.next && mv {list}.next {list}\n\nThe \
         proxy's own numbers, and the app without a proxy:\n\n  curl http://{}/metrics\n  curl \
         'http://{}/readyz?verbose'\n  curl http://{app}/\n\nCtrl-C stops everything.\n",
        curl("bob", "", "/"),
        curl("alice", "", "/"),
        curl("carol", "", "/"),
        curl("bob", "-N ", "/stream"),
        authority
            .list_of(authority.sequence().saturating_add(1), &entries)
            .lines()
            .map(|line| format!("'{line}'"))
            .collect::<Vec<_>>()
            .join(" "),
        proxy.observe,
        proxy.observe,
    )
}
