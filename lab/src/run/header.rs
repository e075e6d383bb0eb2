//! What the guest is told before it boots.

use crate::experiment::Experiment;
use crate::guest_mover;
use crate::units::Span;
use underfoot_vmm::HeaderInit;

/// The header for `experiment`; the machine knows the frequency.
pub fn header(experiment: &Experiment) -> HeaderInit {
    let ns = |span: Span| u32::try_from(span.ns()).unwrap_or(u32::MAX);
    HeaderInit {
        seed: experiment.seed.0,
        tsc_khz: 0,
        cpl: experiment.cpl,
        workload: experiment.workload,
        variant: experiment.variant.guest(),
        stall_threshold_ns: ns(experiment.stall_threshold),
        probe_period_ns: ns(experiment.probe_period),
        parameters: experiment.parameters.values(),
        mover: guest_mover::init(experiment),
    }
}
