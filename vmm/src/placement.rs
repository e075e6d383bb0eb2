//! Where a thread runs and how the scheduler treats it, by role.

mod policy;

pub use policy::{Fair, SchedPolicy, Slice};

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
        "`{text}` is not a scheduling policy: use other[:NICE][:SLICE], batch[:NICE][:SLICE], idle, fifo:PRIORITY or \
         rr:PRIORITY, with a slice such as 3ms"
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
    /// A slice out of bounds.
    #[error(
        "slice `{slice}` in `{text}` is out of bounds: {} to {}",
        Slice::LEAST,
        Slice::MOST
    )]
    SliceBound {
        /// What was given.
        text: String,
        /// The slice.
        slice: String,
    },
    /// The kernel took the slice and did not keep it.
    #[error(
        "the host keeps no slice of {asked} for a thread: Linux does from 6.12 on; leave the slice out"
    )]
    NoSlices {
        /// The slice.
        asked: Slice,
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
            let refused = |source| PlacementError::Refused {
                what: policy.to_string(),
                source,
            };
            match policy {
                SchedPolicy::Other(fair) => set_fair(libc::SCHED_OTHER, fair, refused)?,
                SchedPolicy::Batch(fair) => set_fair(libc::SCHED_BATCH, fair, refused)?,
                SchedPolicy::Idle => sys::set_scheduler(libc::SCHED_IDLE, 0).map_err(refused)?,
                SchedPolicy::Fifo(priority) => {
                    sys::set_scheduler(libc::SCHED_FIFO, priority).map_err(refused)?;
                }
                SchedPolicy::RoundRobin(priority) => {
                    sys::set_scheduler(libc::SCHED_RR, priority).map_err(refused)?;
                }
            }
        }
        Ok(())
    }
}

fn set_fair(
    policy: libc::c_int,
    fair: Fair,
    refused: impl Fn(std::io::Error) -> PlacementError,
) -> Result<(), PlacementError> {
    let Some(slice) = fair.slice else {
        sys::set_scheduler(policy, 0).map_err(&refused)?;
        return sys::set_nice(fair.nice).map_err(refused);
    };
    sys::set_slice(policy, fair.nice, slice.ns()).map_err(&refused)?;
    // Kernels before 6.12 take it for nothing, and say so by another one here.
    if sys::slice_ns().map_err(refused)? != slice.ns() {
        return Err(PlacementError::NoSlices { asked: slice });
    }
    Ok(())
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
    fn a_thread_has_its_slice_or_that_is_refused() {
        let asked: SchedPolicy = "other:3ms".parse().unwrap();
        let placement = Placement {
            policy: Some(asked),
            ..Placement::default()
        };
        let body = move || (placement.apply(0), sys::slice_ns().unwrap());
        match std::thread::spawn(body).join().unwrap() {
            (Ok(()), slice_ns) => assert_eq!(slice_ns, 3_000_000),
            (Err(error), _) => assert!(matches!(error, PlacementError::NoSlices { .. }), "{error}"),
        }
    }

    #[test]
    fn a_thread_is_placed() {
        let one = CpuSet(vec![CpuSet::allowed().unwrap().0[0]]);
        std::thread::spawn(move || {
            let placement = Placement {
                cpus: Some(one.clone()),
                policy: Some(SchedPolicy::Batch(Fair::nice(5))),
                share: None,
            };
            placement.apply(3).unwrap();
            assert_eq!(CpuSet::allowed().unwrap(), one);
        })
        .join()
        .unwrap();
    }
}
