//! The order in which sessions that were cut go: a few at a time, between the worker's other work.
//!
//! Filled by `sweep.rs` and by `roll_call.rs`, which cut thousands in one go. Their gates are shut before they come here,
//! so that no byte waits for its session's turn; what does wait is the notice and the close, 0.1 ms of work each, and
//! all at once they would stand before everybody else's requests. It must never let a session wait for its client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::connection::Connection;

/// Sessions that go before the worker looks at its sockets again: a request waits for half a millisecond at most.
const TOGETHER: usize = 4;

/// Those that wait for their turn.
#[derive(Default)]
pub(crate) struct Parting {
    waiting: RefCell<VecDeque<Rc<Connection>>>,
    more: Notify,
}

impl Parting {
    /// This session goes in its turn.
    pub(crate) fn push(&self, connection: &Rc<Connection>) {
        self.waiting.borrow_mut().push_back(Rc::clone(connection));
        self.more.notify_one();
    }

    /// Lets them go until it is dropped.
    pub(crate) async fn let_go_for_ever(&self) {
        loop {
            let going: Vec<_> = {
                let mut waiting = self.waiting.borrow_mut();
                let count = waiting.len().min(TOGETHER);
                waiting.drain(..count).collect()
            };
            if going.is_empty() {
                self.waiting.borrow_mut().shrink_to_fit();
                self.more.notified().await;
                continue;
            }
            going.iter().for_each(|connection| connection.signal.notify_waiters());
            yield_now().await;
        }
    }
}
