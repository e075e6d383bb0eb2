//! Which combinations are sound, as data.

use crate::{BackendKind, PageSize, StrategyKind, Variant, WaitKind};

/// One way to move pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Combination {
    /// When what is copied.
    pub strategy: StrategyKind,
    /// How the new frame arrives.
    pub backend: BackendKind,
    /// What a vCPU does that meets a window.
    pub wait: WaitKind,
    /// How large the pages are that move.
    pub page_size: PageSize,
    /// A deliberately wrong form, or none.
    pub variant: Variant,
}

struct Refusal {
    applies: fn(&Combination) -> bool,
    reason: &'static str,
}

/// What is not in here is sound.
const REFUSALS: &[Refusal] = &[
    Refusal {
        applies: |way| {
            way.backend == BackendKind::Remap
                && !matches!(
                    way.strategy,
                    StrategyKind::None | StrategyKind::StopWorld | StrategyKind::ProtectCopy
                )
        },
        reason: "with remap a page is never missing, so that only a write-protection or stopped vCPUs \
                 keep writes from the old one; use protect-copy or stop-world",
    },
    Refusal {
        applies: |way| {
            way.backend == BackendKind::Kernel
                && !matches!(
                    way.strategy,
                    StrategyKind::None | StrategyKind::StopWorld | StrategyKind::UnmapCopy
                )
        },
        reason: "the kernel unmaps, copies and maps in one call, in that order; use unmap-copy or \
                 stop-world",
    },
    Refusal {
        applies: |way| way.backend == BackendKind::Kernel && way.wait.signals(),
        reason: "whoever touches a page that the kernel moves sleeps in the kernel, which asks nobody; \
                 use the wait policy halt or block",
    },
    Refusal {
        applies: |way| {
            way.backend == BackendKind::Memslot
                && !matches!(way.strategy, StrategyKind::None | StrategyKind::StopWorld)
        },
        reason: "while a slot is gone every access to it leaves the guest as if to a device, so that all vCPUs \
                 must be stopped; use stop-world",
    },
    Refusal {
        applies: |way| way.backend == BackendKind::Memslot && way.wait.signals(),
        reason: "a slot has pages that signal and pages that must sleep, and moves whole, while every vCPU is \
                 stopped and waits by no policy; use the wait policy halt, block or async",
    },
    Refusal {
        applies: |way| way.backend == BackendKind::Memslot && way.page_size == PageSize::Huge,
        reason: "a slot moves whole, into memory of small pages, so that no huge page would be left after it; \
                 use pages of 4KiB",
    },
    Refusal {
        applies: |way| {
            way.backend == BackendKind::Kernel
                && matches!(
                    way.variant,
                    Variant::NoUnmap
                        | Variant::TornCopy
                        | Variant::StaleFrame
                        | Variant::WindowWaitsGracePeriod
                        | Variant::WindowWaitsFrames
                )
        },
        reason: "the kernel copies, and has the old frames again at once, so that this variant has \
                 nothing to spoil; use the backend move",
    },
    Refusal {
        applies: |way| way.page_size == PageSize::Huge && way.backend == BackendKind::Remap,
        reason: "files in memory lie in small pages here; use the backend move, or pages of 4KiB",
    },
    Refusal {
        applies: |way| way.page_size == PageSize::Huge && way.backend == BackendKind::Copy,
        reason: "UFFDIO_COPY brings small pages, so that no huge page would be left after it; use the \
                 backend move, or pages of 4KiB",
    },
    Refusal {
        applies: |way| way.strategy == StrategyKind::Lazy && way.wait.signals(),
        reason: "with lazy the fault handler must hear who touches a page, and a signal tells it \
                 nothing; use the wait policy halt or block",
    },
    Refusal {
        applies: |way| way.strategy == StrategyKind::Lazy && way.page_size == PageSize::Huge,
        reason: "with lazy pages come one by one, in frames of the pool, which are of 4KiB; use pages of \
                 4KiB",
    },
    Refusal {
        applies: |way| way.strategy == StrategyKind::Lazy && way.variant == Variant::TornCopy,
        reason: "with lazy pages are copied as they are brought, and this variant spoils the copy of a \
                 window; use unmap-copy",
    },
    Refusal {
        applies: |way| {
            way.strategy == StrategyKind::Transactional && way.backend == BackendKind::Copy
        },
        reason: "transactional maps the very copy that it compared, and the backend copy copies once \
                 more as it maps; use the backend move",
    },
    Refusal {
        applies: |way| {
            way.backend == BackendKind::Copy
                && matches!(
                    way.variant,
                    Variant::NoUnmap | Variant::NoProtect | Variant::TornCopy
                )
        },
        reason: "with the backend copy the kernel copies as it maps, so that this variant has no copy \
                 to spoil; use the backend move",
    },
    Refusal {
        applies: |way| way.strategy != StrategyKind::UnmapCopy && way.variant == Variant::NoUnmap,
        reason: "this variant copies before it unmaps; use unmap-copy, which does not",
    },
    Refusal {
        applies: |way| {
            way.strategy != StrategyKind::ProtectCopy && way.variant == Variant::NoProtect
        },
        reason: "this variant copies without protection; use protect-copy, which has it",
    },
    Refusal {
        applies: |way| {
            way.strategy != StrategyKind::Transactional && way.variant == Variant::NoCompare
        },
        reason: "this variant compares no copy; use transactional, which does",
    },
    Refusal {
        applies: |way| way.strategy != StrategyKind::Lazy && way.variant == Variant::ZeroFill,
        reason: "this variant takes pages that are away for holes; use lazy, which has them",
    },
    Refusal {
        applies: |way| way.strategy == StrategyKind::Lazy && way.variant == Variant::SameFrame,
        reason: "with lazy pages come back one by one, and this variant gives back a whole window; \
                 use unmap-copy",
    },
    Refusal {
        applies: |way| {
            matches!(
                way.variant,
                Variant::WindowWaitsGracePeriod | Variant::WindowWaitsFrames
            ) && matches!(way.strategy, StrategyKind::Lazy | StrategyKind::StopWorld)
        },
        reason: "this variant waits in its window for readers that run: stop-world has none, and lazy no \
                 window that they wait for; use unmap-copy",
    },
    Refusal {
        applies: |way| way.strategy == StrategyKind::None && way.variant != Variant::None,
        reason: "the strategy none moves nothing that a variant could spoil; use unmap-copy",
    },
];

impl Combination {
    /// Every combination without a variant, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        PageSize::ALL.into_iter().flat_map(|page_size| {
            StrategyKind::ALL.into_iter().flat_map(move |strategy| {
                BackendKind::ALL.into_iter().flat_map(move |backend| {
                    WaitKind::ALL.into_iter().map(move |wait| Self {
                        strategy,
                        backend,
                        wait,
                        page_size,
                        variant: Variant::None,
                    })
                })
            })
        })
    }

    /// Whether it is sound.
    ///
    /// # Errors
    /// The reason why not, and what to use instead.
    pub fn check(&self) -> Result<(), &'static str> {
        match REFUSALS.iter().find(|refusal| (refusal.applies)(self)) {
            Some(refusal) => Err(refusal.reason),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_covers_every_combination_once_and_refuses_what_it_says() {
        let all: Vec<_> = Combination::all().collect();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        let count = StrategyKind::ALL.len()
            * BackendKind::ALL.len()
            * WaitKind::ALL.len()
            * PageSize::ALL.len();
        assert_eq!((all.len(), distinct.len()), (count, count));
        let refused = |way: &&Combination| match (way.strategy, way.backend) {
            (_, BackendKind::Copy | BackendKind::Remap | BackendKind::Memslot)
                if way.page_size == PageSize::Huge =>
            {
                true
            }
            (StrategyKind::None | StrategyKind::StopWorld, BackendKind::Memslot) => {
                way.wait.signals()
            }
            (_, BackendKind::Memslot) => true,
            (
                StrategyKind::None | StrategyKind::StopWorld | StrategyKind::UnmapCopy,
                BackendKind::Kernel,
            ) => way.wait.signals(),
            (StrategyKind::Lazy, BackendKind::Remap | BackendKind::Kernel) => true,
            (StrategyKind::Lazy, _) => way.wait.signals() || way.page_size == PageSize::Huge,
            (StrategyKind::Transactional, backend) => backend != BackendKind::Move,
            (_, BackendKind::Kernel) => true,
            (StrategyKind::UnmapCopy, backend) => backend == BackendKind::Remap,
            _ => false,
        };
        let found = all.iter().filter(|way| way.check().is_err());
        assert!(found.eq(all.iter().filter(refused)));
    }

    #[test]
    fn every_refusal_refuses_something() {
        let all: Vec<_> = Combination::all()
            .flat_map(|way| Variant::ALL.map(|variant| Combination { variant, ..way }))
            .collect();
        for refusal in REFUSALS {
            assert!(all.iter().any(refusal.applies), "{}", refusal.reason);
        }
    }
}
