//! userfaultfd(2), as far as the engine uses it.
//!
//! Sources: `include/uapi/linux/userfaultfd.h`, `ioctl_userfaultfd(2)`, `UFFDIO_MOVE(2const)`.

mod abi;
mod error;
mod fd;
mod message;
mod waiting_faults;

pub use error::UffdError;
pub(crate) use fd::{Transfer, Userfaultfd, Waiting, Watch};
pub(crate) use message::{Fault, Messages};
pub use waiting_faults::WaitingFaults;

/// Whether a call that failed by `errno` may go well if it is made again.
pub(crate) fn is_transient(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOMEM
    )
}

/// Checks that this process may open a userfaultfd that serves the kernel's own faults, and that
/// the kernel can move pages.
///
/// # Errors
/// What is missing, and the remedy.
pub fn probe() -> Result<(), UffdError> {
    Userfaultfd::new(Waiting::Sleep)?;
    Userfaultfd::new(Waiting::Signal).map(drop)
}
