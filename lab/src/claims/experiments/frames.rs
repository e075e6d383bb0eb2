//! What the experiments on the engine's pool of frames have in common.

use crate::claims::plan::Flags;
use crate::claims::runs::{Measured, Missing};
use crate::record::{FrameUserRecord, FramesRecord, RunRecord};
use crate::settings::Key;

/// Pages are away and come by demand, in frames of the pool; two movers take frames as fast as they can.
pub(super) const TAKING: Flags = &[
    (Key::Workload, "walk"),
    (Key::Strategy, "lazy"),
    (Key::Backend, "move"),
    (Key::Movers, "2"),
    (Key::Cpus, "2"),
    (Key::Memory, "64MiB"),
    (Key::Duration, "4s"),
];

/// What the pool of the run `name` did; noted.
///
/// # Errors
/// There was none.
pub(super) fn pool<'a>(
    record: &'a RunRecord,
    name: &str,
    measured: &mut Measured,
) -> Result<&'a FramesRecord, Missing> {
    let pool = record.frames.as_ref();
    let pool = pool.ok_or_else(|| Missing(format!("run {name} has no pool of frames")))?;
    measured.set(format!("{name}.lowest"), pool.lowest);
    measured.set(
        format!("{name}.background_refilled"),
        pool.background_refilled,
    );
    measured.set(format!("{name}.without"), pool.without);
    for (user, counts) in &pool.users {
        for (what, value) in [
            ("fast", counts.fast),
            ("refused", counts.refused),
            ("fell_back", counts.fell_back),
            ("slow", counts.slow),
            ("refills", counts.refills),
            ("reserve", counts.reserve),
            ("short", counts.short),
        ] {
            measured.set(format!("{name}.{user}.{what}"), value);
        }
    }
    Ok(pool)
}

/// What one user took.
pub(super) fn user(pool: &FramesRecord, user: &str) -> FrameUserRecord {
    pool.users.get(user).copied().unwrap_or_default()
}
