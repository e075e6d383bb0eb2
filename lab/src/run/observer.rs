//! What the host records of the engine's events: a recorder per thread, no lock, no allocation.

use super::window_log::{Window, WindowLog};
use crate::timeline::Span;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::Histogram;
use underfoot_migrator::{AbortReason, Event, Observer, PageRange, Times};

/// The name of [`HostMetric::Locked`].
pub const LOCKED: &str = "window.locked";

/// What the host measures, in the order in which a thread records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMetric {
    /// The whole window.
    Window,
    /// The time in which writers wait, where that is longer.
    Write,
    /// The call that write-protects.
    Protect,
    /// The call that unmaps.
    Unmap,
    /// The copy between the calls, or the comparison.
    Copy,
    /// The call that maps.
    Map,
    /// Each call that takes the address-space lock for writing.
    Locked,
    /// From claim to release.
    Migration,
    /// What it takes to keep track of an invalidation that somebody must be told of.
    Invalidate,
    /// From there until no consumer used the pages.
    Quiet,
    /// Service of a fault that reached the handler.
    Fault,
    /// From the closing of a cycle to when the old frames of the migration in it were back.
    Broken,
}

impl HostMetric {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Window,
        Self::Write,
        Self::Protect,
        Self::Unmap,
        Self::Copy,
        Self::Map,
        Self::Locked,
        Self::Migration,
        Self::Invalidate,
        Self::Quiet,
        Self::Fault,
        Self::Broken,
    ];

    /// The name under `histograms` in the results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Write => "window.write",
            Self::Protect => "window.protect",
            Self::Unmap => "window.unmap",
            Self::Copy => "window.copy",
            Self::Map => "window.map",
            Self::Locked => LOCKED,
            Self::Migration => "migration",
            Self::Invalidate => "invalidation.start",
            Self::Quiet => "invalidation.quiet",
            Self::Fault => "fault",
            Self::Broken => "watchdog.broken",
        }
    }
}

/// Records the events of one mover, or of the fault handler: the one thread that writes it.
pub struct EventRecorder {
    histograms: [Histogram; HostMetric::ALL.len()],
    windows: WindowLog,
    /// Pages aborted, by reason.
    aborted: [AtomicU64; AbortReason::NAMES.len()],
    ns_per_tick: f64,
}

fn empty() -> Histogram {
    Histogram {
        count: AtomicU64::new(0),
        sum: AtomicU64::new(0),
        min_plus_one: AtomicU64::new(0),
        max: AtomicU64::new(0),
        overflow: AtomicU64::new(0),
        buckets: std::array::from_fn(|_| AtomicU64::new(0)),
    }
}

impl EventRecorder {
    /// For a counter that runs at `tsc_khz`.
    pub fn new(tsc_khz: u32) -> Self {
        Self {
            histograms: std::array::from_fn(|_| empty()),
            windows: WindowLog::default(),
            aborted: Default::default(),
            ns_per_tick: 1e6 / f64::from(tsc_khz),
        }
    }

    /// The histogram of `metric`; exact once the recorded thread was joined.
    pub fn histogram(&self, metric: HostMetric) -> &Histogram {
        &self.histograms[metric as usize]
    }

    /// Pages aborted, by reason; exact once the recorded thread was joined.
    pub fn aborted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.aborted.iter().map(|count| count.load(Relaxed));
        AbortReason::NAMES.into_iter().zip(counts)
    }

    fn abort(&self, range: PageRange, reason: AbortReason) {
        let count = &self.aborted[reason.index()];
        // One writer, the recorded thread.
        count.store(count.load(Relaxed) + u64::from(range.pages), Relaxed);
    }

    /// The windows, to be read by one thread.
    pub fn windows(&self) -> &WindowLog {
        &self.windows
    }

    fn window(&self, range: PageRange, times: &Times) {
        self.windows.push(Window {
            start_tsc: times.window,
            end_tsc: times.mapped,
            away: away(times),
            range,
        });
        // Copied under protection, before the pages were taken away, or while nobody could reach them.
        let (copy, map) = if times.copied < times.window {
            (times.protected, times.unmapped)
        } else {
            (times.unmapped, times.copied)
        };
        let parts = [
            (HostMetric::Window, times.window, times.mapped),
            (HostMetric::Unmap, times.window, times.unmapped),
            (HostMetric::Copy, copy, times.copied),
            (HostMetric::Map, map, times.mapped),
            (HostMetric::Migration, times.start, times.end),
        ];
        for (metric, from, to) in parts {
            self.record(metric, from, to);
        }
        self.protection(times);
        if times.told != 0 {
            self.record(HostMetric::Invalidate, times.told, times.counted);
            self.record(HostMetric::Quiet, times.counted, times.quiet);
        }
    }

    fn protection(&self, times: &Times) {
        if times.protect == 0 {
            return;
        }
        let end = if times.mapped == 0 {
            times.end
        } else {
            times.mapped
        };
        self.record(HostMetric::Protect, times.protect, times.protected);
        self.record(HostMetric::Write, times.protect, end);
    }

    /// Pages that were away, and came back in their old frames.
    fn in_vain(&self, range: PageRange, times: &Times) {
        self.protection(times);
        if times.window == 0 || times.mapped < times.window {
            return;
        }
        let (start_tsc, end_tsc) = (times.window, times.mapped);
        self.windows.push(Window {
            start_tsc,
            end_tsc,
            away: away(times),
            range,
        });
        self.record(HostMetric::Window, start_tsc, end_tsc);
    }

    fn record(&self, metric: HostMetric, from_tsc: u64, to_tsc: u64) {
        let ticks = to_tsc.saturating_sub(from_tsc);
        self.histogram(metric)
            .record((ticks as f64 * self.ns_per_tick) as u64);
    }
}

/// When the pages were certainly away: not before the call that unmaps returned, nor once a call that maps may have begun.
fn away(times: &Times) -> Span {
    Span::new(times.unmapped, times.copied)
}

impl Observer for EventRecorder {
    fn on(&self, event: &Event) {
        match event {
            Event::Committed { range, times } => self.window(*range, times),
            Event::Aborted {
                range,
                times,
                reason,
                ..
            } => {
                self.abort(*range, *reason);
                self.in_vain(*range, times);
            }
            Event::Conflicted { range, times } => self.in_vain(*range, times),
            Event::DeadlockBroken {
                closed, restored, ..
            } => self.record(HostMetric::Broken, *closed, *restored),
            Event::Locked { began, done } => self.record(HostMetric::Locked, *began, *done),
            Event::Fault { read, done, .. } => self.record(HostMetric::Fault, *read, *done),
            _ => {}
        }
    }
}
