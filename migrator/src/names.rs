//! Names that users write: parsing them, and what to say about one that does not exist.

use std::str::FromStr;

use crate::{BackendKind, FaultLock, PageSize, StrategyKind, Variant, WaitKind};

/// A name that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {name:?}; there are {}", known.join(", "))]
pub struct UnknownName {
    /// What was to be named.
    pub what: &'static str,
    /// What was given.
    pub name: String,
    /// What there is.
    pub known: Vec<&'static str>,
}

fn parse<T: Copy>(
    what: &'static str,
    name: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    all.iter()
        .copied()
        .find(|&one| name_of(one) == name)
        .ok_or_else(|| UnknownName {
            what,
            name: name.to_owned(),
            known: all.iter().copied().map(name_of).collect(),
        })
}

macro_rules! from_name {
    ($($type:ty, $what:literal;)*) => {$(
        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                parse($what, name, &Self::ALL, Self::name)
            }
        }
    )*};
}

from_name! {
    StrategyKind, "strategy";
    BackendKind, "backend";
    PageSize, "page size";
    WaitKind, "wait policy";
    FaultLock, "lock of faults";
    Variant, "variant";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_what_it_names() {
        for strategy in StrategyKind::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        for backend in BackendKind::ALL {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
        for wait in WaitKind::ALL {
            assert_eq!(wait.name().parse(), Ok(wait));
        }
        for lock in FaultLock::ALL {
            assert_eq!(lock.name().parse(), Ok(lock));
        }
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
        }
        let error = "mov".parse::<BackendKind>().expect_err("no such backend");
        assert_eq!(
            error.to_string(),
            "unknown backend \"mov\"; there are move, copy, remap, kernel, memslot"
        );
    }
}
