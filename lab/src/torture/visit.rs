//! One visit: a short run in a fresh VM, all of it chosen by the seed and the number of the visit.

use super::cell::{Backing, Cell};
use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::names::{Named, Variant};
use crate::settings::{ExperimentError, Key, Settings};
use crate::targets::Targets;
use crate::units::{CpuCount, Seed, Size, Span};
use fastrand::Rng;
use underfoot_abi::{PageKind, WorkloadId};
use underfoot_migrator::{BackendKind, Combination, PageSize};

/// One visit in so many moves every kind of page; the others any of them.
const ALL_KINDS_ONE_IN: u64 = 2;
/// Fewer kinds than these could leave nothing to move: not every workload has slab pages.
const LEAST_KINDS: u64 = 2;
/// One visit in so many has each page's frame number compared.
const FULL_ONE_IN: u64 = 4;
/// Batches are up to 2 to this power.
const BATCH_POWERS: u64 = 10;
/// Threads that move pages, at most.
const MOST_MOVERS: u64 = 2;
/// Seeds of visits have as many bits as drawn ones.
const SEED_SHIFT: u32 = 32;

/// What all visits share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Common {
    /// The seed of all choices.
    pub seed: Seed,
    /// vCPUs.
    pub cpus: CpuCount,
    /// Guest memory.
    pub memory: Size,
    /// The right form, or a wrong one of the engine.
    pub variant: Variant,
}

impl Common {
    fn rng(&self, number: u64) -> Rng {
        let mut of_walk = Rng::with_seed(self.seed.0);
        Rng::with_seed(of_walk.u64(..).wrapping_add(number))
    }

    /// The order in which round `round` goes through `cells`.
    #[must_use]
    pub fn order(&self, round: u64, mut cells: Vec<usize>) -> Vec<usize> {
        self.rng(u64::MAX - round).shuffle(&mut cells);
        cells
    }

    /// What visit `number` runs in `cell`, with pages moving for `moving`.
    ///
    /// # Errors
    /// The host is too small for it.
    pub fn experiment(
        &self,
        number: u64,
        cell: &Cell,
        moving: Span,
        limits: &HostLimits,
    ) -> Result<Experiment, ExperimentError> {
        let mut settings = Settings::default();
        for (key, value) in self.choose(number, cell, moving) {
            settings.set_flag(key, value);
        }
        Experiment::resolve(&settings, limits)
    }

    fn choose(&self, number: u64, cell: &Cell, moving: Span) -> Vec<(Key, String)> {
        let rng = &mut self.rng(number);
        let way = cell.way;
        vec![
            (
                Key::Workload,
                WorkloadId::ALL[rng.usize(..WorkloadId::ALL.len())]
                    .name()
                    .to_owned(),
            ),
            (Key::Strategy, way.strategy.name().to_owned()),
            (Key::Backend, way.backend.name().to_owned()),
            (Key::Wait, way.wait.name().to_owned()),
            (Key::Hugepages, (cell.backing == Backing::Huge).to_string()),
            (Key::PageSize, way.page_size.name().to_owned()),
            (Key::Target, targets(rng, moves_whole(&way))),
            (Key::Batch, batch(rng, moves_whole(&way)).to_string()),
            (Key::Movers, (1 + rng.u64(..MOST_MOVERS)).to_string()),
            (Key::Verify, verify(rng).to_owned()),
            (Key::Cpus, self.cpus.to_string()),
            (Key::Memory, self.memory.to_string()),
            (Key::Variant, self.variant.name().to_owned()),
            (Key::Torment, true.to_string()),
            (Key::Control, "0%".to_owned()),
            (Key::Warmup, "0s".to_owned()),
            (Key::Duration, moving.to_string()),
            (Key::Seed, (rng.u64(..) >> SEED_SHIFT).to_string()),
        ]
    }
}

/// Whether what moves has pages of any kind, and only moves if all of those may.
fn moves_whole(way: &Combination) -> bool {
    way.page_size == PageSize::Huge || way.backend == BackendKind::Memslot
}

fn targets(rng: &mut Rng, whole: bool) -> String {
    if rng.u64(..ALL_KINDS_ONE_IN) == 0 || whole {
        return Targets::all().to_string();
    }
    let mut kinds = PageKind::TARGETS.to_vec();
    rng.shuffle(&mut kinds);
    let most = kinds.len() as u64;
    kinds.truncate((LEAST_KINDS + rng.u64(..most - LEAST_KINDS)) as usize);
    kinds.sort_unstable();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(",")
}

/// From 1 to 512, each power of two as likely as the others; one huge page or slot.
fn batch(rng: &mut Rng, whole: bool) -> u64 {
    if whole {
        return 1;
    }
    let power = rng.u64(..BATCH_POWERS);
    let least = 1 << power;
    (least + rng.u64(..least)).min(512)
}

fn verify(rng: &mut Rng) -> &'static str {
    if rng.u64(..FULL_ONE_IN) == 0 {
        "full"
    } else {
        "sample"
    }
}

/// The command that runs `experiment` again.
#[must_use]
pub fn command_line(experiment: &Experiment) -> String {
    let defaults = ["none", "false"];
    let flags = experiment
        .to_table()
        .into_iter()
        .filter_map(|(key, value)| {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Table(_) => return None,
                value => value.to_string(),
            };
            // Switches take their value with an equals sign.
            let joint = if text == "true" { "=" } else { " " };
            (!defaults.contains(&text.as_str())).then(|| format!(" --{key}{joint}{text}"))
        });
    format!("{} run{}", crate::tool::NAME, flags.collect::<String>())
}
