//! The workload `mix`: others side by side, each with its own threads, counters and audit.

use super::{
    audit::Audit,
    plan::{Seat, Workload},
};
use crate::{Cpu, mm::watermark::Watermarks, record};
use underfoot_abi::{MIX_PARTS, mix_counters};

/// The parts of the contract; `None` where one is switched off.
pub struct Mix {
    parts: [Option<&'static dyn Workload>; MIX_PARTS.len()],
}

impl Mix {
    /// Those of `parts`, in the order of [`MIX_PARTS`].
    #[must_use]
    pub const fn new(parts: [Option<&'static dyn Workload>; MIX_PARTS.len()]) -> Self {
        Self { parts }
    }

    fn parts(&self) -> impl Iterator<Item = (usize, &'static dyn Workload)> {
        let parts = self.parts.iter().enumerate();
        parts.filter_map(|(index, part)| part.map(|part| (index, part)))
    }

    /// The part whose thread `number` is, its place in the contract, and the thread's number there.
    fn part_of(&self, mut number: usize, cpus: usize) -> (usize, &'static dyn Workload, usize) {
        for (index, part) in self.parts() {
            let threads = part.threads(cpus);
            if number < threads {
                return (index, part, number);
            }
            number -= threads;
        }
        panic!("mix has {} threads, not {number} more", self.threads(cpus))
    }
}

impl Workload for Mix {
    fn threads(&self, cpus: usize) -> usize {
        self.parts().map(|(_, part)| part.threads(cpus)).sum()
    }

    fn seat(&self, number: usize, cpus: usize) -> Seat {
        let (_, part, number) = self.part_of(number, cpus);
        part.seat(number, cpus)
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let cpus = cpu.header.cpus as usize;
        let (index, part, number) = self.part_of(number, cpus);
        record::count_from(cpu, mix_counters(index));
        part.run(cpu, number);
    }

    fn memory(&self) -> Option<&'static Watermarks> {
        self.parts().find_map(|(_, part)| part.memory())
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        self.parts().fold(Audit::default(), |sum, (_, part)| {
            // SAFETY: the caller's promise.
            let audit = unsafe { part.audit(cpu) };
            Audit {
                checked: sum.checked + audit.checked,
                errors: sum.errors + audit.errors,
                updates: sum.updates.wrapping_add(audit.updates),
            }
        })
    }
}

#[cfg(test)]
mod tests;
