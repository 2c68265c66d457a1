//! A request's body, within what all bodies may hold at once.
//!
//! Called by `server.rs`. It must never charge a stranger's announcement to the budget, only bytes that came: who
//! announces much and sends nothing would keep API servers from being answered.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Of one review: an API server takes objects of 3 MiB, and a review of an update would hold two.
const BODY_BYTES: usize = 8 << 20;
/// Of all bodies that are held at once: more than a thousand pods of usual size. The chart's memory limit is made for
/// twice this, as a growing body is held, one review of the largest kind, and an answer to each connection.
const BODIES_KIB: usize = 24 << 10;
/// For a whole body.
const BODY: Duration = Duration::from_secs(10);
/// Of that, for others to make room.
const ROOM: Duration = Duration::from_secs(5);

/// Why there is no body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// It is longer than a review may be.
    TooLarge,
    /// Others hold everything.
    Busy,
    /// The connection broke.
    Broken,
    /// It did not come in time.
    Slow,
}

/// What all bodies may hold, in KiB.
#[derive(Debug)]
pub(crate) struct Budget(Semaphore);

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget(Semaphore::new(BODIES_KIB))
    }

    /// The whole body, and its share of the budget.
    pub(crate) async fn collect(&self, body: Incoming) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Failure> {
        timeout(BODY, self.charged(body)).await.unwrap_or(Err(Failure::Slow))
    }

    async fn charged(&self, mut body: Incoming) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Failure> {
        if body.size_hint().lower() > BODY_BYTES as u64 {
            return Err(Failure::TooLarge);
        }
        let (mut bytes, mut share, mut paid) = (Vec::new(), None::<SemaphorePermit<'_>>, 0);
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|_| Failure::Broken)?.into_data() else { continue };
            let length = bytes.len() + part.len();
            if length > BODY_BYTES {
                return Err(Failure::TooLarge);
            }
            let due = length.div_ceil(1024);
            let more = self.0.acquire_many(u32::try_from(due - paid).unwrap_or(u32::MAX));
            let Ok(Ok(more)) = timeout(ROOM, more).await else { return Err(Failure::Busy) };
            paid = due;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            bytes.extend_from_slice(&part);
        }
        Ok((bytes, share))
    }
}
