//! What the log says, line by line.
//!
//! Each test is a process of its own, so the first to ask installs the only subscriber.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

/// All lines of this process.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Lines {
    /// Catches what is logged from now on.
    pub(crate) fn caught() -> Lines {
        static LINES: OnceLock<Lines> = OnceLock::new();
        let install = || {
            let lines = Lines::default();
            let json = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone());
            tracing::subscriber::set_global_default(json.finish()).unwrap();
            lines
        };
        LINES.get_or_init(install).clone()
    }

    /// The lines of this event.
    pub(crate) fn of(&self, event: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == event).collect()
    }
}
