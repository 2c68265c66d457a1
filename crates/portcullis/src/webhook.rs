//! `portcullis webhook`: answers an API server, until a signal ends it.
//!
//! Called by `main.rs`. It must never ask the API server for anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use injector::{Configuration, Metrics, Observe, Serving, Webhook};
use proxy::Clock;
use sources::{CredentialPaths, ServerCredential};
use tokio::sync::watch;

use crate::args::Flags;
use crate::ending::Signals;
use crate::injector_flags::WebhookWish;
use crate::resolve::Reader;
use crate::{Failure, log};

/// From SIGTERM to the end of new connections: API servers hear within it that this endpoint is gone.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// Serves.
pub(crate) fn webhook(wish: &WebhookWish) -> Result<(), Failure> {
    let listen = address("--listen", &wish.listen, "0.0.0.0:9443")?;
    let observe = address("--observe", &wish.observe, "127.0.0.1:9464")?;
    let flags = Flags { log_format: wish.log_format.clone(), log_level: wish.log_level.clone(), ..Flags::default() };
    let reader = Reader(&flags);
    let format = reader.log_format().map_err(Failure::AtStart)?;
    let level = reader.log_level().map_err(Failure::AtStart)?;
    let configuration = wish.sidecar.configuration()?;
    let paths = CredentialPaths::CertAndKey { cert: wish.cert.clone(), key: wish.key.clone() };
    let clock = Clock::real();
    let loaded = ServerCredential::load(paths, clock.now()).map_err(|failure| Failure::AtStart(failure.0))?;
    let log = log::start(format, level).map_err(Failure::AtStart)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::AtStart(format!("the runtime cannot start ({error})")))?;
    let ended = runtime.block_on(serve((listen, observe), configuration, loaded, clock));
    runtime.shutdown_background();
    log.end();
    ended
}

fn address(flag: &str, text: &str, example: &str) -> Result<SocketAddr, Failure> {
    let wrong = |_| Failure::AtStart(format!("{flag} {text:?} is no address; write IP:PORT, like {example}"));
    text.parse().map_err(wrong)
}

async fn serve(
    (listen, observe): (SocketAddr, SocketAddr),
    configuration: Configuration,
    (credential, warnings): (ServerCredential, Vec<String>),
    clock: Clock,
) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(Failure::AtStart)?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::AtStart(format!("the metrics cannot be made ({error})")))?;
    let metrics = Arc::new(metrics);
    let webhook = Webhook::bind(listen).await.map_err(Failure::AtStart)?;
    let observe = Observe::bind(observe).await.map_err(Failure::AtStart)?;
    let serving = Serving::new(credential, Arc::clone(&metrics));
    tracing::info!(
        event = "start",
        version = env!("CARGO_PKG_VERSION"),
        listen = %webhook.address(),
        observe = %observe.address(),
        image = configuration.image(),
        "started"
    );
    for warning in warnings {
        tracing::warn!(event = "load_warning", "{warning}");
    }
    let (unready, readiness) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(observe.serve(Arc::clone(&metrics), readiness));
    tokio::spawn(Arc::clone(&serving).keep_looking(clock));
    let mut served = tokio::spawn(webhook.serve(configuration, (serving, metrics), stopping));
    let wish = tokio::select! {
        wish = signals.next() => wish,
        ended = &mut served => return Err(Failure::WhileRunning(format!("the webhook has ended by itself ({ended:?})"))),
    };
    unready.send_replace(true);
    tracing::info!(event = "stopping", signal = wish.name(), "stopping: /readyz says no; a second signal ends at once");
    let gently = async {
        tokio::time::sleep(wish.delay(DRAIN_DELAY)).await;
        stop.send_replace(true);
        let _ = served.await;
    };
    tokio::select! {
        () = gently => {
            tracing::info!(event = "stopped", "stopped");
            Ok(())
        }
        again = signals.next() => {
            Err(Failure::WhileRunning(format!("ended at once by a second signal ({})", again.name())))
        }
    }
}
