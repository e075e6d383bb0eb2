//! What the checker tells about a finding: one line to the host, and the rest on the console.

use super::{
    checker::Checker,
    graph::{Chain, Cycle},
    usage::Misuse,
};
use crate::{Cpu, record};
use core::fmt::{self, Display, Write};
use underfoot_abi::ReportKind;

/// The console, to be written to with interrupts masked.
pub(super) struct Console<'a>(pub(super) &'a Cpu);

impl Write for Console<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0.console)(text.as_bytes());
        Ok(())
    }
}

/// A chain by its names.
struct Named<'a> {
    checker: &'a Checker,
    cpu: &'a Cpu,
    chain: Chain,
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, node) in self.chain.nodes().enumerate() {
            if position != 0 {
                f.write_str(" -> ")?;
            }
            self.checker.name(self.cpu, node).fmt(f)?;
        }
        Ok(())
    }
}

/// A cycle of classes, found before what would have closed it was waited for.
pub(super) struct CycleFound<'a> {
    pub(super) checker: &'a Checker,
    pub(super) cpu: &'a Cpu,
    /// All that is held, and what is wanted.
    pub(super) chain: Chain,
    pub(super) cycle: Cycle,
}

impl CycleFound<'_> {
    fn named(&self, chain: Chain) -> Named<'_> {
        Named {
            checker: self.checker,
            cpu: self.cpu,
            chain,
        }
    }

    /// The words are the thread, and both chains as numbers of classes, from 1, a byte each.
    #[cold]
    pub(super) fn report(&self) {
        let (cpu, known) = (self.cpu, self.cycle.known);
        let thread = u64::from(cpu.sched.current(cpu).0);
        record::report(
            cpu,
            ReportKind::LockCycle,
            [thread, self.chain.0, known.0, 0],
            format_args!(
                "order {} contradicts known order {}",
                self.named(self.chain),
                self.named(known)
            ),
        );
        let mut from = None;
        for to in known.nodes() {
            if let Some(from) = from.replace(to) {
                let origin = self.checker.graph().origin(from, to);
                let name = |node| self.checker.name(cpu, node);
                // It never fails.
                let _ = writeln!(
                    Console(cpu),
                    "  {} -> {} first seen in {}",
                    name(from),
                    name(to),
                    self.named(origin)
                );
            }
        }
    }
}

/// A class that is taken where its holder may be interrupted by who waits for it.
pub(super) struct MisuseFound<'a> {
    pub(super) checker: &'a Checker,
    pub(super) cpu: &'a Cpu,
    pub(super) misuse: Misuse,
}

impl MisuseFound<'_> {
    /// The words are the thread, 0 for interrupts or 1 for bottom halves, and the path.
    #[cold]
    pub(super) fn report(&self) {
        let Misuse { intruder, path } = self.misuse;
        let cpu = self.cpu;
        let (Some(wanted), Some(open)) = (path.nodes().next(), path.nodes().last()) else {
            return;
        };
        let name = |node| self.checker.name(cpu, node);
        let words = [
            u64::from(cpu.sched.current(cpu).0),
            intruder as u64,
            path.0,
            0,
        ];
        let named = Named {
            checker: self.checker,
            cpu,
            chain: path,
        };
        record::report(
            cpu,
            ReportKind::LockContext,
            words,
            format_args!(
                "{} is taken in {what}, {} is held with these open: {named}",
                name(wanted),
                name(open),
                what = intruder.name(),
            ),
        );
    }
}
