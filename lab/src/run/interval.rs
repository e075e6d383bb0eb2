//! What a run does between two moments, told while it goes on.

use super::observer::HostMetric;
use super::session::Session;
use super::{guest_moves, results};
use crate::histogram::Histogram;
use crate::names::Mover;
use std::time::{Duration, Instant};
use underfoot_abi::{Metric, Phase, RecordedPhase};

/// How often a run is told of, and to whom.
pub struct Interval<'a> {
    /// How often; the last one of a phase may be shorter, and each is some milliseconds longer on a busy host.
    pub every: Duration,
    /// Told of each.
    pub told: &'a mut dyn FnMut(&IntervalRecord),
}

/// What happened in one interval of one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntervalRecord {
    /// Whether pages moved, or were left alone.
    pub phase: RecordedPhase,
    /// Its begin and end, in ns from the beginning of the phase.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// What was done in it.
    pub done: Done,
}

/// What a run has done up to a moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Operations of the workload.
    pub operations: u64,
    /// Pages that were moved.
    pub pages: u64,
    /// Windows of the host's movers, in ns.
    pub window: Histogram,
    /// Stalls of the guest's accesses, in ns.
    pub stall: Histogram,
    /// Accesses that the guest timed, in ns.
    pub access: Histogram,
}

impl Done {
    /// What came since `before`.
    fn since(&self, before: &Self) -> Self {
        Self {
            operations: self.operations.saturating_sub(before.operations),
            pages: self.pages.saturating_sub(before.pages),
            window: self.window.since(&before.window),
            stall: self.stall.since(&before.stall),
            access: self.access.since(&before.access),
        }
    }
}

/// The intervals of a phase that goes on.
pub(super) struct Intervals {
    phase: RecordedPhase,
    began: Instant,
    from: Duration,
    before: Done,
}

impl Intervals {
    /// For a phase that begins now; `None` where nothing is recorded.
    pub(super) fn begin(session: &Session<'_>, phase: Phase) -> Option<Self> {
        let phase = match phase {
            Phase::Control => RecordedPhase::Control,
            Phase::Moving => RecordedPhase::Moving,
            _ => return None,
        };
        Some(Self {
            phase,
            began: Instant::now(),
            from: Duration::ZERO,
            before: done(session, phase),
        })
    }

    /// What there is to tell: of an interval that is over, if it is `every` long, or however long it is.
    pub(super) fn look(
        &mut self,
        session: &Session<'_>,
        every: Option<Duration>,
    ) -> Option<IntervalRecord> {
        let to = self.began.elapsed();
        if every.is_some_and(|every| to - self.from < every) {
            return None;
        }
        let now = done(session, self.phase);
        let record = IntervalRecord {
            phase: self.phase,
            from_ns: self.from.as_nanos() as u64,
            to_ns: to.as_nanos() as u64,
            done: now.since(&self.before),
        };
        (self.from, self.before) = (to, now);
        Some(record)
    }
}

/// What was done so far. While threads run, a count may be ahead of another by an event.
fn done(session: &Session<'_>, phase: RecordedPhase) -> Done {
    let shared = session.machine.shared();
    let operations = session.operations_and_ticks();
    let host = session
        .engine
        .as_ref()
        .filter(|_| session.experiment.mover == Mover::Host);
    let window = match host {
        Some(engine) => results::merged(engine.recorders(), HostMetric::Window),
        // One page a window.
        None => guest_moves::histograms(shared)
            .remove("window")
            .unwrap_or_default(),
    };
    Done {
        operations: operations
            .iter()
            .fold(0, |sum, (each, _)| sum.wrapping_add(*each)),
        pages: host.map_or(window.count(), |engine| engine.counters().total().committed),
        window,
        stall: results::guest_histogram(shared, phase, Metric::Stall),
        access: results::guest_histogram(shared, phase, Metric::Access),
    }
}
