//! Out of memory: who asked in vain, and what there was. Told once, until the want is over.

use super::{Levels, Paid, Reclaimable};
use crate::{Cpu, arch::tsc, record};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use underfoot_abi::ReportKind;

/// Wants that follow each other so soon are one: who holds much and gives it all back brings the free
/// pages above `high` and below `min` many times a second.
const APART_MS: u64 = 1_000;

/// The want of memory that was told last.
#[derive(Debug, Default)]
pub(super) struct Want {
    /// It is not over.
    open: AtomicBool,
    /// TSC when it was told; 0: none ever was.
    told_tsc: AtomicU64,
}

/// What there was when an allocation failed.
pub(super) struct Found {
    pub levels: Levels,
    pub free: usize,
    pub reclaimable: Reclaimable,
    pub paid: Paid,
}

impl Want {
    pub(super) const fn new() -> Self {
        Self {
            open: AtomicBool::new(false),
            told_tsc: AtomicU64::new(0),
        }
    }

    /// Enough pages are free again.
    #[inline]
    pub(super) fn end(&self) {
        // A look first: all CPUs come here all the time.
        if self.open.load(Relaxed) {
            self.open.store(false, Relaxed);
        }
    }

    /// Reports that there was no page for `what`, unless that has been told of this want; `found` is asked
    /// only if it is told.
    #[cold]
    pub(super) fn tell(&self, cpu: &Cpu, what: fmt::Arguments<'_>, found: impl FnOnce() -> Found) {
        let apart = APART_MS * u64::from(cpu.header.tsc_khz);
        if !self.is_news(tsc(), apart) {
            return;
        }
        let Found {
            levels: Levels { min, low, high },
            free,
            reclaimable: Reclaimable { mapped, callbacks },
            paid: Paid { rounds, pages },
        } = found();
        let thread = cpu.sched.current(cpu).0;
        record::report(
            cpu,
            ReportKind::OutOfMemory,
            [free as u64, min as u64, mapped as u64, callbacks],
            format_args!(
                "no page for {what} by thread {thread}: {free} free (min {min}, low {low}, high {high}); \
                 {rounds} direct reclaims freed {pages}; {mapped} mapped by spaces, {callbacks} callbacks wait"
            ),
        );
    }

    /// Whether it is not the want that was told already, nor one within `apart` ticks of it; whoever is told
    /// so has to tell it.
    pub(super) fn is_news(&self, now: u64, apart: u64) -> bool {
        if self.open.load(Relaxed) || self.open.swap(true, Relaxed) {
            return false;
        }
        let told = self.told_tsc.load(Relaxed);
        if told != 0 && now.wrapping_sub(told) < apart {
            return false;
        }
        self.told_tsc.store(now, Relaxed);
        true
    }
}
