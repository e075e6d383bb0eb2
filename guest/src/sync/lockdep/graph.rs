//! The orders in which lock classes were taken: a directed graph without cycles.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::sync::atomic::AtomicU64 as PlainU64;

/// The numbers of up to eight classes in the order in which they were taken, one byte each, from the
/// lowest; plus one, so that 0 is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(pub(super) u64);

impl Chain {
    /// Appends `node`; of a full chain the oldest is forgotten.
    pub(super) fn push(&mut self, node: u8) {
        if self.len() == 8 {
            self.0 >>= 8;
        }
        self.0 |= u64::from(node + 1) << (8 * self.len());
    }

    pub(super) const fn len(self) -> usize {
        8 - self.0.leading_zeros() as usize / 8
    }

    #[cfg(not(loom))]
    pub(super) fn nodes(self) -> impl Iterator<Item = u8> {
        self.0
            .to_le_bytes()
            .into_iter()
            .map_while(|n| n.checked_sub(1))
    }
}

/// The numbers of the bits that are set.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as u8;
        (mask != 0).then(|| {
            mask &= mask - 1;
            bit
        })
    })
}

/// A new edge that would close a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// What is held, and what is wanted.
    pub(super) edge: (u8, u8),
    /// The known way from the wanted class to the held one.
    pub(super) known: Chain,
}

/// Edges lead from a class that was held to one that was then taken, between at most 64 classes.
///
/// [`Self::knows`] takes no lock; all else is called under the checker's lock.
pub(super) struct Graph<const N: usize> {
    /// By class: those that were held when it was taken. Never has a cycle.
    before: [AtomicU64; N],
    /// By class: those that were held when it was taken against a known order. They were reported.
    accused: [AtomicU64; N],
    /// By edge: all that was held when it was first seen, and what was taken. Only touched under the
    /// lock, so no concern of the models.
    origin: [[PlainU64; N]; N],
}

impl<const N: usize> Graph<N> {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            before: [const { AtomicU64::new(0) }; N],
            accused: [const { AtomicU64::new(0) }; N],
            origin: [const { [const { PlainU64::new(0) }; N] }; N],
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            before: core::array::from_fn(|_| AtomicU64::new(0)),
            accused: core::array::from_fn(|_| AtomicU64::new(0)),
            origin: [const { [const { PlainU64::new(0) }; N] }; N],
        }
    }

    /// Whether all edges from `held` to `node` were judged already. Relaxed: bits are only ever set,
    /// and one that is not seen yet sends its reader through the lock.
    #[inline]
    pub(super) fn knows(&self, held: u64, node: u8) -> bool {
        let node = usize::from(node);
        let judged = self.before[node].load(Relaxed) | self.accused[node].load(Relaxed);
        held & !judged == 0
    }

    /// Adds the edges from `held` to `node` that close no cycle; the first that does, if any. `chain`
    /// is what is held and wanted now.
    pub(super) fn add(&self, held: u64, node: u8, chain: Chain) -> Option<Cycle> {
        let mut first = None;
        let to = usize::from(node);
        for from in bits(held) {
            if self.knows(1 << from, node) {
                continue;
            }
            // Whoever holds the checker's lock is the only writer: a load and a store are enough.
            if let Some(known) = self.path(node, from) {
                let accused = self.accused[to].load(Relaxed);
                self.accused[to].store(accused | 1 << from, Relaxed);
                first.get_or_insert(Cycle {
                    edge: (from, node),
                    known,
                });
            } else {
                self.origin[usize::from(from)][to].store(chain.0, Relaxed);
                let before = self.before[to].load(Relaxed);
                self.before[to].store(before | 1 << from, Relaxed);
            }
        }
        first
    }

    /// Where the edge was first seen.
    #[cfg(not(loom))]
    pub(super) fn origin(&self, from: u8, to: u8) -> Chain {
        Chain(self.origin[usize::from(from)][usize::from(to)].load(Relaxed))
    }

    /// A shortest way along the edges; of one longer than eight classes, the last eight. The way
    /// from a class to itself is that class.
    pub(super) fn path(&self, start: u8, end: u8) -> Option<Chain> {
        // Backwards from the end, since edges are kept by where they lead.
        let mut towards_end = [end; N];
        let mut seen = 1_u64 << end;
        let mut frontier = seen;
        while frontier & 1 << start == 0 {
            let mut next = 0;
            for node in bits(frontier) {
                let new = self.before[usize::from(node)].load(Relaxed) & !seen;
                bits(new).for_each(|from| towards_end[usize::from(from)] = node);
                seen |= new;
                next |= new;
            }
            if next == 0 {
                return None;
            }
            frontier = next;
        }
        let mut path = Chain::default();
        let mut node = start;
        while node != end {
            path.push(node);
            node = towards_end[usize::from(node)];
        }
        path.push(end);
        Some(path)
    }
}
