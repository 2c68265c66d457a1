//! The short wait behind a notice, for the client to have read it.
//!
//! Asked by `http1.rs`, `frames.rs` and `tunnel_client.rs` once our side is closed; their deadlines end it. A socket that
//! is closed with unread bytes, or that more bytes reach, resets: the client may then see an error where it had a
//! status, trailers or a Close still to read (RFC 9112 §9.6). What comes in meanwhile goes nowhere.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};

use crate::socket::ClientSocket;

/// Read at once. With so many in a row a client is not waited for: it sends without end, and reads or not.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 64;

/// Ready when the client has closed its side, or sends too much.
pub(crate) fn poll_end(socket: &mut ClientSocket, context: &mut Context<'_>) -> Poll<()> {
    let mut unread = [0; PIECE];
    for _ in 0..PIECES {
        let mut buffer = ReadBuf::new(&mut unread);
        let read = ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer));
        if read.is_err() || buffer.filled().is_empty() {
            break;
        }
    }
    Poll::Ready(())
}

/// Waits for the same.
pub(crate) async fn until_end(socket: &mut ClientSocket) {
    poll_fn(|context| poll_end(socket, context)).await;
}
