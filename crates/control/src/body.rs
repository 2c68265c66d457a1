//! The body of an answer: whole, or a list that is made while it is sent.
//!
//! Made by every file of the control API, read by hyper, which asks for the next piece when there is room to send it. It
//! must never make more than that: a slow reader keeps nothing waiting but its own connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::listing::Listing;

/// A piece of a list, and what makes the next one.
type Piece = Pin<Box<dyn Future<Output = Option<(Bytes, Listing)>> + Send>>;

/// A body.
pub(crate) enum AnswerBody {
    /// There already; `None` if it is empty, or sent.
    Whole(Option<Bytes>),
    /// Its next piece is under way.
    List(Piece),
}

impl AnswerBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> AnswerBody {
        AnswerBody::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    pub(crate) fn list(listing: Listing) -> AnswerBody {
        AnswerBody::List(Box::pin(listing.next()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (rest, piece) = match &mut *self {
            AnswerBody::Whole(bytes) => (AnswerBody::Whole(None), bytes.take()),
            AnswerBody::List(piece) => match ready!(piece.as_mut().poll(context)) {
                Some((piece, listing)) => (AnswerBody::list(listing), Some(piece)),
                None => (AnswerBody::Whole(None), None),
            },
        };
        *self = rest;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            AnswerBody::List(_) => SizeHint::default(),
        }
    }
}
