//! What a panic leaves behind: a line in the log and a count. Each is a defect, and none may pass unnoticed.
//!
//! Called by `run.rs` once. A panic ends its task and no more: a session's is closed, a worker's own are begun again.

use std::panic;
use std::sync::Arc;

use proxy::Metrics;

/// From now on every panic is told, after what the standard library writes to standard error.
pub(crate) fn tell(metrics: Arc<Metrics>) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        before(panicked);
        metrics.panicked();
        let thread = std::thread::current();
        let payload = panicked.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(
            event = "panic",
            thread = thread.name().unwrap_or("unnamed"),
            place = panicked.location().map_or_else(String::new, ToString::to_string),
            why = message.unwrap_or("unknown"),
            "a task ended by a panic, the proxy goes on; report it with the log"
        );
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_panic_is_counted() {
        let metrics = Arc::new(Metrics::new("0.0.0-test").unwrap());
        tell(Arc::clone(&metrics));
        for _ in 0..2 {
            assert!(panic::catch_unwind(|| panic!("this panic is part of the test")).is_err());
        }
        let families = metrics.registry.gather();
        let panics = families.iter().find(|family| family.name() == "portcullis_panics_total").unwrap();
        assert_eq!(panics.get_metric().first().unwrap().get_counter().get_value(), 2.0);
    }
}
