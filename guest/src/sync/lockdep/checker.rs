//! The checker: what each acquisition is held against.

use super::{
    LEVELS, LockClass,
    finding::{Console, CycleFound, MisuseFound},
    graph::{Chain, Cycle, Graph},
    held::Held,
    usage::{Misuse, Place, Usage},
};
use crate::{Cpu, sync::TicketLock};
use core::{
    fmt::Write,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Classes that the checker can tell apart, each level counted.
const NODES: usize = 64;

/// The classes by number.
#[derive(Debug)]
struct Table {
    used: usize,
    /// There was no number left for a class, and that was said.
    overflowed: bool,
    classes: [Option<(&'static LockClass, u8)>; NODES],
}

/// All that the lock-order checker knows. There is one, but for its own tests.
pub(super) struct Checker {
    enabled: AtomicBool,
    /// Guards what is written below, and the classes' numbers. Taken with interrupts masked.
    table: TicketLock<Table, false>,
    graph: Graph<NODES>,
    usage: Usage,
}

/// A class and its level, as reports name it.
#[derive(Clone, Copy)]
pub(super) struct Name(Option<(&'static LockClass, u8)>);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            None => f.write_str("?"),
            Some((class, 0)) => f.write_str(class.name()),
            Some((class, level)) => write!(f, "{}/{level}", class.name()),
        }
    }
}

impl Checker {
    pub(super) const fn new() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            table: TicketLock::new(Table {
                used: 0,
                overflowed: false,
                classes: [None; NODES],
            }),
            graph: Graph::new(),
            usage: Usage::new(),
        }
    }

    pub(super) fn enable(&self) {
        self.enabled.store(true, Relaxed);
    }

    #[inline]
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// A lock is about to be waited for, or was `tried` with success. To be called before the wait,
    /// so that a report comes before the hang.
    #[cold]
    pub(super) fn acquire(
        &self,
        cpu: &Cpu,
        class: &'static LockClass,
        level: usize,
        instance: usize,
        tried: bool,
    ) {
        // An interrupt must not find the stack half changed.
        let open = cpu.ops.irq_save(cpu);
        if let Some(node) = self.node(cpu, class, level) {
            let place = Place::of(cpu, open);
            let held = &cpu.sched.local(cpu).held;
            let before = if tried { 0 } else { held.direct(place.inside) };
            let mut chain = held.chain(place.inside);
            chain.push(node);
            self.check(cpu, before, node, chain, place, !tried);
            let inside = place.inside;
            held.push(
                instance,
                Held {
                    node,
                    inside,
                    tried,
                },
            );
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// The lock is let go.
    #[cold]
    pub(super) fn release(&self, cpu: &Cpu, instance: usize) {
        let open = cpu.ops.irq_save(cpu);
        if let Some(held) = cpu.sched.local(cpu).held.take(instance) {
            // Interrupts may have been opened since it was taken.
            let place = Place::of(cpu, open);
            self.check(cpu, 0, held.node, Chain::default(), place, false);
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// Judges edges from `before` to `node`, and where it is taken; reports what is new and wrong.
    fn check(&self, cpu: &Cpu, before: u64, node: u8, chain: Chain, place: Place, waits: bool) {
        if !self.graph.knows(before, node) || !self.usage.knows(node, place, waits) {
            let found = self.learn(cpu, before, node, chain, place, waits);
            self.report(cpu, chain, found.0, found.1);
        }
    }

    fn learn(
        &self,
        cpu: &Cpu,
        before: u64,
        node: u8,
        chain: Chain,
        place: Place,
        waits: bool,
    ) -> (Option<Cycle>, Option<Misuse>) {
        // One at a time: of two edges that contradict each other the later one finds the earlier.
        let _table = self.table.lock(cpu);
        let cycle = self.graph.add(before, node, chain);
        self.usage.add(node, place, waits);
        (cycle, self.usage.misuse(&self.graph))
    }

    fn report(&self, cpu: &Cpu, chain: Chain, cycle: Option<Cycle>, misuse: Option<Misuse>) {
        if let Some(cycle) = cycle {
            CycleFound {
                checker: self,
                cpu,
                chain,
                cycle,
            }
            .report();
        }
        if let Some(misuse) = misuse {
            MisuseFound {
                checker: self,
                cpu,
                misuse,
            }
            .report();
        }
    }

    /// The number of `class` at `level`; the first time it gets one, if there is one left.
    fn node(&self, cpu: &Cpu, class: &'static LockClass, level: usize) -> Option<u8> {
        assert!(level < LEVELS, "no such nesting level");
        if let Some(node) = class.number(level) {
            return Some(node);
        }
        let mut table = self.table.lock(cpu);
        // Another CPU may have been faster.
        if let Some(node) = class.number(level) {
            return Some(node);
        }
        let node = table.used;
        if node == NODES {
            if core::mem::replace(&mut table.overflowed, true) {
                return None;
            }
            drop(table);
            let _ = writeln!(Console(cpu), "lockdep: no room for class {}", class.name());
            return None;
        }
        table.classes[node] = Some((class, level as u8));
        table.used += 1;
        class.set_number(level, node as u8);
        Some(node as u8)
    }

    /// The names of all classes, by number.
    pub(super) fn classes(&self, cpu: &Cpu) -> impl Iterator<Item = &'static str> {
        let classes = self.table.lock(cpu).classes;
        classes.into_iter().flatten().map(|(class, _)| class.name())
    }

    /// The name of `node`.
    pub(super) fn name(&self, cpu: &Cpu, node: u8) -> Name {
        Name(self.table.lock(cpu).classes[usize::from(node)])
    }

    pub(super) const fn graph(&self) -> &Graph<NODES> {
        &self.graph
    }
}
