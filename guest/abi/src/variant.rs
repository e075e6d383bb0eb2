//! Deliberately wrong forms of the guest, and what each of them needs to do anything wrong.

use crate::{MAX_PARAMETERS, MIX_PARTS, RCU_STALL_NS, WorkloadId};

/// Deliberately wrong forms of the guest, which a checker must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Variant {
    /// The right form.
    None = 0,
    /// Objects are freed at once instead of after a grace period.
    NoGracePeriod = 1,
    /// Writers forget the sequence count, so that readers see half of a rename.
    NoSeqcount = 2,
    /// Writers update one counter of a pair without the lock, so that updates are lost.
    NoLock = 3,
    /// One CPU never reports a quiescent state: the stall detector must speak up.
    RcuStall = 4,
    /// The kernel jumps to an invalid instruction after a while.
    Crash = 5,
    /// The kernel triple-faults after a while.
    TripleFault = 6,
    /// The last CPU masks interrupts after a while and gets nowhere any more.
    Stuck = 7,
    /// Classic RCU waits for the CPU alone that starts a grace period.
    RcuClassicBusted = 30,
    /// Preemptible RCU forgets readers that are switched out in a section.
    RcuPreemptBusted = 31,
    /// Sleepable RCU flips its index and waits for nobody under the old one.
    RcuSleepBusted = 32,
    /// Memory is allocated, and so reclaimed, inside a sequence count's write section.
    LockOrder = 33,
    /// The last CPU is left out of every TLB shootdown.
    SkipCpu = 40,
    /// Threads take the lock of a page-table list with bottom halves open, whose callbacks take it
    /// too: a deadlock.
    PlainLock = 50,
    /// Tables are given out again though they still wait for their grace period.
    NoPendingCheck = 51,
    /// Callbacks give pages of tables back without the list's lock, and without leaving the list.
    FreedListed = 52,
    /// What holds the lock of a page-table list is freed with its address space, before the
    /// callbacks.
    OwnerGone = 53,
    /// Neither faults nor teardown lock the VMA: a table lands in one that is being freed.
    NoVmaLock = 54,
    /// Speculative faults do not look whether the sequence count has changed: a page lands in a
    /// table that is being freed.
    NoSequenceCheck = 60,
    /// Fast-path allocations take the emergency reserve too.
    DipsIntoReserve = 70,
    /// Speculative faults allocate as ordinary ones do, and so reclaim, in their read section.
    ReclaimsUnderRcu = 71,
    /// Fast paths neither wake the reclaimer nor make room: they try again until others did.
    NeverPays = 72,
    /// Reclaim forgets the updates that a page holds.
    DropsUpdates = 73,
    /// The guest's own mover copies a page while it is still mapped: what is written after that is
    /// lost.
    CopyMapped = 80,
    /// The guest's own mover shoots nothing down: old translations go on being used.
    NoShootdown = 81,
    /// "Ready" is forgotten if it comes before its thread sleeps, which then sleeps for ever.
    LostWake = 90,
}

/// A parameter, and the values of it under which a workload does nothing that a busted form does
/// wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub parameter: &'static str,
    /// The values, as the contract carries them.
    pub values: &'static [u64],
}

/// What is said of several variants, with the numbers of choices as the descriptions have them.
const ONLY_SPECULATIVE: Idle = idle("path", &[0, 1]);
const ONLY_VMA_LOCK: Idle = idle("path", &[0, 2]);
const NOT_MMAP_LOCK: Idle = idle("path", &[0]);
const NOT_ORDINARY: Idle = idle("fallback", &[2]);
const SOME_SHOOTDOWNS: Idle = idle("shootdown", &[0]);
const ONLY_RECLAIM: Idle = idle("fallback", &[1, 2]);
const ONLY_FRAGMENTS: Idle = idle("tables", &[1]);
const SOME_MAPPERS: Idle = idle("mappers", &[0]);
const SOME_FAULTERS: Idle = idle("faulters", &[0]);
const SOME_RESERVE: Idle = idle("reserve", &[0]);
const SOME_TOUCHES: Idle = idle("touches", &[0]);
const ONLY_CLASSIC: Idle = idle("kind", &[1, 2]);
const ONLY_PREEMPTIBLE: Idle = idle("kind", &[0, 2]);
const ONLY_SLEEPABLE: Idle = idle("kind", &[0, 1]);
/// Under sleepable RCU no CPU reports; `mutex-srcu` uses it too.
const NOT_SLEEPABLE: Idle = idle("kind", &[2]);
const NOT_PROTECTED_BY_SLEEPABLE: Idle = idle("protect", &[2, 3]);

const fn idle(parameter: &'static str, values: &'static [u64]) -> Idle {
    Idle { parameter, values }
}

impl Variant {
    /// Whether `workload` does what this form does wrongly, if it is told the right things, and often enough
    /// to be caught.
    #[must_use]
    pub fn concerns(self, workload: WorkloadId) -> bool {
        use WorkloadId as W;
        match self {
            // For these, threads of one part must meet, which they hardly ever do among all those of a mix.
            Self::NoGracePeriod | Self::NoSeqcount => workload == W::Walk,
            // In the others no CPU uses what another one unmaps.
            Self::SkipCpu => matches!(workload, W::Shootdown | W::Mmap1 | W::Pressure),
            _ if workload == W::Mix => MIX_PARTS.iter().any(|part| self.concerns_part(*part)),
            Self::NoLock => matches!(workload, W::Walk | W::Lock),
            // Who presses memory waits for grace periods, and a CPU that idles meanwhile holds none up.
            Self::RcuStall => !matches!(
                workload,
                W::Lock | W::Chase | W::Idle | W::Dma | W::Order | W::Shootdown | W::Pressure
            ),
            Self::RcuClassicBusted | Self::RcuPreemptBusted | Self::RcuSleepBusted => {
                workload == W::Torture
            }
            Self::LockOrder => workload == W::Order,
            Self::PlainLock | Self::OwnerGone => {
                matches!(workload, W::Mmap1 | W::Exit | W::Fault)
            }
            // An exit leaves nobody who would take a table from the space's list.
            Self::NoPendingCheck | Self::FreedListed => matches!(workload, W::Mmap1 | W::Fault),
            // The others access nothing that somebody else unmaps.
            Self::NoVmaLock | Self::NoSequenceCheck => workload == W::Mmap1,
            Self::DipsIntoReserve
            | Self::ReclaimsUnderRcu
            | Self::NeverPays
            | Self::DropsUpdates => workload == W::Pressure,
            Self::CopyMapped | Self::NoShootdown => workload == W::Walk,
            // Nobody waits for an idle guest's threads.
            Self::LostWake => workload != W::Idle,
            Self::None | Self::Crash | Self::TripleFault | Self::Stuck => true,
        }
    }

    /// The CPUs without which this form does nothing wrong: it forgets another CPU.
    #[must_use]
    pub const fn least_cpus(self) -> u32 {
        match self {
            Self::SkipCpu | Self::RcuClassicBusted => 2,
            _ => 1,
        }
    }

    /// The least time in which a check can speak that needs some; 0 for those that need not.
    #[must_use]
    pub const fn least_ns(self) -> u64 {
        match self {
            // The grace period that never ends begins with the first operations.
            Self::RcuStall => RCU_STALL_NS + 1_000_000_000,
            _ => 0,
        }
    }

    /// What `workload` is told in this form if the user says nothing: that the checker watches which the
    /// form is for.
    #[must_use]
    pub fn defaults(self, workload: WorkloadId) -> [u64; MAX_PARAMETERS] {
        let mut values = workload.defaults();
        if self == Self::PlainLock {
            let parameters = workload.parameters().iter();
            for (value, _) in values
                .iter_mut()
                .zip(parameters)
                .filter(|(_, p)| p.name == "lockdep")
            {
                *value = 1;
            }
        }
        values
    }

    /// The parameter by which `workload`, which this form [concerns](Self::concerns), is told not to
    /// do what the form does wrongly. `None` if it is told no such thing.
    #[must_use]
    pub fn idle_by(self, workload: WorkloadId, told: &[u64; MAX_PARAMETERS]) -> Option<Idle> {
        if workload == WorkloadId::Mix {
            return self.idle_in_mix(told);
        }
        let parameters = workload.parameters();
        let rules_out = |idle: &&Idle| {
            let index = parameters.iter().position(|p| p.name == idle.parameter);
            index.is_some_and(|index| idle.values.contains(&told[index]))
        };
        self.idle_values().iter().find(rules_out).copied()
    }

    /// Parts run as they are by default, but for the tree's protection, the last parameter.
    fn idle_in_mix(self, told: &[u64; MAX_PARAMETERS]) -> Option<Idle> {
        const OFF: &[u64] = &[0];
        let mut walk = WorkloadId::Walk.defaults();
        walk[0] = told[MIX_PARTS.len()];
        let works = |part: WorkloadId| match part {
            WorkloadId::Walk => self.concerns(part) && self.idle_by(part, &walk).is_none(),
            part => self.concerns_part(part),
        };
        let mut parts = MIX_PARTS.into_iter().zip(told);
        if parts.clone().any(|(part, on)| *on != 0 && works(part)) {
            return None;
        }
        let (part, _) = parts.find(|(part, on)| **on == 0 && self.concerns_part(*part))?;
        Some(idle(part.name(), OFF))
    }

    /// Whether this form does something wrong in `part` of `mix`, as it is by default.
    fn concerns_part(self, part: WorkloadId) -> bool {
        self.concerns(part) && self.idle_by(part, &part.defaults()).is_none()
    }

    /// What rules out what this form does wrongly, in the workloads that have such a parameter.
    const fn idle_values(self) -> &'static [Idle] {
        match self {
            Self::NoSequenceCheck => &[ONLY_SPECULATIVE, NOT_ORDINARY],
            Self::NoVmaLock => &[ONLY_VMA_LOCK],
            Self::NoPendingCheck | Self::FreedListed => &[ONLY_FRAGMENTS, SOME_MAPPERS],
            Self::PlainLock => &[SOME_MAPPERS],
            Self::DipsIntoReserve => &[NOT_MMAP_LOCK, SOME_FAULTERS, SOME_RESERVE],
            Self::ReclaimsUnderRcu => &[ONLY_SPECULATIVE, NOT_ORDINARY, SOME_FAULTERS],
            Self::NeverPays => &[NOT_MMAP_LOCK, ONLY_RECLAIM, SOME_FAULTERS],
            Self::DropsUpdates => &[SOME_FAULTERS],
            Self::SkipCpu => &[SOME_SHOOTDOWNS, SOME_FAULTERS],
            Self::RcuStall => &[NOT_SLEEPABLE, NOT_PROTECTED_BY_SLEEPABLE],
            Self::RcuClassicBusted => &[ONLY_CLASSIC],
            Self::RcuPreemptBusted => &[ONLY_PREEMPTIBLE],
            Self::RcuSleepBusted => &[ONLY_SLEEPABLE],
            Self::NoLock => &[SOME_TOUCHES],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkloadId as W;

    fn told(workload: WorkloadId, values: &[(&str, u64)]) -> [u64; MAX_PARAMETERS] {
        let mut told = workload.defaults();
        for (name, value) in values {
            let parameters = workload.parameters();
            let index = parameters.iter().position(|p| p.name == *name);
            told[index.expect("a parameter of the workload")] = *value;
        }
        told
    }

    #[test]
    fn parameters_rule_wrong_forms_out() {
        for (variant, workload, values, by) in [
            (Variant::NoSequenceCheck, W::Mmap1, &[][..], Some("path")),
            (Variant::NoSequenceCheck, W::Mmap1, &[("path", 2)], None),
            (
                Variant::NoSequenceCheck,
                W::Mmap1,
                &[("path", 2), ("fallback", 2)],
                Some("fallback"),
            ),
            (Variant::NoVmaLock, W::Mmap1, &[], None),
            (Variant::FreedListed, W::Fault, &[], Some("mappers")),
            (
                Variant::FreedListed,
                W::Mmap1,
                &[("tables", 1)],
                Some("tables"),
            ),
            (Variant::RcuStall, W::Walk, &[("protect", 1)], None),
            (
                Variant::RcuStall,
                W::Walk,
                &[("protect", 3)],
                Some("protect"),
            ),
            (Variant::RcuStall, W::Churn, &[("kind", 2)], Some("kind")),
            (Variant::RcuSleepBusted, W::Torture, &[], Some("kind")),
            (
                Variant::NeverPays,
                W::Pressure,
                &[("fallback", 1)],
                Some("fallback"),
            ),
            (
                Variant::DipsIntoReserve,
                W::Pressure,
                &[("reserve", 0)],
                Some("reserve"),
            ),
            (Variant::NoLock, W::Lock, &[("touches", 0)], Some("touches")),
            (Variant::SkipCpu, W::Shootdown, &[], None),
            (Variant::SkipCpu, W::Mmap1, &[], Some("shootdown")),
            (Variant::SkipCpu, W::Mmap1, &[("shootdown", 1)], None),
            (Variant::NoLock, W::Mix, &[("walk", 0)], None),
            (
                Variant::NoLock,
                W::Mix,
                &[("walk", 0), ("lock", 0)],
                Some("walk"),
            ),
            (
                Variant::RcuStall,
                W::Mix,
                &[
                    ("protect", 2),
                    ("churn", 0),
                    ("rcu-torture", 0),
                    ("mmap1", 0),
                ],
                Some("churn"),
            ),
        ] {
            let told = told(workload, values);
            assert!(variant.concerns(workload), "{variant:?}");
            let idle = variant.idle_by(workload, &told);
            let row = (variant, workload, values);
            assert_eq!(idle.map(|idle| idle.parameter), by, "{row:?}");
        }
    }

    /// A parameter of its own makes the checker watch, where there is one.
    #[test]
    fn a_lock_that_deadlocks_is_watched() {
        for (workload, lockdep) in [
            (W::Mmap1, Some(1)),
            (W::Exit, Some(1)),
            (W::Fault, Some(1)),
            (W::Mix, Some(1)),
            (W::Order, None),
        ] {
            let index = workload
                .parameters()
                .iter()
                .position(|p| p.name == "lockdep");
            let value = |variant: Variant| index.map(|index| variant.defaults(workload)[index]);
            assert_eq!(value(Variant::PlainLock), lockdep, "{workload:?}");
            assert_eq!(
                value(Variant::OwnerGone),
                lockdep.map(|_| 0),
                "{workload:?}"
            );
            assert_eq!(Variant::None.defaults(workload), workload.defaults());
        }
    }

    /// What no part of `mix` does by default, none of its parameters can bring about; races that need two of
    /// its threads come about in workloads of their own.
    #[test]
    fn a_mix_is_concerned_if_a_part_is_by_default() {
        assert!(Variant::NoVmaLock.concerns(W::Mix));
        for variant in [
            Variant::NoSequenceCheck,
            Variant::RcuSleepBusted,
            Variant::LockOrder,
            Variant::DropsUpdates,
            Variant::NoGracePeriod,
            Variant::NoSeqcount,
            Variant::SkipCpu,
        ] {
            assert!(!variant.concerns(W::Mix), "{variant:?}");
        }
    }
}
