//! Scheduling policies.

use super::PlacementError;
use std::fmt;
use std::str::FromStr;

const NS_PER_US: u64 = 1_000;
const NS_PER_MS: u64 = 1_000_000;

/// How long a thread is to run at a time before others of its policy have their turn, in whole µs: what the kernel
/// takes (`sched_runtime` in sched_setattr(2), from Linux 6.12 on), 100 µs to 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice {
    ns: u64,
}

impl Slice {
    /// The least that the kernel takes.
    pub const LEAST: Self = Self {
        ns: 100 * NS_PER_US,
    };
    /// The most.
    pub const MOST: Self = Self {
        ns: 100 * NS_PER_MS,
    };

    /// In ns.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.ns
    }

    /// What `part` of `text` says: `None` if it is none.
    fn read(part: &str, text: &str) -> Result<Option<Self>, PlacementError> {
        let units = [("us", NS_PER_US), ("ms", NS_PER_MS)];
        let split = |(unit, ns)| Some((part.strip_suffix(unit)?, ns));
        let Some((digits, unit_ns)) = units.into_iter().find_map(split) else {
            return Ok(None);
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let number = digits.parse::<u64>().ok();
        let slice = number
            .and_then(|number| number.checked_mul(unit_ns))
            .map(|ns| Self { ns });
        match slice {
            Some(slice) if (Self::LEAST..=Self::MOST).contains(&slice) => Ok(Some(slice)),
            _ => Err(PlacementError::SliceBound {
                text: text.to_owned(),
                slice: part.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ns.is_multiple_of(NS_PER_MS) {
            write!(f, "{}ms", self.ns / NS_PER_MS)
        } else {
            write!(f, "{}us", self.ns / NS_PER_US)
        }
    }
}

/// How an ordinary thread shares its CPU with the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fair {
    /// Nice value: -20 to 19.
    pub nice: i32,
    /// `None` leaves the kernel's.
    pub slice: Option<Slice>,
}

impl Fair {
    /// `nice` and the kernel's slice.
    #[must_use]
    pub const fn nice(nice: i32) -> Self {
        Self { nice, slice: None }
    }
}

impl fmt::Display for Fair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nice != 0 {
            write!(f, ":{}", self.nice)?;
        }
        match self.slice {
            Some(slice) => write!(f, ":{slice}"),
            None => Ok(()),
        }
    }
}

/// A scheduling policy, as in sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedPolicy {
    /// SCHED_OTHER.
    Other(Fair),
    /// SCHED_BATCH.
    Batch(Fair),
    /// SCHED_IDLE.
    Idle,
    /// SCHED_FIFO with a priority of 1 to 99.
    Fifo(i32),
    /// SCHED_RR with a priority of 1 to 99.
    RoundRobin(i32),
}

impl FromStr for SchedPolicy {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        let syntax = || PlacementError::PolicySyntax {
            text: text.to_owned(),
        };
        let bounded = |what, value: &str, min: i32, max: i32| {
            let value = value.parse().map_err(|_| syntax())?;
            if (min..=max).contains(&value) {
                return Ok(value);
            }
            Err(PlacementError::PolicyBound {
                what,
                text: text.to_owned(),
                value,
                min,
                max,
            })
        };
        let nice = |value| bounded("nice value", value, -20, 19);
        let parts: Vec<_> = text.split(':').collect();
        let fair = || match parts[1..] {
            [] => Ok(Fair::default()),
            [one] => Ok(match Slice::read(one, text)? {
                None => Fair::nice(nice(one)?),
                slice => Fair { nice: 0, slice },
            }),
            [first, second] => Ok(Fair {
                nice: nice(first)?,
                slice: Some(Slice::read(second, text)?.ok_or_else(syntax)?),
            }),
            _ => Err(syntax()),
        };
        let priority = || match parts[1..] {
            [one] => bounded("priority", one, 1, 99),
            _ => Err(syntax()),
        };
        match parts[0] {
            "other" => fair().map(Self::Other),
            "batch" => fair().map(Self::Batch),
            "idle" if parts.len() == 1 => Ok(Self::Idle),
            "fifo" => priority().map(Self::Fifo),
            "rr" => priority().map(Self::RoundRobin),
            _ => Err(syntax()),
        }
    }
}

impl fmt::Display for SchedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(fair) => write!(f, "other{fair}"),
            Self::Batch(fair) => write!(f, "batch{fair}"),
            Self::Idle => f.write_str("idle"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
            Self::RoundRobin(priority) => write!(f, "rr:{priority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let sliced = |nice, us| Fair {
            nice,
            slice: Some(Slice { ns: us * NS_PER_US }),
        };
        for (text, policy) in [
            ("other", Some(SchedPolicy::Other(Fair::nice(0)))),
            ("other:-5", Some(SchedPolicy::Other(Fair::nice(-5)))),
            ("other:3ms", Some(SchedPolicy::Other(sliced(0, 3_000)))),
            ("other:-5:100us", Some(SchedPolicy::Other(sliced(-5, 100)))),
            (
                "batch:19:100ms",
                Some(SchedPolicy::Batch(sliced(19, 100_000))),
            ),
            ("batch:19", Some(SchedPolicy::Batch(Fair::nice(19)))),
            ("idle", Some(SchedPolicy::Idle)),
            ("fifo:99", Some(SchedPolicy::Fifo(99))),
            ("rr:1", Some(SchedPolicy::RoundRobin(1))),
            ("fifo", None),
            ("fifo:0", None),
            ("fifo:3ms", None),
            ("rr:100", None),
            ("other:20", None),
            ("other:", None),
            ("other:ms", None),
            ("other:-3ms", None),
            ("other:3s", None),
            ("other:3ms:5", None),
            ("other:5:", None),
            ("other:5:3ms:1", None),
            ("other:99us", None),
            ("other:101ms", None),
            ("other:99999999999999999999ms", None),
            ("idle:1", None),
            ("deadline", None),
        ] {
            assert_eq!(text.parse::<SchedPolicy>().ok(), policy, "{text}");
            if let Some(policy) = policy {
                assert_eq!(policy.to_string(), text);
            }
        }
        let beyond = "other:101ms"
            .parse::<SchedPolicy>()
            .unwrap_err()
            .to_string();
        assert_eq!(
            beyond,
            "slice `101ms` in `other:101ms` is out of bounds: 100us to 100ms"
        );
    }
}
