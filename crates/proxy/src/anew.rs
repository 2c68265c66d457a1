//! Tasks that must not end: one that panics is begun again.
//!
//! Used by `worker.rs`, `preview.rs`, `roll_call.rs` and `listener.rs` for what a thread does for all its sessions; a
//! session's own task ends by its panic, and its session with it. What a panic is told by is the program's hook. It
//! must never hide that anything ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// So that one that panics at once, each time, leaves the thread to the sessions.
const PAUSE: Duration = Duration::from_millis(100);

/// Does it to its end, again whenever it ends by a panic.
pub(crate) async fn anew<Task: Future<Output = ()>>(mut make: impl FnMut() -> Task) {
    while survived(make()).await.is_none() {
        sleep(PAUSE).await;
    }
}

/// What it comes to; `None` if it panics.
pub(crate) async fn survived<Task: Future>(task: Task) -> Option<Task::Output> {
    let mut task = pin!(task);
    std::future::poll_fn(|context| {
        // It is not polled again after a panic, and what others share with it are counters and cells.
        let turn = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        turn.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_begun_again_and_one_that_ends_is_not() {
        let turns = Cell::new(0);
        anew(|| {
            turns.set(turns.get() + 1);
            let turn = turns.get();
            async move {
                tokio::task::yield_now().await;
                assert_eq!(turn, 4, "this panic is part of the test");
            }
        })
        .await;
        assert_eq!(turns.get(), 4);
        assert_eq!(survived(async { 7 }).await, Some(7));
    }
}
