//! Accesses by each CPU's own translations, and taking these away.

use super::{object::Space, spaces::Spaces};
use crate::{
    Cpu, record,
    tlb::{self, Batch, HostWords, Shot, SoftTlb, Tlb, Way},
};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use underfoot_abi::{MAX_CPUS, ReportKind, SHOTS};

/// What shootdowns are done with.
#[derive(Clone, Copy)]
pub struct Translations {
    /// All CPUs' translations.
    pub tlb: &'static Tlb,
    /// The words of a vCPU's hosts.
    pub words: fn(usize) -> Option<HostWords<'static>>,
    /// How other CPUs are made to flush.
    pub way: Way,
}

/// Shootdowns in the place of grace periods: what is unmapped is free as soon as every CPU that may
/// use it has flushed.
pub(super) struct Shootdowns {
    with: Translations,
    /// The space that each CPU used last; written by that CPU alone.
    last: [AtomicUsize; MAX_CPUS],
    /// A stale translation was reported.
    reported: AtomicBool,
}

impl Shootdowns {
    pub(super) const fn new(with: Translations) -> Self {
        Self {
            with,
            last: [const { AtomicUsize::new(0) }; MAX_CPUS],
            reported: AtomicBool::new(false),
        }
    }

    /// Uses `space` on this CPU; its translations. With preemption disabled.
    pub(super) fn activate(&self, cpu: &Cpu, spaces: &Spaces, space: &Space) -> &'static SoftTlb {
        let last = &self.last[cpu.id];
        // It may have been destroyed since: then it is not loaded any more, which `activate` sees.
        let left = spaces.spaces.at(last.load(Relaxed));
        let tlb = self.with.tlb;
        tlb.activate(cpu, left.map(|left| &left.tlb), &space.tlb);
        last.store(core::ptr::from_ref(space).expose_provenance(), Relaxed);
        tlb.soft(cpu)
    }

    /// Makes all CPUs forget what `batch` names, for the sake of `pages` pages.
    pub(super) fn shoot(&self, cpu: &Cpu, space: &tlb::Space, batch: &Batch, pages: u64) {
        if batch.is_empty() {
            return;
        }
        let Translations { tlb, words, way } = self.with;
        let shot = tlb.shoot_with(cpu, space, batch, way, words);
        count(cpu, &shot, way, pages);
    }

    /// Takes `space`, which nobody uses any more, away from the CPUs that still have it loaded.
    pub(super) fn retire(&self, cpu: &Cpu, space: &Space) {
        self.with.tlb.retire(cpu, &space.tlb);
    }

    /// This CPU used `entry` for `address` after that was shot down. The first says it all.
    #[cold]
    pub(super) fn stale(&self, cpu: &Cpu, address: usize, entry: u64, now: Option<u64>) {
        let now = now.unwrap_or(0);
        if !self.reported.swap(true, Relaxed) {
            record::report(
                cpu,
                ReportKind::Translation,
                [address as u64, entry, now, cpu.id as u64],
                format_args!(
                    "CPU {} used {entry:#x} for {address:#x} after its shootdown was done; the table has {now:#x}",
                    cpu.id
                ),
            );
        }
    }
}

fn count(cpu: &Cpu, shot: &Shot, way: Way, pages: u64) {
    let refused = way == Way::Hypercall && shot.sent != 0 && !shot.hypercall;
    let counts = [
        1,
        pages,
        u64::from(shot.asked),
        u64::from(shot.lazy),
        u64::from(shot.notes_held + shot.notes_preempted),
        u64::from(refused),
    ];
    for (index, n) in counts.into_iter().enumerate() {
        record::count(cpu, SHOTS + index, n);
    }
}
