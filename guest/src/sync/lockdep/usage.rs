//! Where classes were taken: in interrupts, in bottom halves, and with these open.

use super::{
    graph::{Chain, Graph, bits},
    held::Inside,
};
use crate::Cpu;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What can interrupt a holder on its own CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Intruder {
    Interrupt = 0,
    BottomHalf = 1,
}

impl Intruder {
    const ALL: [Self; 2] = [Self::Interrupt, Self::BottomHalf];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupts",
            Self::BottomHalf => "bottom halves",
        }
    }

    const fn is(self, inside: Inside) -> bool {
        matches!(
            (self, inside),
            (Self::Interrupt, Inside::Interrupt) | (Self::BottomHalf, Inside::BottomHalf)
        )
    }
}

/// Where the code that takes a lock runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) inside: Inside,
    /// By [`Intruder`]: whether it may come now.
    open: [bool; 2],
}

impl Place {
    /// `interrupts_open` is how interrupts were before the checker masked them.
    pub(super) fn of(cpu: &Cpu, interrupts_open: bool) -> Self {
        let inside = Inside::of(cpu);
        let interrupts = interrupts_open && inside != Inside::Interrupt;
        // Bottom halves run where an interrupt ends, so masked interrupts hold them back too.
        let bottom_halves =
            interrupts && inside == Inside::Thread && !cpu.hold.holds_bottom_halves();
        Self {
            inside,
            open: [interrupts, bottom_halves],
        }
    }
}

/// An intruder may take the first class of `path` while its CPU holds the last: it waits for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misuse {
    pub(super) intruder: Intruder,
    pub(super) path: Chain,
}

#[derive(Debug)]
struct Marks {
    /// Classes that the intruder waited for.
    wanted: AtomicU64,
    /// Classes that were held while it could come.
    open: AtomicU64,
    /// Those of `open` that were reported.
    accused: AtomicU64,
}

impl Marks {
    const fn new() -> Self {
        Self {
            wanted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            accused: AtomicU64::new(0),
        }
    }
}

/// The marks of each class, a bit each. Written under the checker's lock.
#[derive(Debug)]
pub(super) struct Usage([Marks; 2]);

impl Usage {
    pub(super) const fn new() -> Self {
        Self([const { Marks::new() }; 2])
    }

    /// What taking or holding a class in `place` means for these marks: wanted, and open.
    fn marks(intruder: Intruder, place: Place, waits: bool) -> (bool, bool) {
        let open = place.open[intruder as usize];
        (waits && intruder.is(place.inside), open)
    }

    /// Whether `node` is marked so already.
    #[inline]
    pub(super) fn knows(&self, node: u8, place: Place, waits: bool) -> bool {
        Intruder::ALL.into_iter().all(|intruder| {
            let marks = &self.0[intruder as usize];
            let (wanted, open) = Self::marks(intruder, place, waits);
            (!wanted || marks.wanted.load(Relaxed) & 1 << node != 0)
                && (!open || marks.open.load(Relaxed) & 1 << node != 0)
        })
    }

    /// Marks `node`; under the checker's lock.
    pub(super) fn add(&self, node: u8, place: Place, waits: bool) {
        for intruder in Intruder::ALL {
            let marks = &self.0[intruder as usize];
            let (wanted, open) = Self::marks(intruder, place, waits);
            marks.wanted.fetch_or(u64::from(wanted) << node, Relaxed);
            marks.open.fetch_or(u64::from(open) << node, Relaxed);
        }
    }

    /// Looks for a class that an intruder waits for and that leads to one held while it may come
    /// (Documentation/locking/lockdep-design.rst, "Single-lock state rules" and "Multi-lock
    /// dependency rules"). Each such class is found once. Under the checker's lock.
    pub(super) fn misuse<const N: usize>(&self, graph: &Graph<N>) -> Option<Misuse> {
        for intruder in Intruder::ALL {
            let marks = &self.0[intruder as usize];
            let wanted = marks.wanted.load(Relaxed);
            for open in bits(marks.open.load(Relaxed) & !marks.accused.load(Relaxed)) {
                // The class itself before others that lead to it.
                let direct = wanted & 1 << open;
                let path = bits(direct)
                    .chain(bits(wanted & !direct))
                    .find_map(|wanted| graph.path(wanted, open));
                if let Some(path) = path {
                    marks.accused.fetch_or(1 << open, Relaxed);
                    return Some(Misuse { intruder, path });
                }
            }
        }
        None
    }
}
