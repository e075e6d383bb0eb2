//! How many windows are open, for those who spin until one closes.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// The windows of all movers. A vCPU that met a window without sleeping in the kernel spins on it.
#[derive(Default)]
pub struct Windows {
    opened: Line,
    closed: Line,
}

impl Windows {
    /// Whether a window of any mover is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Closed first: a window that opens in between may be reported, one that closed never is.
        let closed = self.closed();
        self.opened.0.load(Ordering::Acquire) != closed
    }

    /// How many windows have closed so far. A change means that a page may be back.
    #[must_use]
    pub fn closed(&self) -> u64 {
        // Acquire pairs with the release in `close`: the page of that window is mapped.
        self.closed.0.load(Ordering::Acquire)
    }

    pub(crate) fn open(&self) {
        // Sequentially consistent with the unmapping system call that follows it on this CPU.
        self.opened.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.closed.0.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_until_closed() {
        let windows = Windows::default();
        assert!(!windows.is_open());
        windows.open();
        windows.open();
        windows.close();
        assert!(windows.is_open());
        windows.close();
        assert!(!windows.is_open());
        assert_eq!(windows.closed(), 2);
    }
}
