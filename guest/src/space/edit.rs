//! Changing the mappings of a space: a new version of their tree that shares with the old one what
//! is the same.
//!
//! The balance is that of Hirai and Yamamoto, "Balancing weight-balanced trees" (Journal of Functional
//! Programming, 2011), with their parameters 3 and 2.

use super::{
    tree::{Node, Side},
    vma::Vma,
};
use crate::{
    Cpu,
    mm::{Objects, watermark::Refused},
};
use core::cmp::Ordering;
use core::sync::atomic::Ordering::Relaxed;

/// A side weighs at most so many times what the other does.
const DELTA: u32 = 3;
/// An inner grandchild that weighs so many times what the outer does goes up by itself.
const RATIO: u32 = 2;

/// States of a node: published, made by an edit, made by it and not needed after all.
const OLD: u32 = 0;
const FRESH: u32 = 1;
const DEAD: u32 = 2;

/// A version in the making, under the space's lock. Dropped unfinished, it never was. Of no use any more
/// once it was [`Refused`] another node.
pub(super) struct Edit<'a> {
    cpu: &'a Cpu,
    nodes: &'a Objects<Node>,
    root: usize,
    /// Nodes that it made, linked.
    fresh: usize,
    /// Published nodes that the new version does without, linked.
    stale: usize,
}

impl<'a> Edit<'a> {
    /// Begins with the version whose root is `root`.
    pub(super) fn new(cpu: &'a Cpu, nodes: &'a Objects<Node>, root: usize) -> Self {
        Self {
            cpu,
            nodes,
            root,
            fresh: 0,
            stale: 0,
        }
    }

    /// The root of the new version.
    pub(super) const fn root(&self) -> usize {
        self.root
    }

    /// Adds a mapping; none starts where it does.
    pub(super) fn insert(&mut self, vma: &Vma) -> Result<(), Refused> {
        self.root = self.insert_at(self.root, vma)?;
        Ok(())
    }

    /// Takes out the mapping that starts at `start`.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn remove(&mut self, start: usize) -> Result<(), Refused> {
        self.root = self.remove_at(self.root, start)?;
        Ok(())
    }

    /// The new version was published: its nodes are never changed again. Gives those to `free` that
    /// only old versions have.
    pub(super) fn finish(mut self, mut free: impl FnMut(&'static Node)) {
        for node in self.take_fresh() {
            if node.state.swap(OLD, Relaxed) == DEAD {
                self.nodes.free(self.cpu, node);
            }
        }
        let mut at = core::mem::take(&mut self.stale);
        while let Some(node) = self.nodes.at(at) {
            at = node.link.load(Relaxed);
            free(node);
        }
    }

    /// The nodes that it made; each may be freed once it was given.
    fn take_fresh(&mut self) -> impl Iterator<Item = &'static Node> + use<'a> {
        let nodes = self.nodes;
        let mut at = core::mem::take(&mut self.fresh);
        core::iter::from_fn(move || {
            let node = nodes.at(at)?;
            at = node.link.load(Relaxed);
            Some(node)
        })
    }

    fn insert_at(&mut self, at: usize, vma: &Vma) -> Result<usize, Refused> {
        let Some(node) = self.nodes.at(at) else {
            let node = self.make()?;
            node.init(vma);
            return Ok(node.address());
        };
        let side = if vma.range().start < node.start() {
            Side::Before
        } else {
            Side::After
        };
        let below = self.insert_at(node.child(side), vma)?;
        let node = self.own(node)?;
        node.set_child(side, below);
        self.balance(node)
    }

    fn remove_at(&mut self, at: usize, start: usize) -> Result<usize, Refused> {
        let node = self.nodes.at(at).expect("the mapping is in the tree");
        let side = match start.cmp(&node.start()) {
            Ordering::Less => Side::Before,
            Ordering::Greater => Side::After,
            Ordering::Equal => return self.remove_node(node),
        };
        let below = self.remove_at(node.child(side), start)?;
        let node = self.own(node)?;
        node.set_child(side, below);
        self.balance(node)
    }

    /// A mapping goes; its neighbour on the heavier side takes its place.
    fn remove_node(&mut self, node: &'static Node) -> Result<usize, Refused> {
        let (before, after) = (node.child(Side::Before), node.child(Side::After));
        if before == 0 || after == 0 {
            self.retire(node);
            return Ok(before.max(after));
        }
        let heavier = if self.weight(before) > self.weight(after) {
            Side::Before
        } else {
            Side::After
        };
        let mut neighbour = self.below(node, heavier);
        while neighbour.child(heavier.other()) != 0 {
            neighbour = self.below(neighbour, heavier.other());
        }
        let owned = self.own(node)?;
        // Before it may be freed: one that this edit made is, at its end, and stays as it is till then.
        owned.take_mapping(neighbour);
        let rest = self.remove_at(owned.child(heavier), neighbour.start())?;
        owned.set_child(heavier, rest);
        self.balance(owned)
    }

    /// Makes both sides of `node`, which is this edit's own, weigh enough; the root of the two.
    fn balance(&mut self, node: &'static Node) -> Result<usize, Refused> {
        let [before, after] = [Side::Before, Side::After].map(|side| self.weight(node.child(side)));
        if after > DELTA * before {
            self.rotate(node, Side::After)
        } else if before > DELTA * after {
            self.rotate(node, Side::Before)
        } else {
            self.measure(node);
            Ok(node.address())
        }
    }

    /// Moves weight from the `heavy` side of `node` to the other.
    fn rotate(&mut self, node: &'static Node, heavy: Side) -> Result<usize, Refused> {
        let light = heavy.other();
        let child = self.own(self.below(node, heavy))?;
        let (inner, outer) = (child.child(light), child.child(heavy));
        let top = if self.weight(inner) < RATIO * self.weight(outer) {
            node.set_child(heavy, inner);
            child.set_child(light, node.address());
            child
        } else {
            let grandchild = self.own(self.below(child, light))?;
            node.set_child(heavy, grandchild.child(light));
            child.set_child(light, grandchild.child(heavy));
            grandchild.set_child(light, node.address());
            grandchild.set_child(heavy, child.address());
            grandchild
        };
        self.measure(node);
        self.measure(child);
        self.measure(top);
        Ok(top.address())
    }

    fn weight(&self, at: usize) -> u32 {
        1 + self.nodes.at(at).map_or(0, Node::size)
    }

    fn measure(&self, node: &Node) {
        let sides = [Side::Before, Side::After].map(|side| self.weight(node.child(side)));
        node.set_size(sides[0] + sides[1] - 1);
    }

    fn below(&self, node: &Node, side: Side) -> &'static Node {
        let below = self.nodes.at(node.child(side));
        below.expect("a side that weighs something has a node")
    }

    /// A copy of `node` that this edit may change, or itself if it made it.
    fn own(&mut self, node: &'static Node) -> Result<&'static Node, Refused> {
        if node.state.load(Relaxed) == FRESH {
            return Ok(node);
        }
        let copy = self.make()?;
        copy.copy(node);
        self.retire(node);
        Ok(copy)
    }

    fn make(&mut self) -> Result<&'static Node, Refused> {
        let node = self.nodes.allocate(self.cpu)?;
        node.state.store(FRESH, Relaxed);
        node.link.store(self.fresh, Relaxed);
        self.fresh = node.address();
        Ok(node)
    }

    /// The new version does without `node`.
    fn retire(&mut self, node: &Node) {
        if node.state.load(Relaxed) == FRESH {
            node.state.store(DEAD, Relaxed);
        } else {
            node.link.store(self.stale, Relaxed);
            self.stale = node.address();
        }
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        for node in self.take_fresh() {
            self.nodes.free(self.cpu, node);
        }
    }
}

#[cfg(test)]
mod tests;
