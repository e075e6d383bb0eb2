//! Several workloads side by side.

use super::{
    Counter, Description, LOCKDEP, OPERATIONS, Parameter, WorkloadId,
    kernel::{CHURN, LOCK, PROTECT, SHOOTDOWN, TORTURE, WALK},
    spaces::MMAP1,
};

/// What `mix` is made of, in the order of its first parameters.
pub const MIX_PARTS: [WorkloadId; 6] = [
    WorkloadId::Walk,
    WorkloadId::Lock,
    WorkloadId::Churn,
    WorkloadId::Torture,
    WorkloadId::Mmap1,
    WorkloadId::Shootdown,
];

/// Their descriptions: asking [`WorkloadId`] would ask for that of `mix` too, which is made from these.
const PARTS: [Description; MIX_PARTS.len()] = [WALK, LOCK, CHURN, TORTURE, MMAP1, SHOOTDOWN];

/// Where the counters of a part begin among those of `mix`: its operations, and what else it counts.
/// The first of `mix`'s own is the sum of all parts' operations.
///
/// # Panics
/// If there is no such part.
#[must_use]
pub const fn mix_counters(part: usize) -> usize {
    assert!(part < MIX_PARTS.len(), "mix has no such part");
    first_counter(part)
}

const fn first_counter(part: usize) -> usize {
    let (mut first, mut index) = (1, 0);
    while index < part {
        first += PARTS[index].counters.len();
        index += 1;
    }
    first
}

const COUNT: usize = first_counter(MIX_PARTS.len());

/// The name of a part's counter.
struct Name {
    bytes: [u8; 40],
    len: usize,
}

impl Name {
    /// `PART.COUNTER`.
    const fn new(part: &str, counter: &str) -> Self {
        let mut name = Self {
            bytes: [0; 40],
            len: 0,
        };
        name.append(part);
        name.append(".");
        name.append(counter);
        name
    }

    const fn append(&mut self, text: &str) {
        let (text, mut index) = (text.as_bytes(), 0);
        while index < text.len() {
            self.bytes[self.len] = text[index];
            self.len += 1;
            index += 1;
        }
    }

    const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("made of texts"),
        }
    }
}

static NAMES: [Name; COUNT] = {
    let mut names = [const { Name::new("", "") }; COUNT];
    let (mut at, mut part) = (1, 0);
    while part < MIX_PARTS.len() {
        let (part_of, mut index) = (&PARTS[part], 0);
        while index < part_of.counters.len() {
            names[at] = Name::new(part_of.name, part_of.counters[index].name);
            at += 1;
            index += 1;
        }
        part += 1;
    }
    names
};

static COUNTERS: [Counter; COUNT] = {
    let mut counters = [OPERATIONS; COUNT];
    let (mut at, mut part) = (1, 0);
    while part < MIX_PARTS.len() {
        let (part_of, mut index) = (&PARTS[part], 0);
        while index < part_of.counters.len() {
            counters[at] = Counter::new(NAMES[at].as_str(), part_of.counters[index].about);
            at += 1;
            index += 1;
        }
        part += 1;
    }
    counters
};

/// Whether a part runs: it does unless told otherwise.
const fn part(part: &Description) -> Parameter {
    Parameter {
        default: 1,
        ..Parameter::choice(part.name, "whether this workload is a part", &["off", "on"])
    }
}

pub(super) const MIX: Description = Description {
    name: "mix",
    about: "several workloads side by side in one guest, each as it is by default",
    parameters: &[
        part(&PARTS[0]),
        part(&PARTS[1]),
        part(&PARTS[2]),
        part(&PARTS[3]),
        part(&PARTS[4]),
        part(&PARTS[5]),
        PROTECT,
        LOCKDEP,
    ],
    counters: &COUNTERS,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_switch_and_its_counters() {
        let (parameters, counters) = (WorkloadId::Mix.parameters(), WorkloadId::Mix.counters());
        for (index, part) in MIX_PARTS.into_iter().enumerate() {
            assert_eq!(parameters[index].name, part.name());
            assert_eq!(WorkloadId::Mix.defaults()[index], 1);
            for (offset, counter) in part.counters().iter().enumerate() {
                let of_mix = counters[mix_counters(index) + offset];
                assert_eq!(of_mix.name, format!("{}.{}", part.name(), counter.name));
                assert_eq!(of_mix.about, counter.about);
            }
        }
        assert_eq!(parameters[MIX_PARTS.len()].name, "protect");
        assert_eq!(counters.len(), COUNT);
    }
}
