//! The last descriptors are not for sockets: files say who is revoked, and operators come in by sockets of their own.
//!
//! Asked by `accept_failures.rs` about a client's socket and by `app.rs` about one to the app. It must never close anything.

use std::os::fd::AsRawFd;

/// So many are left: lists and CRLs are read one by one, state is written so, and of operators there are few.
const RESERVED: u64 = 32;

/// Whether a socket may stay under this limit on open files. The kernel gives the lowest free number: all below it are
/// in use.
pub(crate) fn leaves_enough(socket: &impl AsRawFd, limit: u64) -> bool {
    let last = limit - RESERVED.min(limit / 4);
    u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number < last)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(i32);

    impl AsRawFd for Numbered {
        fn as_raw_fd(&self) -> i32 {
            self.0
        }
    }

    #[test]
    fn sockets_end_where_the_reserve_begins() {
        for (limit, last) in [(1024, 991), (20_000, 19_967), (64, 47), (1 << 40, i32::MAX)] {
            assert!(leaves_enough(&Numbered(last), limit), "{limit}");
            assert!(last == i32::MAX || !leaves_enough(&Numbered(last + 1), limit), "{limit}");
        }
    }
}
