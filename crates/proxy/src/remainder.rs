//! The wait for what is left of a request whose answer is over.
//!
//! Kept by `body.rs`. Until an app answers, `forward.rs` looks after silent clients; behind a whole answer nobody waits for
//! anything any more, and a client that never ends its request would hold the app's connection, and its own, for ever. It
//! must never end a request whose client goes on sending.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Sleep, sleep};

use crate::body::{BodyError, OpenRequest};
use crate::bounds::Bound;
use crate::connection::End;

/// Of one request, told by its answer.
#[derive(Default)]
pub(crate) struct Remainder {
    answer_over: Cell<bool>,
    /// Whoever waits for the client's next piece.
    waiting: Cell<Option<Waker>>,
}

/// Until when that one waits; made only behind an answer that is over.
pub(crate) type Deadline = Option<Pin<Box<Sleep>>>;

impl Remainder {
    /// From now on the client is waited for within bounds.
    pub(crate) fn answer_is_over(&self) {
        self.answer_over.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// Nothing came of a request's body; an error when that has lasted for too long behind its answer.
pub(crate) fn poll_silence<T>(
    open: Option<&OpenRequest>,
    deadline: &mut Deadline,
    context: &mut Context<'_>,
) -> Poll<Option<Result<T, BodyError>>> {
    let Some(open) = open else { return Poll::Pending };
    let (remainder, worker, connection) = (&open.remainder, &open.worker, &open.connection);
    if !remainder.answer_over.get() {
        remainder.waiting.set(Some(context.waker().clone()));
        return Poll::Pending;
    }
    ready!(deadline.get_or_insert_with(|| Box::pin(sleep(worker.limits.body))).as_mut().poll(context));
    worker.limited_session(Bound::BodyTimeout, connection);
    if connection.frames().is_none() {
        // What is missing of the request could be taken for the next one: its connection ends with it.
        connection.end(End::Timeout);
    }
    Poll::Ready(Some(Err("the client did not send the rest of its request".into())))
}
