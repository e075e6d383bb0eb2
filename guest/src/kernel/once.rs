//! Statics that boot fills once.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const FILLING: u8 = 1;
const FULL: u8 = 2;

/// A place that is written once and read ever after, for values too large or too late to be
/// constants.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written by the one caller that takes the state from EMPTY, and handed out only
// when FULL, as a shared reference; so `T` must be shareable and may have come from another CPU.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    pub const fn new() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Fills the place.
    ///
    /// # Panics
    /// If it was filled before.
    pub fn set(&'static self, value: T) -> &'static T {
        let first = self
            .state
            .compare_exchange(EMPTY, FILLING, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        assert!(first, "a boot-time static is filled twice");
        // SAFETY: only the caller that made it FILLING gets here, and nobody reads before FULL.
        let value = unsafe { (*self.value.get()).write(value) };
        // Pairs with the acquire in `get`.
        self.state.store(FULL, Ordering::Release);
        value
    }

    /// The value, once it is there.
    pub fn get(&'static self) -> Option<&'static T> {
        // SAFETY: FULL is stored after the value, which never changes again.
        (self.state.load(Ordering::Acquire) == FULL)
            .then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }
}
