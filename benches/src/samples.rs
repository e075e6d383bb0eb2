//! What the engine tells, kept: each window in full, or a sum.

use crate::noise::GAP_NS;
use crate::slice::Slice;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use underfoot::run::observer::EventRecorder;
use underfoot_migrator::{Event, Observer, Times};

/// Windows that one slice keeps.
const WINDOWS: usize = 1 << 16;

/// The times of each window, in the order in which they came, the first of them if they are too many.
pub struct Windows(Mutex<Vec<Times>>);

impl Windows {
    /// Room for a slice.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::with_capacity(WINDOWS))))
    }

    /// Takes them out.
    #[must_use]
    pub fn take(&self) -> Vec<Times> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Windows {
    fn on(&self, event: &Event) {
        let Event::Committed { times, .. } = event else {
            return;
        };
        // One mover alone takes it, outside of its windows.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() < windows.capacity() {
            windows.push(*times);
        }
    }
}

/// Sums up what one mover does, from its first window's end to its last one's, and records it as
/// `underfoot run` does.
pub struct Tally {
    recorder: EventRecorder,
    ns_per_tick: f64,
    /// Pages after the first window, and its end.
    pages: AtomicU64,
    first_tsc: AtomicU64,
    last_tsc: AtomicU64,
    gap_ticks: AtomicU64,
}

impl Tally {
    /// With a time-stamp counter that runs at `tsc_khz`.
    #[must_use]
    pub fn new(tsc_khz: u32) -> Arc<Self> {
        Arc::new(Self {
            recorder: EventRecorder::new(tsc_khz),
            ns_per_tick: 1e6 / f64::from(tsc_khz),
            pages: AtomicU64::new(0),
            first_tsc: AtomicU64::new(0),
            last_tsc: AtomicU64::new(0),
            gap_ticks: AtomicU64::new(0),
        })
    }

    /// What it did; exact once the mover has ended.
    #[must_use]
    pub fn slice(&self) -> Slice {
        let ns = |ticks: u64| (ticks as f64 * self.ns_per_tick) as u64;
        Slice {
            pages: self.pages.load(Relaxed),
            ns: ns(self.last_tsc.load(Relaxed) - self.first_tsc.load(Relaxed)),
            gap_ns: ns(self.gap_ticks.load(Relaxed)),
        }
    }
}

impl Observer for Tally {
    fn on(&self, event: &Event) {
        self.recorder.on(event);
        let Event::Committed { range, times } = event else {
            return;
        };
        let last = self.last_tsc.swap(times.end, Relaxed);
        if last == 0 {
            return self.first_tsc.store(times.end, Relaxed);
        }
        self.pages.fetch_add(range.pages.into(), Relaxed);
        let took = times.end.saturating_sub(last);
        if took as f64 * self.ns_per_tick > GAP_NS as f64 {
            self.gap_ticks.fetch_add(took, Relaxed);
        }
    }
}
