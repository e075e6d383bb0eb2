//! Reading the guest's stalls while it runs, and holding them against the windows.

use super::guest_frames::GuestFrames;
use super::interrupts::Interrupts;
use super::observer::EventRecorder;
use super::overlap::Overlap;
use super::window_log::Window;
use super::witness::Witness;
use crate::histogram::Histogram;
use crate::record::Stalls;
use crate::timeline;
use std::sync::Arc;
use underfoot_abi::{Context, PAGE_SIZE, StallRecord};
use underfoot_migrator::WaitKind;
use underfoot_vmm::SharedRegion;

/// Times of stalls in a window of the page accessed.
#[derive(Clone, Debug, Default)]
pub struct OwnWindow {
    /// How long they lasted.
    pub stall: Histogram,
    /// How long they still lasted after that window had closed.
    pub after: Histogram,
}

/// How the guest waits for a page that it moves itself, in the results.
pub const GUEST_WAITS: &str = "guest-spin";

/// Who waits for a page in flight, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A vCPU, by this policy.
    Vcpu(WaitKind),
    /// The guest's own page-fault handler, which spins.
    Guest,
}

/// Drains the rings of stalls and of windows from one thread.
///
/// A window is told a little after it closed, a stall at once. So a stall waits for two drains
/// before it is held against the windows.
pub struct StallReader {
    recorders: Vec<Arc<EventRecorder>>,
    /// By mover of the host.
    overlaps: Vec<Overlap>,
    /// Of the guest's own mover.
    guest: Overlap,
    guest_dropped: u64,
    guest_frames: GuestFrames,
    interrupts: Interrupts,
    /// With the vCPU that stalled.
    waiting: [Vec<(u32, StallRecord)>; 2],
    counts: Stalls,
    own: OwnWindow,
    tsc_khz: u32,
    dropped_before: u64,
    waiter: Waiter,
    /// Told of everything too; `None` where guest and host have no clock in common.
    witness: Option<Witness>,
}

impl StallReader {
    /// For the movers that `recorders` record, on a counter that runs at `tsc_khz`, in a run in which
    /// `waiter` waits, in one of so many vCPUs.
    pub fn new(
        recorders: Vec<Arc<EventRecorder>>,
        vcpus: u32,
        tsc_khz: u32,
        waiter: Waiter,
    ) -> Self {
        let overlaps = recorders
            .iter()
            .map(|_| Overlap::new(tsc_khz.into()))
            .collect();
        Self {
            recorders,
            overlaps,
            guest: Overlap::new(tsc_khz.into()),
            guest_dropped: 0,
            guest_frames: GuestFrames::default(),
            interrupts: Interrupts::new(vcpus, tsc_khz.into()),
            waiting: Default::default(),
            counts: Stalls::default(),
            own: OwnWindow::default(),
            tsc_khz,
            dropped_before: 0,
            waiter,
            witness: None,
        }
    }

    /// The control phase begins, and with it the search for who steals time.
    pub fn begin_control(&mut self, shared: &SharedRegion, witness: Option<Witness>) {
        shared.drain_stalls(|_, _| ());
        shared.drain_interrupts(|_, _| ());
        self.witness = witness;
    }

    /// Who sees it.
    pub fn witness(&mut self) -> Option<&mut Witness> {
        self.witness.as_mut()
    }

    /// Forgets everything so far: the moving phase begins.
    pub fn begin(&mut self, shared: &SharedRegion) {
        let witness = &mut self.witness;
        shared.drain_stalls(|vcpu, stall| {
            witness
                .iter_mut()
                .for_each(|witness| witness.stall(vcpu, stall));
        });
        if let Some(witness) = witness {
            witness.begin_moving();
        }
        self.waiting = Default::default();
        self.counts = Stalls::default();
        self.own = OwnWindow::default();
        self.dropped_before = dropped(shared);
    }

    /// Reads what has come since the last call.
    pub fn drain(&mut self, shared: &SharedRegion) {
        self.take_windows(shared);
        self.judge_oldest(shared);
        let newest = &mut self.waiting[1];
        let witness = &mut self.witness;
        shared.drain_stalls(|vcpu, stall| {
            newest.push((vcpu, stall));
            if let Some(witness) = witness {
                witness.stall(vcpu, stall);
            }
        });
        let interrupts = &mut self.interrupts;
        shared.drain_interrupts(|vcpu, record| {
            interrupts.add(vcpu, record);
            if let Some(witness) = witness {
                witness.interrupt(vcpu, record);
            }
        });
        if let Some(witness) = witness {
            witness.look();
        }
    }

    /// Reads what is left, once guest and movers have ended.
    pub fn finish(&mut self, shared: &SharedRegion) -> (Stalls, OwnWindow) {
        for _ in 0..=self.waiting.len() {
            self.drain(shared);
        }
        self.counts.dropped = dropped(shared) - self.dropped_before;
        (
            std::mem::take(&mut self.counts),
            std::mem::take(&mut self.own),
        )
    }

    /// Windows that were lost because this reader was too slow.
    pub fn windows_dropped(&self) -> u64 {
        self.recorders
            .iter()
            .map(|recorder| recorder.windows().dropped())
            .fold(self.guest_dropped, u64::saturating_add)
    }

    /// Where the guest said that it put its pages; `None` if some of it was lost.
    pub fn guest_frames(&mut self) -> Option<GuestFrames> {
        let frames = std::mem::take(&mut self.guest_frames);
        (self.guest_dropped == 0).then_some(frames)
    }

    fn take_windows(&mut self, shared: &SharedRegion) {
        let believed = self.waiter == Waiter::Guest;
        let witness = &mut self.witness;
        shared.drain_windows(|window| {
            // The guest's word: a window that never closed is not believed, nor one in a guest that
            // moves nothing.
            if !believed {
                return;
            }
            self.guest_frames.note(shared, &window);
            if let Some(window) = Window::of_guest(window) {
                if let Some(witness) = witness {
                    witness.window(&window);
                }
                self.guest.add(window);
            }
        });
        self.guest_dropped = shared.mover().windows.dropped();
        for (recorder, overlap) in self.recorders.iter().zip(&mut self.overlaps) {
            // Those that are there now: a mover may be faster than this reader for as long as it moves.
            for window in recorder.windows().ready() {
                if let Some(witness) = witness {
                    witness.window(&window);
                }
                overlap.add(window);
            }
        }
    }

    fn judge_oldest(&mut self, shared: &SharedRegion) {
        let counts = &mut self.counts;
        let own = counts.own_window.get_or_insert(0);
        for (vcpu, stall) in self.waiting[0].drain(..) {
            counts.total += 1;
            let overlaps = self.overlaps.iter().chain([&self.guest]);
            let windows = overlaps.filter_map(|o| o.window_of(&stall));
            let Some(window) = windows.max_by_key(|window| window.end_tsc) else {
                continue;
            };
            *own += 1;
            let ns = |from| timeline::ns(stall.end_tsc.saturating_sub(from), self.tsc_khz);
            self.own.stall.record(ns(stall.start_tsc));
            self.own.after.record(ns(window.end_tsc));
            // The address is the guest's word; one beyond its memory has overlapped no window.
            if let Some(byte) = shared.page_byte(stall.gva / PAGE_SIZE as u64) {
                let wait = wait_in_force(self.waiter, byte.hypervisor(), stall.context);
                let kind = byte.kind().name();
                *counts.own_window_by_kind.entry(kind).or_default() += 1;
                *counts.own_window_by_wait.entry(wait).or_default() += 1;
                if let Some(met) = self.interrupts.met(vcpu, &stall, window) {
                    let kinds = counts.own_window_interrupts.entry(wait).or_default();
                    let sum = kinds.entry(kind).or_default();
                    *sum = sum.plus(met);
                }
            }
        }
        self.waiting.swap(0, 1);
    }
}

/// How a vCPU waits that accesses a page in flight itself. Pages that the hypervisor reaches are
/// never registered for signals, so that nobody spins on them.
///
/// A guest that is told of pages that are away says how it waited. Where it was not told (`async-untold`), KVM halted the
/// vCPU, since it had told of that page already or interrupts were masked, or slept, or had the page back at once.
const fn wait_in_force(waiter: Waiter, hypervisor: bool, context: u64) -> &'static str {
    match waiter {
        Waiter::Vcpu(WaitKind::Async) if context & Context::SWITCHED != 0 => "async-switched",
        Waiter::Vcpu(WaitKind::Async) if context & Context::EARLY != 0 => "async-early",
        Waiter::Vcpu(WaitKind::Async) if context & Context::HALTED != 0 => "async-halted",
        Waiter::Vcpu(WaitKind::Async) => "async-untold",
        Waiter::Vcpu(policy) if policy.signals() && hypervisor => WaitKind::Block.name(),
        Waiter::Vcpu(policy) => policy.name(),
        Waiter::Guest => GUEST_WAITS,
    }
}

fn dropped(shared: &SharedRegion) -> u64 {
    (0..shared.cpus())
        .map(|index| shared.vcpu(index).stalls.dropped())
        .sum()
}
