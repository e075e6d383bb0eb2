//! The mappings of a space in order, as readers find them under RCU: a weight-balanced binary tree
//! whose nodes are never changed once they are published. A change copies the path to what it changes
//! ([`Edit`](super::edit::Edit)), so that a reader has the tree as it was when it came.

use super::{entry::END, vma::Vma};
use crate::{
    mm::{Object, Objects},
    sync::RcuHead,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// No tree can be deeper: the height of a weight-balanced tree is below 2.5 times the logarithm of
/// its size, and there are fewer than 2^25 nodes.
const DEEPEST: usize = 64;

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The mappings before.
    Before = 0,
    /// Those after.
    After = 1,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Before => Self::After,
            Self::After => Self::Before,
        }
    }
}

/// A mapping's place in a tree, or in several versions of it. Atomics only: any bit pattern is a
/// valid value.
#[repr(C)]
pub(super) struct Node {
    slab_head: AtomicU64,
    /// Where the mapping starts.
    start: AtomicUsize,
    vma: AtomicUsize,
    children: [AtomicUsize; 2],
    /// Mappings here and below.
    size: AtomicU32,
    /// Where it is in its life, for the edit that it belongs to.
    pub(super) state: AtomicU32,
    /// The next in the edit's lists.
    pub(super) link: AtomicUsize,
    pub(super) rcu: RcuHead,
    slab_tail: AtomicU64,
}

const _: () = assert!(size_of::<Node>() == 104);

// SAFETY: atomics; the first and last words are the slab's.
unsafe impl Object for Node {}

impl Node {
    /// Makes it a place of `vma`, with nothing below. Nobody else knows it yet.
    pub(super) fn init(&self, vma: &Vma) {
        self.start.store(vma.range().start, Relaxed);
        let address = core::ptr::from_ref(vma).expose_provenance();
        self.vma.store(address, Relaxed);
        self.set_child(Side::Before, 0);
        self.set_child(Side::After, 0);
        self.size.store(1, Relaxed);
    }

    /// Makes it the place of the mapping of `other`, and what is below stays.
    pub(super) fn take_mapping(&self, other: &Self) {
        self.start.store(other.start(), Relaxed);
        self.vma.store(other.vma.load(Relaxed), Relaxed);
    }

    /// Makes it what `other` is. Nobody else knows it yet.
    pub(super) fn copy(&self, other: &Self) {
        self.take_mapping(other);
        for side in [Side::Before, Side::After] {
            self.set_child(side, other.child(side));
        }
        self.size.store(other.size(), Relaxed);
    }

    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).expose_provenance()
    }

    pub(super) fn start(&self) -> usize {
        self.start.load(Relaxed)
    }

    pub(super) fn child(&self, side: Side) -> usize {
        self.children[side as usize].load(Relaxed)
    }

    pub(super) fn set_child(&self, side: Side, node: usize) {
        self.children[side as usize].store(node, Relaxed);
    }

    pub(super) fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    pub(super) fn set_size(&self, size: u32) {
        self.size.store(size, Relaxed);
    }
}

/// One version of a tree: good under the space's lock until the edit that replaced it is finished,
/// and for readers as long as their section.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) nodes: &'a Objects<Node>,
    pub(super) vmas: &'a Objects<Vma>,
    /// The address of its root; 0 if it is empty.
    pub(super) root: usize,
}

impl<'a> Tree<'a> {
    /// The last mapping that starts at `address` or below.
    pub(super) fn floor(self, address: usize) -> Option<&'static Vma> {
        self.nearest(Side::Before, |start| start <= address)
    }

    /// The first mapping that starts at `address` or above.
    pub(super) fn ceiling(self, address: usize) -> Option<&'static Vma> {
        self.nearest(Side::After, |start| start >= address)
    }

    /// Of the mappings whose start `fits`, which all lie on this `side` of the others, the one next to
    /// the others.
    fn nearest(self, side: Side, fits: impl Fn(usize) -> bool) -> Option<&'static Vma> {
        let (mut at, mut found) = (self.root, None);
        // What was freed under a late reader is poison or a successor: it may not lead him in circles.
        for _ in 0..DEEPEST {
            let Some(node) = self.nodes.at(at) else { break };
            if fits(node.start()) {
                found = Some(node.vma.load(Relaxed));
                at = node.child(side.other());
            } else {
                at = node.child(side);
            }
        }
        self.vmas.at(found?)
    }

    /// The mappings that overlap `range`, in order. Each may be freed once it was given.
    pub(super) fn overlapping(
        self,
        range: &Range<usize>,
    ) -> impl Iterator<Item = &'static Vma> + use<'a> {
        let (start, end) = (range.start, range.end);
        let reaches = self.floor(start).filter(|vma| vma.range().end > start);
        let mut next = reaches.or_else(|| self.ceiling(start));
        core::iter::from_fn(move || {
            let vma = next.take().filter(|vma| vma.range().start < end)?;
            next = self.ceiling(vma.range().start + 1);
            Some(vma)
        })
    }

    /// The hole around `range`, in which nothing is mapped.
    pub(super) fn hole(self, range: &Range<usize>) -> Range<usize> {
        let below = self.floor(range.start).map_or(0, |vma| vma.range().end);
        let above = self.ceiling(range.end);
        below..above.map_or(END, |vma| vma.range().start)
    }
}
