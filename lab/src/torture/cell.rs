//! The table that is walked: every sound combination, on every kind of memory.

use crate::names::Variant;
use serde::Serialize;
use underfoot_migrator::{BackendKind, Combination, PageSize, StrategyKind, numa_nodes};

/// What backs guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// Pages of 4 KiB.
    Small,
    /// Transparent huge pages, where the host gives them.
    Huge,
}

impl Backing {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Huge];

    /// What it is called in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Huge => "huge",
        }
    }
}

/// One way to move pages of one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The way.
    pub way: Combination,
    /// The memory.
    pub backing: Backing,
}

impl Cell {
    /// Whether pages of the size that moves are there, and files, which lie in small ones, once only.
    fn has_pages(&self) -> bool {
        match self.backing {
            // The kernel moves small pages between NUMA nodes, where this host has two.
            _ if self.way.backend == BackendKind::Kernel
                && self.way.page_size == PageSize::Small
                && numa_nodes() < 2 =>
            {
                false
            }
            // The kernel makes huge pages of small ones.
            Backing::Small if self.way.backend == BackendKind::Kernel => true,
            Backing::Small => self.way.page_size == PageSize::Small,
            Backing::Huge => {
                // A slot moves into small pages, whatever it lay in.
                let into_small =
                    matches!(self.way.backend, BackendKind::Kernel | BackendKind::Memslot);
                !self.way.backend.needs_file() && !into_small
            }
        }
    }
}

/// Every cell in which pages move and `variant` changes something, in the order of the table.
#[must_use]
pub fn cells(variant: Variant) -> Vec<Cell> {
    Combination::all()
        .map(|way| Combination {
            variant: variant.engine(),
            ..way
        })
        .filter(|way| way.strategy != StrategyKind::None && way.check().is_ok())
        .flat_map(|way| Backing::ALL.map(|backing| Cell { way, backing }))
        .filter(Cell::has_pages)
        .collect()
}
