//! The engine's way.

use crate::demands::Demands;
use crate::rig::Rig;
use crate::{DELAY, SLICE};
use std::sync::Arc;
use underfoot_benches::attached::Attached;
use underfoot_migrator::{BackendKind, MAX_BATCH, Migrator, Silent, StrategyKind, clock};

/// Moves ranges of the ring lazily for a slice.
pub fn slice(rig: &Rig, demands: &Arc<Demands>) {
    let builder = Migrator::builder(Arc::clone(rig.machine.ram().memory()))
        .page_map(Arc::new(rig.ring.clone()))
        .strategy(StrategyKind::Lazy)
        .backend(BackendKind::Copy)
        .batch(MAX_BATCH)
        .prefetch_after(DELAY)
        .linger(rig.linger)
        .tsc_hz(clock::measured_hz());
    Attached::watched(builder, demands.clone()).move_for(SLICE, &[Arc::new(Silent)], |_| ());
}
