//! When a guest that gets nowhere is given up.

use crate::human;
use underfoot_vmm::ProgressWatch;

/// Who had a CPU for so long and got nowhere is stuck.
const STUCK_NS: u64 = 5_000_000_000;
/// The same, however little of a CPU its host had for it.
const PATIENCE_NS: u64 = 60_000_000_000;

/// The time in which somebody got nowhere.
#[derive(Clone, Copy)]
struct Gap {
    ns: u64,
    /// How much of it without a CPU.
    delay_ns: u64,
}

impl Gap {
    fn is_hopeless(self) -> bool {
        self.ns.saturating_sub(self.delay_ns) > STUCK_NS || self.ns > PATIENCE_NS
    }
}

/// Who is stuck, and for how long, in words.
pub fn stuck(watch: &ProgressWatch) -> Option<String> {
    let vcpus = watch.vcpus().enumerate().map(|(number, vcpu)| {
        let gap = Gap {
            ns: vcpu.open_gap_ns,
            delay_ns: vcpu.open_delay_ns,
        };
        (format!("vCPU {number}"), gap)
    });
    let guest = Gap {
        ns: watch.standstill_ns(),
        delay_ns: watch.standstill_delay_ns(),
    };
    let (who, gap) = vcpus
        .chain([("the guest".to_owned(), guest)])
        .find(|(_, gap)| gap.is_hopeless())?;
    let (ns, delay_ns) = (human::time(gap.ns), human::time(gap.delay_ns));
    Some(format!(
        "{who} got nowhere for {ns}, of which it waited {delay_ns} for a CPU"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_no_cpu_is_waited_for_but_not_for_ever() {
        for (ns, delay_ns, hopeless) in [
            (STUCK_NS, 0, false),
            (STUCK_NS + 1, 0, true),
            (STUCK_NS + 1, 1, false),
            (3 * STUCK_NS, 2 * STUCK_NS - 1, true),
            (PATIENCE_NS, PATIENCE_NS, false),
            (PATIENCE_NS + 1, PATIENCE_NS, true),
            (0, 1, false),
        ] {
            let gap = Gap { ns, delay_ns };
            assert_eq!(gap.is_hopeless(), hopeless, "{ns} {delay_ns}");
        }
    }
}
