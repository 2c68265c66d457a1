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
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    /// What is written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_panic_is_counted_and_told_with_its_place() {
        let (metrics, lines) = (Arc::new(Metrics::new("0.0.0-test").unwrap()), Lines::default());
        let written = lines.clone();
        let json = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || written.clone()).finish();
        tell(Arc::clone(&metrics));
        tracing::subscriber::with_default(json, || {
            assert!(panic::catch_unwind(|| panic!("part of the test")).is_err());
            assert!(panic::catch_unwind(|| panic!("part of the {}", "test")).is_err());
        });
        let families = metrics.registry.gather();
        let panics = families.iter().find(|family| family.name() == "portcullis_panics_total").unwrap();
        assert_eq!(panics.get_metric().first().unwrap().get_counter().get_value(), 2.0);
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(told.lines().count(), 2, "{told}");
        for line in told.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["event"], &line["level"]), (&"panic".into(), &"ERROR".into()), "{line}");
            assert_eq!(line["why"], "part of the test", "{line}");
            assert!(line["place"].as_str().unwrap().contains("panics.rs:"), "{line}");
        }
    }
}
