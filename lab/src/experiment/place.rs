//! Where the threads of each role run, and how.

use super::Experiment;
use crate::names::Role;
use crate::placement::Affinity;
use std::num::NonZeroU16;
use underfoot_vmm::placement::{CpuSet, Fair, Placement, SchedPolicy};

impl Experiment {
    /// Where the threads of `role` are to run, and how: antagonists where vCPUs do, unless the user says otherwise.
    #[must_use]
    pub fn placement(&self, role: Role) -> Placement {
        match role {
            Role::Vcpu => Placement {
                share: self
                    .overcommit
                    .as_ref()
                    .and_then(|over| NonZeroU16::new(over.per_cpu.get())),
                cpus: self.vcpus_cpus(),
                policy: self.policy(role),
            },
            Role::Mover => Placement {
                cpus: self.bound_to(role),
                policy: self.policy(role),
                share: None,
            },
            Role::Antagonist => Placement {
                cpus: self.bound_to(role).or_else(|| self.vcpus_cpus()),
                policy: self
                    .antagonists
                    .and_then(|them| them.nice())
                    .map(|nice| SchedPolicy::Other(Fair::nice(nice.into()))),
                share: None,
            },
        }
    }

    fn vcpus_cpus(&self) -> Option<CpuSet> {
        let overcommitted = self.overcommit.as_ref().map(|over| over.cpus.clone());
        overcommitted.or_else(|| self.bound_to(Role::Vcpu))
    }

    fn bound_to(&self, role: Role) -> Option<CpuSet> {
        self.affinity
            .as_ref()
            .and_then(|affinity: &Affinity| affinity.get(role))
            .cloned()
    }

    fn policy(&self, role: Role) -> Option<SchedPolicy> {
        self.sched.as_ref().and_then(|sched| sched.get(role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_limits::HostLimits;
    use crate::settings::{Key, Settings};
    use crate::units::Size;

    #[test]
    fn antagonists_are_where_vcpus_are() {
        for (told, vcpus, antagonists) in [
            (&[][..], None, None),
            (&[(Key::Affinity, "vcpu=1,mover=2")], Some("1"), Some("1")),
            (
                &[(Key::Affinity, "vcpu=1,antagonist=2-3")],
                Some("1"),
                Some("2-3"),
            ),
            (&[(Key::Affinity, "antagonist=0")], None, Some("0")),
            (&[(Key::Overcommit, "3")], Some("0-1"), Some("0-1")),
            (
                &[
                    (Key::Overcommit, "3"),
                    (Key::Affinity, "antagonist=3,mover=3"),
                ],
                Some("0-1"),
                Some("3"),
            ),
        ] {
            let mut settings = Settings::default();
            settings.set_flag(Key::Cpus, "4");
            settings.set_flag(Key::Antagonists, "2:50:5");
            for (key, value) in told {
                settings.set_flag(*key, *value);
            }
            let limits = HostLimits {
                cpus: "0-3".parse().expect("a list"),
                memory: Size::from_mib(4096),
            };
            let experiment = Experiment::resolve(&settings, &limits).expect("a sound experiment");
            let at = |role| experiment.placement(role).cpus.map(|cpus| cpus.to_string());
            assert_eq!(at(Role::Vcpu).as_deref(), vcpus, "{told:?}");
            assert_eq!(at(Role::Antagonist).as_deref(), antagonists, "{told:?}");
            let [vcpu, antagonist] =
                [Role::Vcpu, Role::Antagonist].map(|role| experiment.placement(role));
            assert_eq!(
                vcpu.share.map(NonZeroU16::get),
                experiment.overcommit.map(|_| 3)
            );
            assert_eq!(
                (vcpu.policy, antagonist.policy),
                (None, Some(SchedPolicy::Other(Fair::nice(5))))
            );
        }
    }
}
