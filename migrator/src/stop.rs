//! Asking threads to end.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A request to end that never goes away: seen by those who look and by those who sleep in poll.
#[derive(Debug)]
pub struct Stop {
    requested: AtomicBool,
    event: EventFd,
}

impl Stop {
    /// A request not made yet.
    ///
    /// # Errors
    /// No descriptor is left for the eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            requested: AtomicBool::new(false),
            event: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
        })
    }

    /// Makes the request; making it again changes nothing.
    ///
    /// # Errors
    /// The sleepers could not be told; those who look see it.
    pub fn request(&self) -> io::Result<()> {
        if self.requested.swap(true, Ordering::Release) {
            return Ok(());
        }
        self.event.write(1)
    }

    /// Whether it was made.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        // Acquire pairs with the release in `request`.
        self.requested.load(Ordering::Acquire)
    }
}

impl AsRawFd for Stop {
    /// A descriptor that is readable from the request on.
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
