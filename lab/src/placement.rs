//! Where threads run and how they are scheduled, by role.

use crate::names::{Named, Role, parse_name};
use crate::units::ValueError;
use std::fmt;
use std::str::FromStr;
use underfoot_vmm::placement::{CpuSet, PlacementError, SchedPolicy};

const AFFINITY_EXAMPLE: &str = "vcpu=2-5,mover=6";
const SCHED_EXAMPLE: &str = "vcpu=other:0:3ms,mover=fifo:10";

/// Something for each role that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByRole<T> {
    vcpu: Option<T>,
    mover: Option<T>,
    antagonist: Option<T>,
}

impl<T> ByRole<T> {
    fn get(&self, role: Role) -> Option<&T> {
        match role {
            Role::Vcpu => self.vcpu.as_ref(),
            Role::Mover => self.mover.as_ref(),
            Role::Antagonist => self.antagonist.as_ref(),
        }
    }

    /// The values that were given, in a fixed order.
    fn iter(&self) -> impl Iterator<Item = (Role, &T)> {
        Role::ALL
            .iter()
            .filter_map(|role| Some((*role, self.get(*role)?)))
    }

    /// Reads `role=value,role=value`, where a value may hold commas itself.
    fn parse(
        text: &str,
        expected: &'static str,
        example: &'static str,
        value: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<Self, ValueError> {
        let mut found = Self {
            vcpu: None,
            mover: None,
            antagonist: None,
        };
        for (role, written) in split_roles(text).ok_or_else(|| ValueError::Malformed {
            value: text.to_owned(),
            expected,
            example,
        })? {
            let slot = match parse_name(role)? {
                Role::Vcpu => &mut found.vcpu,
                Role::Mover => &mut found.mover,
                Role::Antagonist => &mut found.antagonist,
            };
            if slot.replace(value(&written)?).is_some() {
                return Err(ValueError::Twice {
                    value: text.to_owned(),
                    part: role.to_owned(),
                });
            }
        }
        Ok(found)
    }
}

impl<T: fmt::Display> fmt::Display for ByRole<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (role, value) in self.iter() {
            write!(f, "{separator}{}={value}", role.name())?;
            separator = ",";
        }
        Ok(())
    }
}

/// `a=1,2,b=3` as `[("a", "1,2"), ("b", "3")]`; `None` if it does not begin with a role.
fn split_roles(text: &str) -> Option<Vec<(&str, String)>> {
    let mut roles: Vec<(&str, String)> = Vec::new();
    for item in text.split(',') {
        match item.split_once('=') {
            Some((role, value)) => roles.push((role.trim(), value.to_owned())),
            None => {
                let (_, value) = roles.last_mut()?;
                value.push(',');
                value.push_str(item);
            }
        }
    }
    Some(roles)
}

/// The host CPUs that each role's threads are bound to, written `vcpu=2-5,mover=6`. vCPU (or mover)
/// `n` is bound to the `n`th CPU of its list, beginning again at the end of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity(ByRole<CpuSet>);

impl Affinity {
    /// The CPUs of `role`, if it is bound.
    #[must_use]
    pub fn get(&self, role: Role) -> Option<&CpuSet> {
        self.0.get(role)
    }

    /// Whether every CPU named is one of `available`.
    ///
    /// # Errors
    /// [`ValueError::NoSuchCpu`].
    pub fn check_against(&self, available: &CpuSet) -> Result<(), ValueError> {
        let named = self.0.iter().flat_map(|(_, cpus)| cpus.cpus());
        match named
            .into_iter()
            .find(|cpu| !available.cpus().contains(cpu))
        {
            None => Ok(()),
            Some(&cpu) => Err(ValueError::NoSuchCpu {
                cpu,
                available: available.to_string(),
            }),
        }
    }
}

impl FromStr for Affinity {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        ByRole::parse(
            text,
            "a list of CPUs for each role",
            AFFINITY_EXAMPLE,
            understood,
        )
        .map(Self)
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `text` as the VMM understands it.
fn understood<T: FromStr<Err = PlacementError>>(text: &str) -> Result<T, ValueError> {
    text.trim()
        .parse()
        .map_err(|error: PlacementError| ValueError::Placement(error.to_string()))
}

/// The scheduling of each role's threads, written `vcpu=other:0:3ms,mover=fifo:10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling(ByRole<SchedPolicy>);

impl Scheduling {
    /// The scheduling of `role`, if it was asked for.
    #[must_use]
    pub fn get(&self, role: Role) -> Option<SchedPolicy> {
        self.0.get(role).copied()
    }
}

impl FromStr for Scheduling {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        ByRole::parse(
            text,
            "a policy for each role, with its priority or nice value and slice",
            SCHED_EXAMPLE,
            understood,
        )
        .map(Self)
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_roles() {
        let affinity: Affinity = "mover=6,vcpu=2-4,9".parse().expect("two roles");
        assert_eq!(affinity.to_string(), "vcpu=2-4,9,mover=6");
        assert_eq!(affinity.to_string().parse(), Ok(affinity.clone()));
        let scheduling: Scheduling = "mover=fifo:10".parse().expect("a role");
        assert_eq!(scheduling.get(Role::Vcpu), None);
        assert_eq!(scheduling.to_string(), "mover=fifo:10");
        let mover = affinity.get(Role::Mover).map(CpuSet::cpus);
        assert_eq!(mover, Some([6].as_slice()));
        assert_eq!(scheduling.get(Role::Mover), Some(SchedPolicy::Fifo(10)));
        let antagonist: Affinity = "antagonist=1,vcpu=0".parse().expect("two roles");
        assert_eq!(antagonist.to_string(), "vcpu=0,antagonist=1");
    }

    #[test]
    fn names_the_missing_cpu() {
        let host: CpuSet = "0-1".parse().expect("a list");
        let affinity: Affinity = "vcpu=0,mover=1-3".parse().expect("two roles");
        let message = affinity
            .check_against(&host)
            .expect_err("no CPU 2")
            .to_string();
        assert!(
            message.contains("CPU 2 ") && message.contains("0-1"),
            "{message}"
        );
    }

    #[test]
    fn refusals() {
        for (text, part) in [
            ("", "for example"),
            ("2-5", "for example"),
            ("vcp=1", "`vcpu`"),
            ("vcpu=1,vcpu=2", "twice"),
            ("vcpu=x", "list of CPUs"),
        ] {
            let message = text.parse::<Affinity>().expect_err(text).to_string();
            assert!(message.contains(part), "{message}");
        }
        for (text, part) in [
            ("vcpu=fifo:0", "1 to 99"),
            ("vcpu=fifo:100", "1 to 99"),
            ("mover=fofi:1", "fifo:PRIORITY"),
            ("vcpu=other:5s", "[:SLICE]"),
            ("vcpu=other:1:101ms", "100us to 100ms"),
        ] {
            let message = text.parse::<Scheduling>().expect_err(text).to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|((vcpu|mover|antagonist|x)?=?(fifo:|other:|ms|[0-9,:-]){0,6},?){0,4}") {
            let _ = (text.parse::<Affinity>(), text.parse::<Scheduling>());
        }
    }
}
