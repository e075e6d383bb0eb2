//! Which experiments a sweep is made of, and in which order they run.

use super::SweepError;
use super::file::{SweepFile, Unsound};
use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::names::Named;
use crate::settings::{ExperimentError, Key, Settings};
use crate::units::Seed;
use fastrand::Rng;

/// The most runs of one sweep: at a second each, more than a day.
const MOST_RUNS: u128 = 100_000;

/// A combination of values: one experiment, run as often as the sweep says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its number among all that the axes make, from 0, those left out included: the same on every host.
    pub number: usize,
    /// What it sets beside what all share, in the order of the axes.
    pub values: Vec<(Key, String)>,
}

impl Cell {
    /// What it sets, in words: `cpus=2 wait=halt`.
    #[must_use]
    pub fn text(&self) -> String {
        let values = self
            .values
            .iter()
            .map(|(key, value)| format!("{}={value}", key.name()));
        let text = values.collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            "all as under [base]".to_owned()
        } else {
            text
        }
    }
}

/// One run of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// Where its cell stands in [`Plan::cells`].
    pub cell: usize,
    /// Which run of the cell, from 0.
    pub repetition: u32,
}

/// What a sweep runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file that it is made of.
    pub file: SweepFile,
    /// What is run, in the order of the axes: the last changes fastest.
    pub cells: Vec<Cell>,
    /// What is left out, and why.
    pub skipped: Vec<(Cell, String)>,
}

impl Plan {
    /// Makes the plan of `file`, all of whose cells are understood now.
    ///
    /// # Errors
    /// [`SweepError`], naming the cell.
    pub fn new(file: SweepFile, limits: &HostLimits) -> Result<Self, SweepError> {
        check_size(&file)?;
        let mut plan = Self {
            cells: Vec::new(),
            skipped: Vec::new(),
            file,
        };
        let mut first_reason = None;
        for cell in combinations(&plan.file) {
            match plan.resolve(&cell, None, limits) {
                Ok(_) => plan.cells.push(cell),
                Err(error)
                    if plan.file.unsound == Unsound::Skip && does_not_go_together(&error) =>
                {
                    plan.skipped.push((cell, crate::error::chain(&error)));
                    first_reason = first_reason.or(Some(error));
                }
                Err(source) => return Err(plan.refused(&cell, source)),
            }
        }
        match first_reason {
            Some(source) if plan.cells.is_empty() => Err(SweepError::AllUnsound {
                path: plan.file.path,
                source: Box::new(source),
            }),
            _ => Ok(plan),
        }
    }

    fn refused(&self, cell: &Cell, source: ExperimentError) -> SweepError {
        SweepError::Cell {
            path: self.file.path.clone(),
            cell: cell.text(),
            remedy: match does_not_go_together(&source) {
                true => {
                    " (write unsound = \"skip\" at the top to leave out what does not go together)"
                }
                false => "",
            },
            source: Box::new(source),
        }
    }

    /// All runs in the order in which one process alone would do them: each cell once, then each again, every time in
    /// another order, so that a drift of the host meets all alike.
    #[must_use]
    pub fn order(&self) -> Vec<PlannedRun> {
        let round = |repetition| {
            let mut round: Vec<_> = (0..self.cells.len())
                .map(|cell| PlannedRun { cell, repetition })
                .collect();
            Rng::with_seed(mix(self.file.seed, 0, repetition)).shuffle(&mut round);
            round
        };
        (0..self.file.repeat).flat_map(round).collect()
    }

    /// What the directory of a run is called: the cell's number, and which run of it, from 1.
    #[must_use]
    pub fn name(&self, run: PlannedRun) -> String {
        format!("{:04}-{}", self.cells[run.cell].number, run.repetition + 1)
    }

    /// The experiment of a run. Its seed follows from the sweep's, unless it is set or varied.
    ///
    /// # Errors
    /// [`ExperimentError`] where this host cannot carry what another could.
    pub fn experiment(
        &self,
        run: PlannedRun,
        limits: &HostLimits,
    ) -> Result<Experiment, ExperimentError> {
        self.resolve(&self.cells[run.cell], Some(run.repetition), limits)
    }

    fn resolve(
        &self,
        cell: &Cell,
        repetition: Option<u32>,
        limits: &HostLimits,
    ) -> Result<Experiment, ExperimentError> {
        let path = &self.file.path;
        let mut settings: Settings = self.file.base.clone();
        for (key, value) in &cell.values {
            settings.set_of_file(path, *key, value.as_str());
        }
        let seed = mix(
            self.file.seed,
            cell.number as u64 + 1,
            repetition.unwrap_or(0),
        );
        // Short enough to be typed; it stands in the results.
        settings.set_of_file(path, Key::Seed, (seed >> 32).to_string());
        Experiment::resolve(&settings, limits)
    }
}

/// Settings that are each right, and not together.
const fn does_not_go_together(error: &ExperimentError) -> bool {
    matches!(
        error,
        ExperimentError::Unsound { .. }
            | ExperimentError::Elsewhere { .. }
            | ExperimentError::Idle { .. }
            | ExperimentError::TooLittleMemory { .. }
            | ExperimentError::TooShort { .. }
            | ExperimentError::TooFewCpus { .. }
    )
}

fn check_size(file: &SweepFile) -> Result<(), SweepError> {
    let lengths = file.axes.iter().map(|axis| axis.rows.len() as u128);
    let cells = lengths.fold(1u128, u128::saturating_mul);
    let runs = cells.saturating_mul(file.repeat.into());
    if runs > MOST_RUNS {
        return Err(SweepError::TooMany {
            path: file.path.clone(),
            runs,
            most: MOST_RUNS,
        });
    }
    Ok(())
}

/// Every row of each axis with every row of the others.
fn combinations(file: &SweepFile) -> Vec<Cell> {
    let mut all = vec![Vec::new()];
    for axis in &file.axes {
        let with = |before: &Vec<(Key, String)>, row: &Vec<String>| {
            let new = axis.keys.iter().copied().zip(row.iter().cloned());
            before.iter().cloned().chain(new).collect::<Vec<_>>()
        };
        all = all
            .iter()
            .flat_map(|before| axis.rows.iter().map(move |row| with(before, row)))
            .collect();
    }
    let cells = all.into_iter().enumerate();
    cells
        .map(|(number, values)| Cell { number, values })
        .collect()
}

/// A seed of its own for each purpose and repetition (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
fn mix(seed: Seed, purpose: u64, repetition: u32) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64| {
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    [purpose, repetition.into()]
        .into_iter()
        .fold(step(seed.0.wrapping_add(GOLDEN)), |state, word| {
            step(state.wrapping_add(word.wrapping_add(1).wrapping_mul(GOLDEN)))
        })
}

/// The plan of a text, on a host that has room for it.
#[cfg(test)]
pub(super) fn plan_of(text: &str) -> Result<Plan, SweepError> {
    let file = SweepFile::parse(std::path::Path::new("x.toml"), text.to_owned())?;
    let limits = HostLimits {
        cpus: "0-7".parse().expect("CPUs"),
        memory: crate::units::Size::from_mib(8 << 10),
    };
    Plan::new(file, &limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn cells_are_all_combinations_the_last_axis_first() {
        let plan =
            plan_of("[matrix]\ncpus = [1, 2]\n[[zip]]\nbatch = [1, 32]\nrate = ['max', 1000]\n")
                .expect("a plan");
        let cells: Vec<_> = plan.cells.iter().map(Cell::text).collect();
        assert_eq!(
            cells,
            [
                "cpus=1 batch=1 rate=max",
                "cpus=1 batch=32 rate=1000",
                "cpus=2 batch=1 rate=max",
                "cpus=2 batch=32 rate=1000"
            ]
        );
        assert_eq!(
            plan_of("").expect("one").cells[0].text(),
            "all as under [base]"
        );
    }

    #[test]
    fn each_round_has_each_cell_in_an_order_of_its_own() {
        let plan =
            plan_of("repeat = 3\n[matrix]\nbatch = [1, 2, 3, 4, 5, 6, 7, 8]\n").expect("a plan");
        let order = plan.order();
        assert_eq!(order, plan.order(), "the same every time");
        let rounds: Vec<Vec<_>> = order
            .chunks(8)
            .map(|round| round.iter().map(|run| run.cell).collect())
            .collect();
        for (number, round) in rounds.iter().enumerate() {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 8);
            assert!(
                order
                    .chunks(8)
                    .nth(number)
                    .expect("a round")
                    .iter()
                    .all(|run| run.repetition == number as u32)
            );
        }
        assert!(
            rounds[0] != rounds[1] && rounds[1] != rounds[2],
            "{rounds:?}"
        );
        let names: BTreeSet<_> = order.iter().map(|run| plan.name(*run)).collect();
        assert_eq!(names.len(), 24);
        assert!(names.contains("0007-3"));
    }

    #[test]
    fn each_run_has_a_seed_of_its_own_unless_it_is_told() {
        let limits = HostLimits {
            cpus: "0-1".parse().expect("CPUs"),
            memory: crate::units::Size::from_mib(1024),
        };
        let seeds = |text: &str| -> BTreeSet<u64> {
            let plan = plan_of(text).expect("a plan");
            let seed = |run: PlannedRun| plan.experiment(run, &limits).expect("sound").seed.0;
            plan.order().into_iter().map(seed).collect()
        };
        assert_eq!(seeds("repeat = 4\n[matrix]\nbatch = [1, 2, 3]\n").len(), 12);
        assert_eq!(seeds("repeat = 4\n[base]\nseed = 7\n"), [7].into());
        assert_eq!(
            seeds("repeat = 4\n[matrix]\nseed = [7, 8]\n"),
            [7, 8].into()
        );
        assert!(seeds("repeat = 4\n").is_disjoint(&seeds("repeat = 4\nseed = 2\n")));
    }

    #[test]
    fn what_does_not_go_together_is_refused_or_left_out() {
        let unsound = "[base]\nbackend = 'copy'\n[matrix]\nallocate = ['ahead', 'window']\n";
        let message = chain(&plan_of(unsound).expect_err("copy allocates in the window"));
        for part in [
            "x.toml, cell allocate=window",
            "unsound = \"skip\"",
            "choose --backend remap",
        ] {
            assert!(message.contains(part), "{message}");
        }
        let plan = plan_of(&format!("unsound = 'skip'\n{unsound}")).expect("one is left");
        assert_eq!((plan.cells.len(), plan.skipped.len()), (1, 1));
        assert_eq!(plan.cells[0].number, 0);
        assert!(plan.skipped[0].1.contains("remap"));
        let none = "unsound = 'skip'\n[base]\nbackend = 'copy'\nallocate = 'window'\n";
        let message = chain(&plan_of(none).expect_err("nothing is left"));
        assert!(
            message.contains("nothing would be run") && message.contains("remap"),
            "{message}"
        );
        let wrong = "unsound = 'skip'\n[matrix]\nbatch = [1, 513]\n";
        let message = chain(&plan_of(wrong).expect_err("a wrong value is never left out"));
        assert!(
            message.contains("cell batch=513") && message.contains("512"),
            "{message}"
        );
    }

    #[test]
    fn ten_million_cells_are_refused_before_they_are_made() {
        let values: Vec<_> = (0..100).map(|value| value.to_string()).collect();
        let axis = |key| format!("{key} = [{}]\n", values.join(","));
        let text = format!(
            "repeat = 10\n[matrix]\n{}{}{}",
            axis("seed"),
            axis("batch"),
            axis("rate")
        );
        let message = plan_of(&text).expect_err("ten million").to_string();
        assert!(
            message.contains("10000000 runs") && message.contains("100000 at most"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn numbers_do_not_depend_on_what_is_left_out(axes in proptest::collection::vec(1usize..5, 0..4)) {
            let keys = ["batch", "movers", "uffds", "cpus"];
            let lines = axes.iter().zip(keys).map(|(length, key)| {
                let values: Vec<_> = (1..=*length).map(|value| value.to_string()).collect();
                format!("{key} = [{}]\n", values.join(","))
            });
            let text = format!("[matrix]\n{}", lines.collect::<String>());
            let plan = plan_of(&text).expect("all sound");
            prop_assert_eq!(plan.cells.len(), axes.iter().product::<usize>());
            prop_assert!(plan.cells.iter().enumerate().all(|(number, cell)| cell.number == number));
        }
    }
}
