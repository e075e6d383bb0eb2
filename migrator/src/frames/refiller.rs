//! The thread that keeps the pool full, so that nobody has to pay.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::pool::FramePool;
use crate::Stop;

/// Refills the pool of frames on the thread that runs it, whenever it is below its low watermark. Without one,
/// those who fall short refill it themselves.
pub struct Refiller(Arc<FramePool>);

/// Why a refiller ended before it was asked to. The pool goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("the refiller cannot wait to be woken by poll")]
pub struct RefillerError(#[source] io::Error);

impl Refiller {
    pub(crate) fn new(pool: Arc<FramePool>) -> Self {
        Self(pool)
    }

    /// Refills until `stop` is requested. It sleeps while there are frames enough.
    ///
    /// # Errors
    /// What ended it early.
    pub fn run(&self, stop: &Stop) -> Result<(), RefillerError> {
        while !stop.is_requested() {
            wait(self.0.bell.as_raw_fd(), stop.as_raw_fd())?;
            // Emptied first: a ring that comes while it works is not lost.
            let _ = self.0.bell.read();
            self.0.refill_in_background();
        }
        Ok(())
    }
}

/// Waits until one of the two descriptors is readable.
fn wait(bell: i32, stop: i32) -> Result<(), RefillerError> {
    let mut fds = [bell, stop].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the array is valid for its length and outlives the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
    match io::Error::last_os_error() {
        _ if ready >= 0 => Ok(()),
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(RefillerError(error)),
    }
}
