//! Open files: every connection takes one, and the process may have so many.
//!
//! Called by `run.rs`, which raises what the process may, and by `check.rs`, which only looks. It must never fail: a
//! process with too few still serves, and says so.

use proxy::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside connections: listeners, event queues, files that are read, operators and scrapes.
const BESIDE: u64 = 256;

fn needed(limits: &Limits) -> u64 {
    let connections = limits.connections.saturating_add(limits.app_connections);
    u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(BESIDE)
}

/// Raises the soft limit, which shells and old programs keep low, as far as the hard one lets it; returns what the
/// process may have then.
pub(crate) fn raise(limits: &Limits) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(needed(limits), |maximum| maximum.min(needed(limits)));
    if current.is_some_and(|current| current < wanted) {
        // What comes of it is looked at by `warning`.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What deserves a look, in one sentence: limits that this process cannot reach.
pub(crate) fn warning(limits: &Limits) -> Option<String> {
    let maximum = getrlimit(Resource::Nofile).maximum?;
    let needed = needed(limits);
    (maximum < needed).then(|| {
        format!(
            "--max-connections {} and --max-app-connections {} may need {needed} open files, and this process may have \
             {maximum}; raise its limit (ulimit -Hn, LimitNOFILE) or lower the flags",
            limits.connections, limits.app_connections
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_reached_is_told_with_the_remedy() {
        let few = Limits { connections: 1, app_connections: 1, ..Limits::default() };
        let raised = raise(&few);
        assert_eq!(raised, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX));
        assert!(raised >= needed(&few).min(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)));
        assert_eq!(warning(&few), None);
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let many = Limits { connections: usize::MAX, ..Limits::default() };
            let sentence = warning(&many).unwrap();
            assert!(sentence.contains("--max-connections") && sentence.contains("lower the flags"), "{sentence}");
        }
    }
}
