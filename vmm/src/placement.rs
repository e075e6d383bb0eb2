//! Where a thread runs and how the scheduler treats it, by role.

use crate::sys;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// CPUs that a set can name: the size of the kernel's `cpu_set_t` in glibc.
pub const MAX_HOST_CPUS: u32 = 1024;

/// Why a thread cannot be placed as asked.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Not a CPU list.
    #[error("`{text}` is not a list of CPUs: write for example 2-5,7")]
    CpuSyntax {
        /// What was given.
        text: String,
    },
    /// A CPU number beyond what the kernel's interface carries.
    #[error("CPU {cpu} in `{text}` is beyond the last possible CPU {}", MAX_HOST_CPUS - 1)]
    CpuBound {
        /// What was given.
        text: String,
        /// The CPU.
        cpu: u64,
    },
    /// A CPU that this process cannot use.
    #[error("CPU {cpu} is not there: this process may run on CPUs {allowed}")]
    NoSuchCpu {
        /// The CPU.
        cpu: u32,
        /// What there is.
        allowed: CpuSet,
    },
    /// Not a scheduling policy.
    #[error(
        "`{text}` is not a scheduling policy: use other[:NICE], batch[:NICE], idle, fifo:PRIORITY or rr:PRIORITY"
    )]
    PolicySyntax {
        /// What was given.
        text: String,
    },
    /// A priority or nice value out of bounds.
    #[error("{what} {value} in `{text}` is out of bounds: {min} to {max}")]
    PolicyBound {
        /// `priority` or `nice value`.
        what: &'static str,
        /// What was given.
        text: String,
        /// The number.
        value: i32,
        /// Least.
        min: i32,
        /// Greatest.
        max: i32,
    },
    /// The system refused.
    #[error(
        "the host refused {what}: real-time policies and negative nice values need CAP_SYS_NICE or a limit (ulimit -r, ulimit -e)"
    )]
    Refused {
        /// What was asked for.
        what: String,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// A set of host CPUs, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSet(Vec<u32>);

impl CpuSet {
    /// The CPUs, rising, each once.
    #[must_use]
    pub fn cpus(&self) -> &[u32] {
        &self.0
    }

    /// The CPUs that the calling thread may run on.
    ///
    /// # Errors
    /// [`PlacementError::Refused`] when the system does not say.
    pub fn allowed() -> Result<Self, PlacementError> {
        let cpus = sys::affinity().map_err(|source| PlacementError::Refused {
            what: "to name the allowed CPUs".to_owned(),
            source,
        })?;
        Ok(Self(cpus))
    }

    /// The first `count` of these CPUs, one at least; all of them where there are not so many.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self(self.0.iter().copied().take(count.max(1)).collect())
    }

    /// Checks that each CPU is one of `allowed`.
    ///
    /// # Errors
    /// [`PlacementError::NoSuchCpu`] naming the first that is not.
    pub fn check(&self, allowed: &Self) -> Result<(), PlacementError> {
        match self.0.iter().find(|cpu| !allowed.0.contains(cpu)) {
            Some(&cpu) => Err(PlacementError::NoSuchCpu {
                cpu,
                allowed: allowed.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl FromStr for CpuSet {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        let syntax = || PlacementError::CpuSyntax {
            text: text.to_owned(),
        };
        let number = |part: &str| -> Result<u32, PlacementError> {
            let cpu: u64 = part.trim().parse().map_err(|_| syntax())?;
            match u32::try_from(cpu) {
                Ok(cpu) if cpu < MAX_HOST_CPUS => Ok(cpu),
                _ => Err(PlacementError::CpuBound {
                    text: text.to_owned(),
                    cpu,
                }),
            }
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(syntax());
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => unreachable!("chunk_by gives no empty chunk"),
        });
        f.write_str(&runs.collect::<Vec<_>>().join(","))
    }
}

/// A scheduling policy, as in sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedPolicy {
    /// SCHED_OTHER with a nice value of -20 to 19.
    Other(i32),
    /// SCHED_BATCH with a nice value.
    Batch(i32),
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
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.parse::<i32>().map_err(|_| syntax())?)),
            None => (text, None),
        };
        let bounded = |what, value: i32, min: i32, max: i32| {
            let text = text.to_owned();
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(PlacementError::PolicyBound {
                    what,
                    text,
                    value,
                    min,
                    max,
                })
            }
        };
        let nice = || bounded("nice value", value.unwrap_or(0), -20, 19);
        let priority = || bounded("priority", value.ok_or_else(syntax)?, 1, 99);
        match name {
            "other" => nice().map(Self::Other),
            "batch" => nice().map(Self::Batch),
            "idle" if value.is_none() => Ok(Self::Idle),
            "fifo" => priority().map(Self::Fifo),
            "rr" => priority().map(Self::RoundRobin),
            _ => Err(syntax()),
        }
    }
}

impl fmt::Display for SchedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(0) => f.write_str("other"),
            Self::Other(nice) => write!(f, "other:{nice}"),
            Self::Batch(0) => f.write_str("batch"),
            Self::Batch(nice) => write!(f, "batch:{nice}"),
            Self::Idle => f.write_str("idle"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
            Self::RoundRobin(priority) => write!(f, "rr:{priority}"),
        }
    }
}

/// Where the threads of one role run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// CPUs; `None` leaves the inherited ones. Thread `n` of the role gets the `n`th, in turn.
    pub cpus: Option<CpuSet>,
    /// So many threads in a row get the same of these CPUs, instead of one.
    pub share: Option<NonZeroU16>,
    /// Policy; `None` leaves the inherited one.
    pub policy: Option<SchedPolicy>,
}

impl Placement {
    /// Checks the CPUs against those that this process may use.
    ///
    /// # Errors
    /// [`PlacementError::NoSuchCpu`].
    pub fn check(&self) -> Result<(), PlacementError> {
        match &self.cpus {
            Some(cpus) => cpus.check(&CpuSet::allowed()?),
            None => Ok(()),
        }
    }

    /// Places the calling thread, the `index`th of its role.
    ///
    /// # Errors
    /// [`PlacementError::NoSuchCpu`] or [`PlacementError::Refused`].
    pub fn apply(&self, index: usize) -> Result<(), PlacementError> {
        self.check()?;
        if let Some(CpuSet(cpus)) = &self.cpus {
            let share = self.share.map_or(1, NonZeroU16::get);
            let cpu = cpus[index / usize::from(share) % cpus.len()];
            sys::set_affinity(cpu).map_err(|source| PlacementError::Refused {
                what: format!("CPU {cpu}"),
                source,
            })?;
        }
        if let Some(policy) = self.policy {
            let (number, priority, nice) = match policy {
                SchedPolicy::Other(nice) => (libc::SCHED_OTHER, 0, Some(nice)),
                SchedPolicy::Batch(nice) => (libc::SCHED_BATCH, 0, Some(nice)),
                SchedPolicy::Idle => (libc::SCHED_IDLE, 0, None),
                SchedPolicy::Fifo(priority) => (libc::SCHED_FIFO, priority, None),
                SchedPolicy::RoundRobin(priority) => (libc::SCHED_RR, priority, None),
            };
            let refused = |source| PlacementError::Refused {
                what: policy.to_string(),
                source,
            };
            sys::set_scheduler(number, priority).map_err(refused)?;
            if let Some(nice) = nice {
                sys::set_nice(nice).map_err(refused)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        for (text, cpus) in [
            ("2-5,7", Some(vec![2, 3, 4, 5, 7])),
            ("0", Some(vec![0])),
            ("3,1,1-2", Some(vec![1, 2, 3])),
            ("1023", Some(vec![1023])),
            ("", None),
            (",", None),
            ("5-2", None),
            ("a", None),
            ("-1", None),
            ("1024", None),
            ("0-99999999999", None),
        ] {
            assert_eq!(text.parse::<CpuSet>().ok().map(|set| set.0), cpus, "{text}");
        }
        let round: CpuSet = "7,2-5".parse().unwrap();
        assert_eq!(round.to_string(), "2-5,7");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let allowed: CpuSet = "0-1".parse().unwrap();
        let error = "1-3"
            .parse::<CpuSet>()
            .unwrap()
            .check(&allowed)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "CPU 2 is not there: this process may run on CPUs 0-1"
        );
        let beyond = Placement {
            cpus: Some("1023".parse().unwrap()),
            ..Placement::default()
        };
        assert!(matches!(
            beyond.check(),
            Err(PlacementError::NoSuchCpu { cpu: 1023, .. })
        ));
    }

    #[test]
    fn policies() {
        for (text, policy) in [
            ("other", Some(SchedPolicy::Other(0))),
            ("other:-5", Some(SchedPolicy::Other(-5))),
            ("batch:19", Some(SchedPolicy::Batch(19))),
            ("idle", Some(SchedPolicy::Idle)),
            ("fifo:99", Some(SchedPolicy::Fifo(99))),
            ("rr:1", Some(SchedPolicy::RoundRobin(1))),
            ("fifo", None),
            ("fifo:0", None),
            ("rr:100", None),
            ("other:20", None),
            ("idle:1", None),
            ("deadline", None),
        ] {
            assert_eq!(text.parse::<SchedPolicy>().ok(), policy, "{text}");
            if let Some(policy) = policy {
                assert_eq!(policy.to_string(), text);
            }
        }
    }

    #[test]
    fn threads_in_a_row_share_a_cpu() {
        let all = CpuSet::allowed().unwrap();
        assert_eq!(all.first(0).0, all.0[..1]);
        assert_eq!(all.first(usize::MAX), all);
        let two = all.first(2);
        let last = CpuSet(vec![two.0[two.0.len() - 1]]);
        let placement = Placement {
            cpus: Some(two),
            share: NonZeroU16::new(3),
            policy: None,
        };
        for (index, cpus) in [(2, all.first(1)), (3, last), (6, all.first(1))] {
            let placement = placement.clone();
            std::thread::spawn(move || {
                placement.apply(index).unwrap();
                assert_eq!(CpuSet::allowed().unwrap(), cpus, "{index}");
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn a_thread_is_placed() {
        let one = CpuSet(vec![CpuSet::allowed().unwrap().0[0]]);
        std::thread::spawn(move || {
            let placement = Placement {
                cpus: Some(one.clone()),
                policy: Some(SchedPolicy::Batch(5)),
                share: None,
            };
            placement.apply(3).unwrap();
            assert_eq!(CpuSet::allowed().unwrap(), one);
        })
        .join()
        .unwrap();
    }
}
