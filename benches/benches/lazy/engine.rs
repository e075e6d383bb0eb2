//! The engine's way.

use crate::demands::Demands;
use std::sync::Arc;
use std::time::Duration;
use underfoot_benches::attached::Attached;
use underfoot_benches::span::Span;
use underfoot_migrator::{BackendKind, MAX_BATCH, Migrator, Silent, StrategyKind, clock};
use underfoot_vmm::Machine;

/// Moves ranges of `span` lazily for `time`, each of them left to the guest for `delay`.
pub fn slice(
    machine: &Machine,
    span: &Span,
    demands: &Arc<Demands>,
    time: Duration,
    delay: Duration,
) {
    let builder = Migrator::builder(Arc::clone(machine.ram().memory()))
        .page_map(Arc::new(span.clone()))
        .strategy(StrategyKind::Lazy)
        .backend(BackendKind::Copy)
        .batch(MAX_BATCH)
        .prefetch_after(delay)
        .tsc_hz(clock::measured_hz());
    Attached::watched(builder, demands.clone()).move_for(time, &[Arc::new(Silent)], |_| ());
}
