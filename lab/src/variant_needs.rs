//! What a deliberately wrong form needs of a run so that it does anything wrong, and is caught.

use crate::names::Variant;
use crate::parameters::Parameters;
use crate::units::Span;
use underfoot_abi::WorkloadId;

/// What `variant` must be told, in the words of the command's flags; `None` if it needs nothing.
#[must_use]
pub fn needs(variant: Variant) -> Option<String> {
    let guest = variant.guest();
    let concerned = |workload: &&WorkloadId| guest.concerns(**workload);
    let workloads: Vec<_> = WorkloadId::ALL.iter().filter(concerned).collect();
    let mut needs = Vec::new();
    let told: Vec<_> = workloads
        .iter()
        .map(|id| with_parameters(variant, **id))
        .collect();
    if workloads.len() < WorkloadId::ALL.len() || told.iter().any(|told| told.contains(' ')) {
        needs.push(format!("--workload {}", told.join(" or ")));
    }
    if guest.least_cpus() > 1 {
        needs.push(format!("--cpus {} or more", guest.least_cpus()));
    }
    if guest.least_ns() > 0 {
        needs.push(format!(
            "--duration {} or more",
            Span::from_ns(guest.least_ns())
        ));
    }
    (!needs.is_empty()).then(|| needs.join(", "))
}

/// `workload`, and with it the parameter that it must be told, if there is one.
fn with_parameters(variant: Variant, workload: WorkloadId) -> String {
    let name = workload.name();
    let defaults = variant.guest().defaults(workload);
    let Some(idle) = variant.guest().idle_by(workload, &defaults) else {
        return name.to_owned();
    };
    let told = Parameters::defaults(workload, variant.guest());
    let (_, others) = told.shown_with_others(idle.parameter, idle.values);
    format!("{name} ({}={others})", idle.parameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Named;
    use underfoot_abi::MAX_PARAMETERS;

    #[test]
    fn needs_are_told_in_flags() {
        for (variant, told) in [
            (Variant::None, None),
            (Variant::NoUnmap, None),
            (Variant::Crash, None),
            (Variant::NoGracePeriod, Some("--workload walk")),
            (
                Variant::OwnerGone,
                Some("--workload mix or mmap1 or exit or fault"),
            ),
            (
                Variant::NoSequenceCheck,
                Some("--workload mmap1 (path=speculative)"),
            ),
            (
                Variant::SkipCpu,
                Some(
                    "--workload shootdown or mmap1 (shootdown=ipi or pv or hypercall) or pressure \
                     (shootdown=ipi or pv or hypercall), --cpus 2 or more",
                ),
            ),
            (
                Variant::FreedListed,
                Some("--workload mix or mmap1 or fault (mappers=1 or more)"),
            ),
        ] {
            assert_eq!(needs(variant).as_deref(), told, "{}", variant.name());
        }
        let stall = needs(Variant::RcuStall).expect("it needs seconds");
        assert!(stall.ends_with(", --duration 5s or more"), "{stall}");
    }

    /// The remedy is enough: no form has two parameters at once whose defaults rule it out.
    #[test]
    fn one_parameter_is_enough() {
        for variant in Variant::ALL.iter().map(|variant| variant.guest()) {
            for workload in WorkloadId::ALL.iter().filter(|id| variant.concerns(**id)) {
                let mut told: [u64; MAX_PARAMETERS] = variant.defaults(*workload);
                let Some(idle) = variant.idle_by(*workload, &told) else {
                    continue;
                };
                let parameters = workload.parameters();
                let index = parameters.iter().position(|p| p.name == idle.parameter);
                let index = index.expect("a parameter of the workload");
                let mut values = parameters[index].least..=parameters[index].most;
                told[index] = values
                    .find(|it| !idle.values.contains(it))
                    .expect("a remedy");
                assert_eq!(
                    variant.idle_by(*workload, &told),
                    None,
                    "{variant:?} {workload:?}"
                );
            }
        }
    }
}
