//! Reading metrics as an operator would, and waiting for a state with a deadline.
//! Called by `house.rs` and by tests.
//! It must never wait without an end: a state that does not come has to fail with a sentence.

use std::time::{Duration, Instant};

/// How long a test waits for a state.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds; panics with `what` if it does not within the deadline.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "this did not come true in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The sum of all samples of this name that carry all these labels; 0 if there is none.
pub(crate) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let matching = samples.filter(|(series, _)| {
        let (family, rest) = series.split_once('{').unwrap_or((series, ""));
        let given: Vec<&str> = rest.trim_end_matches('}').split(',').collect();
        family == name && wanted.iter().all(|label| given.contains(&label.as_str()))
    });
    matching.map(|(_, value)| value.parse::<f64>().expect("a sample ends with a number")).sum()
}
