//! What an antagonist took.

use serde::Serialize;

/// The CPU time of one antagonist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AntagonistRecord {
    /// In the control phase, in ns: good to the 10 ms that it tells its time in, at each end.
    pub control_cpu_ns: u64,
    /// In the moving phase, in ns.
    pub moving_cpu_ns: u64,
    /// From first to last, warm-up included, in ns.
    pub cpu_ns: u64,
}
