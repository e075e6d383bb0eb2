//! What the watchdog finds.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cycle, Node, Stall};
use crate::clock::Tsc;

/// What the watchdog has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of these wait for each other.
    Deadlock {
        /// Who.
        cycle: Cycle,
        /// Who was asked to give up; nobody if no migration is in it, and it stays.
        asked: Option<Node>,
        /// When it was found, in TSC ticks; [`Cycle::closed`] says when it closed.
        found: Tsc,
    },
    /// Somebody has waited for long, but not for himself.
    Stall(Stall),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { cycle, asked, .. } => {
                write!(f, "deadlock: {cycle}; ")?;
                match asked {
                    Some(node) => write!(f, "{node} was asked to give up"),
                    None => f.write_str("none of them can give up"),
                }
            }
            Self::Stall(stall) => write!(f, "stall: {stall}"),
        }
    }
}

/// How many verdicts there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Deadlocks.
    pub cycles: u64,
    /// Their members, all together.
    pub members: u64,
    /// Of the deadlocks, those in which a migration was asked to give up.
    pub broken: u64,
    /// Stalls.
    pub stalls: u64,
}

#[derive(Default)]
pub(crate) struct LiveVerdicts {
    cycles: AtomicU64,
    members: AtomicU64,
    broken: AtomicU64,
    stalls: AtomicU64,
}

impl LiveVerdicts {
    pub(super) fn count(&self, verdict: &Verdict) {
        let add = |to: &AtomicU64, n: usize| to.fetch_add(n as u64, Ordering::Relaxed);
        match verdict {
            Verdict::Deadlock { cycle, asked, .. } => {
                add(&self.cycles, 1);
                add(&self.members, cycle.members().count());
                add(&self.broken, usize::from(asked.is_some()));
            }
            Verdict::Stall(_) => {
                add(&self.stalls, 1);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Verdicts {
        Verdicts {
            cycles: self.cycles.load(Ordering::Relaxed),
            members: self.members.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
        }
    }
}
