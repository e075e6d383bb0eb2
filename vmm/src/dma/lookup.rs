//! A look-up that takes its time.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};
use underfoot_migrator::{Gfn, Translate};

/// Finds pages where another one does, and takes longer for it: as a device that walks tables of its own
/// or has to ask somebody, so that a page may move meanwhile.
pub struct SlowLookup {
    inner: Arc<dyn Translate>,
    takes: Duration,
}

impl SlowLookup {
    /// As `inner`, at least `takes` later.
    #[must_use]
    pub fn new(inner: Arc<dyn Translate>, takes: Duration) -> Self {
        Self { inner, takes }
    }
}

impl Translate for SlowLookup {
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        let found = self.inner.translate(gfn);
        if !self.takes.is_zero() {
            let began = Instant::now();
            while began.elapsed() < self.takes {
                std::hint::spin_loop();
            }
        }
        found
    }
}
