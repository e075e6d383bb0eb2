//! One page's move, from the choice to the new frame.

use super::{
    entry::{State, Window, give_up},
    frames::Frames,
};
use crate::{
    Cpu,
    arch::tsc,
    mm::{PageAllocator, PageTable},
    tlb::{Batch, Tlb},
};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{MoverArea, MoverMetric, PAGE_SIZE, PageKind, Variant, WindowRecord};

/// What the kernel has for its mover.
#[derive(Clone, Copy)]
pub struct Parts {
    /// Where kinds of pages are told.
    pub pages: &'static PageAllocator,
    /// The page table that every CPU uses.
    pub table: &'static PageTable,
    /// Shoots translations of it down.
    pub tlb: &'static Tlb,
    /// Whose frame is whose.
    pub frames: &'static Frames,
    /// Where counts and times go. Only the mover writes it.
    pub area: &'static MoverArea,
    /// A window whose shootdown is not over after so long is given up.
    pub patience_ns: u64,
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page lies in a new frame.
    Committed,
    /// It is back in its old one.
    Aborted,
    /// It was left alone.
    Skipped,
}

/// When the parts of a window were over, in TSC ticks.
struct Times {
    cleared: u64,
    flushed: u64,
    copied: u64,
    mapped: u64,
}

/// A window, and the page's new frame unless it was given up.
struct Moved {
    times: Times,
    to: Option<usize>,
}

/// Moves pages, one after the other. There is one.
pub struct Job {
    parts: Parts,
}

impl Job {
    /// A mover with these parts.
    #[must_use]
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Moves `page`, if it still is of `kind` and may move, to the frame that has been nobody's for
    /// longest. Interrupts are open and preemption is enabled; the running thread's stack is pinned.
    pub fn move_page(&self, cpu: &Cpu, page: usize, kind: PageKind) -> Outcome {
        let start = tsc();
        let window = self.under_lock(cpu, page, kind);
        let end = tsc();
        let counts = &self.parts.area.counts[kind as usize];
        add(&counts.attempted, 1);
        let Some(Moved { times, to }) = window else {
            add(&counts.skipped, 1);
            return Outcome::Skipped;
        };
        self.record(cpu, MoverMetric::Window, times.cleared, times.mapped);
        self.parts.area.windows.push(WindowRecord {
            start_tsc: times.cleared,
            end_tsc: times.mapped,
            page: (page / PAGE_SIZE) as u64,
            kind: kind as u8,
            frame: to.map(|to| (to / PAGE_SIZE) as u64),
        });
        if to.is_none() {
            add(&counts.aborted, 1);
            return Outcome::Aborted;
        }
        add(&counts.committed, 1);
        for (metric, from, to) in [
            (MoverMetric::Unmap, times.cleared, times.flushed),
            (MoverMetric::Copy, times.flushed, times.copied),
            (MoverMetric::Map, times.copied, times.mapped),
            (MoverMetric::Migration, start, end),
        ] {
            self.record(cpu, metric, from, to);
        }
        Outcome::Committed
    }

    /// The rule of thumb of the thread: what a spinlock can protect may be waited for by spinning.
    /// `None` if the page may not move.
    fn under_lock(&self, cpu: &Cpu, page: usize, kind: PageKind) -> Option<Moved> {
        let Parts {
            frames,
            pages,
            table,
            ..
        } = self.parts;
        // Bottom halves would touch pages, perhaps this one.
        let mut limbo = frames.limbo.lock_bh(cpu);
        let byte = pages.kind(page);
        if byte.kind() != kind || !frames.may_move(page, byte) {
            return None;
        }
        let entry = table.leaf(page)?;
        let State::Mapped(from) = State::of(entry.load(Relaxed)) else {
            return None;
        };
        let (to, sum) = limbo.oldest();
        self.look_at_limbo(to, sum);
        frames.warm(from);
        frames.give(page, to);
        let (times, committed) = self.window(cpu, page, entry, (from, to))?;
        if committed {
            frames.take(from);
            // Who reads the pattern by an old translation takes it for an address, and crashes before
            // a check speaks: the busted form leaves the frame as it is.
            let sum = if cpu.header.variant == Variant::NoShootdown as u32 {
                frames.sum(from)
            } else {
                frames.bury(from)
            };
            limbo.exchange(from, sum);
        } else {
            frames.take_back(to);
        }
        Some(Moved {
            times,
            to: committed.then_some(to),
        })
    }

    /// Clears the entry, shoots it down, copies the page and maps it again; whether it was
    /// not given up. `None` if there was nothing to clear.
    fn window(
        &self,
        cpu: &Cpu,
        page: usize,
        entry: &AtomicU64,
        (from, to): (usize, usize),
    ) -> Option<(Times, bool)> {
        let frames = self.parts.frames;
        let busted = |variant: Variant| cpu.header.variant == variant as u32;
        if busted(Variant::CopyMapped) {
            frames.copy(from, to);
        }
        let cleared = tsc();
        let mut times = Times {
            cleared,
            flushed: cleared,
            copied: cleared,
            mapped: cleared,
        };
        let window = Window::open(entry)?;
        if !busted(Variant::NoShootdown) {
            self.shoot(cpu, page, entry, cleared);
        }
        times.flushed = tsc();
        // No interrupt of this CPU may need the page from here on: it could not be given back.
        let open = cpu.ops.irq_save(cpu);
        let copying = window.begin_copy();
        let committed = copying.is_some();
        if let Some(copying) = copying {
            if !busted(Variant::CopyMapped) {
                frames.copy(from, to);
            }
            times.copied = tsc();
            copying.finish(to);
        }
        times.mapped = tsc();
        cpu.ops.irq_restore(cpu, open);
        Some((times, committed))
    }

    fn shoot(&self, cpu: &Cpu, page: usize, entry: &AtomicU64, began: u64) {
        let Parts {
            tlb, patience_ns, ..
        } = self.parts;
        tlb.shoot_while(cpu, tlb.kernel(), &Batch::page(page), || {
            if cpu.ns(tsc().saturating_sub(began)) > patience_ns {
                give_up(entry);
            }
        });
    }

    /// Looks whether somebody has written to a frame that was left, before it is used again.
    fn look_at_limbo(&self, frame: usize, sum: u64) {
        let Parts { frames, area, .. } = self.parts;
        add(&area.limbo_checked, 1);
        if frames.sum(frame) != sum {
            add(&area.stale_writes, 1);
        }
    }

    fn record(&self, cpu: &Cpu, metric: MoverMetric, from: u64, to: u64) {
        let ns = cpu.ns(to.saturating_sub(from));
        self.parts.area.histograms[metric as usize].record(ns);
    }

    /// Whether every page of `range` is where it should be; what is not is counted. The mover is at
    /// rest.
    pub fn audit(&self, range: Range<usize>) {
        let Parts {
            table,
            frames,
            area,
            ..
        } = self.parts;
        let wrong = frames.audit(table, range);
        area.misplaced.store(wrong, Relaxed);
    }

    /// The pages that the mover keeps its books by.
    #[must_use]
    pub const fn frames(&self) -> &'static Frames {
        self.parts.frames
    }

    /// The entry of the page that `address` lies in, where its page table has one.
    #[must_use]
    pub fn entry(&self, address: usize) -> Option<&'static AtomicU64> {
        self.parts.table.leaf(address & !(PAGE_SIZE - 1))
    }
}

/// Adds to a word that only the mover writes.
fn add(word: &AtomicU64, n: u64) {
    word.store(word.load(Relaxed) + n, Relaxed);
}
