//! The other ways out that the thread of Q1e names, beside the kinds of RCU themselves: spinlocks turned
//! into mutexes with RCU turned into sleepable RCU, and spinlocks that sleep; and where a backlog ends.

use crate::claims::plan::{Checker, Flags, PlannedRun};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use std::fmt;
use underfoot_abi::RecordedPhase::{Control, Moving};
use underfoot_abi::{Metric, RecordedPhase};

/// The tree of `walk` in one of its forms, with threads enough that holders and readers are preempted.
macro_rules! walk {
    ($form:literal $(, $more:expr)*) => {
        &[
            (Key::Workload, "walk"),
            (Key::Parameters, concat!("protect=", $form, ",threads=2")),
            (Key::Duration, "2s"),
            (Key::Control, "50%"),
            $($more),*
        ]
    };
}

/// What is compared with the form that comes first.
const FORMS: [&str; 3] = ["classic", "mutex-srcu", "sleeping-spinlock"];

/// Each form twice, by turns: the host's load changes.
pub const FORM_RUNS: [PlannedRun; 6] = [
    PlannedRun::good("walk-classic-1", walk!("classic")),
    PlannedRun::good("walk-mutex-srcu-1", walk!("mutex-srcu")),
    PlannedRun::good("walk-sleeping-spinlock-1", walk!("sleeping-spinlock")),
    PlannedRun::good("walk-classic-2", walk!("classic")),
    PlannedRun::good("walk-mutex-srcu-2", walk!("mutex-srcu")),
    PlannedRun::good("walk-sleeping-spinlock-2", walk!("sleeping-spinlock")),
];

/// A form whose lock is not taken: updates are lost.
pub const BUSTED_RUN: PlannedRun = PlannedRun::busted(
    "busted-walk",
    walk!("mutex-srcu", (Key::Variant, "busted-no-lock")),
    &[Checker::Integrity("updates were made")],
    3,
);

const BACKLOG_SHORT: Flags = &[
    (Key::Workload, "churn"),
    (Key::Parameters, "kind=preemptible,rate=10000,hold-us=100"),
    (Key::Duration, "2s"),
    (Key::Memory, "16MiB"),
];

const BACKLOG_LONG: Flags = &[
    (Key::Workload, "churn"),
    (
        Key::Parameters,
        "kind=preemptible,rate=10000,hold-us=100000",
    ),
    (Key::Duration, "2s"),
    (Key::Memory, "16MiB"),
];

/// Pages left to RCU at a rate, with readers that stay briefly, or for long.
pub const BACKLOG_RUNS: [PlannedRun; 2] = [
    PlannedRun::good("backlog-short", BACKLOG_SHORT),
    PlannedRun::good("backlog-long", BACKLOG_LONG),
];

/// How often each form runs.
const ROUNDS: usize = 2;

/// Operations of one form in parts of those of the first form of the same round: with the host's load
/// rounds differ, and by how much says what the figure is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    /// While nothing moved.
    pub control: [f64; ROUNDS],
    /// While pages moved.
    pub moving: [f64; ROUNDS],
}

impl fmt::Display for Ratios {
    /// `0.91 to 0.95 (0.84 to 0.88 while pages moved)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |ratios: [f64; ROUNDS]| {
            let least = ratios.into_iter().fold(f64::INFINITY, f64::min);
            let most = ratios.into_iter().fold(0.0, f64::max);
            format!("{least:.2} to {most:.2}")
        };
        let (control, moving) = (range(self.control), range(self.moving));
        write!(f, "{control} ({moving} while pages moved)")
    }
}

/// Notes what each form did and how long its sections and waits for locks were; the ratios of the later
/// forms.
///
/// # Errors
/// [`Missing`].
pub fn ratios(runs: &Runs, measured: &mut Measured) -> Result<[Ratios; 2], Missing> {
    let mut ratios = [Ratios {
        control: [0.0; ROUNDS],
        moving: [0.0; ROUNDS],
    }; FORMS.len() - 1];
    for round in 0..ROUNDS {
        let control = round_ratios(runs, measured, (Control, "control"), round)?;
        let moving = round_ratios(runs, measured, (Moving, "moving"), round)?;
        for (index, ratio) in ratios.iter_mut().enumerate() {
            ratio.control[round] = control[index];
            ratio.moving[round] = moving[index];
        }
    }
    Ok(ratios)
}

fn round_ratios(
    runs: &Runs,
    measured: &mut Measured,
    (phase, name): (RecordedPhase, &str),
    round: usize,
) -> Result<[f64; 2], Missing> {
    let mut rates = [0.0; FORMS.len()];
    for (rate, form) in rates.iter_mut().zip(FORMS) {
        let run = format!("walk-{form}-{}", round + 1);
        *rate = runs.operations_per_s(&run, phase)?;
        measured.set(format!("{run}.{name}.operations_per_s"), *rate);
        for (metric, what) in [
            (Metric::RcuRead, "read"),
            (Metric::LockWait, "lock_wait"),
            (Metric::LockHold, "lock_hold"),
        ] {
            let times = runs.histogram(&run, phase, metric.name())?;
            measured.latencies(format!("{run}.{name}.{what}"), times);
        }
    }
    let ratios = [rates[1] / rates[0], rates[2] / rates[0]];
    for (ratio, form) in ratios.iter().zip(&FORMS[1..]) {
        let run = format!("walk-{form}-{}", round + 1);
        measured.set(format!("{run}.{name}.by_classic"), *ratio);
    }
    Ok(ratios)
}

/// Notes how much memory waited and who went without; these of the readers that stay for long.
///
/// # Errors
/// [`Missing`].
pub fn backlog(runs: &Runs, measured: &mut Measured) -> Result<(u64, u64), Missing> {
    let mut last = (0, 0);
    for run in BACKLOG_RUNS.map(|run| run.name) {
        let [bytes, starved, left] = ["bytes_waiting_max", "starved", "operations"]
            .map(|counter| runs.counter(run, Moving, counter));
        last = (bytes?, starved?);
        measured.set(format!("{run}.bytes_waiting_max"), last.0);
        measured.set(format!("{run}.starved"), last.1);
        measured.set(format!("{run}.pages_freed"), left?);
        let grace = runs.histogram(run, Moving, Metric::GracePeriod.name())?;
        measured.latencies(format!("{run}.grace_period"), grace);
    }
    Ok(last)
}
