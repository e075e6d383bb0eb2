//! What the pool of frames tells.

use super::session::Session;
use crate::record::FramesRecord;
use std::collections::BTreeMap;
use underfoot_migrator::{FrameCounters, FrameUser};

/// What was taken and who paid; `None` without a pool.
pub fn record(session: &Session<'_>) -> Option<FramesRecord> {
    session
        .engine
        .as_ref()?
        .frames()
        .map(|counters| of(&counters))
}

fn of(counters: &FrameCounters) -> FramesRecord {
    FramesRecord {
        size: counters.size,
        free: counters.free,
        lowest: counters.lowest,
        background_refills: counters.background_refills,
        background_refilled: counters.background_refilled,
        fresh: counters.fresh,
        without: counters.without,
        users: FrameUser::ALL
            .into_iter()
            .map(|user| (user.name(), (*counters.of(user)).into()))
            .collect::<BTreeMap<_, _>>(),
        twice: counters.violations.twice,
        reserve_by_fast_path: counters.violations.reserve,
        unpaid: counters.violations.unpaid,
        reclaimed: counters.violations.reclaimed,
    }
}
