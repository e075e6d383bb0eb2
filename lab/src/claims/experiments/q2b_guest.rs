//! Q2b.guest: whether fast paths that take memory first starve ordinary allocations.

use super::pressure::SHORT;
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;
use underfoot_abi::{Metric, ReportKind};

const COMMON: Flags = SHORT;

/// Nobody made room after one refusal of a fast path after the other.
const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::Starvation)];

/// The same forms with four faulters and with twelve.
const RUNS: &[PlannedRun] = &[
    PlannedRun::control(
        "none",
        &[
            (Key::Strategy, "none"),
            (Key::Parameters, "fallback=ordinary,faulters=4,allocators=4"),
        ],
    ),
    PlannedRun::good(
        "ordinary-4",
        &[(Key::Parameters, "fallback=ordinary,faulters=4,allocators=4")],
    ),
    PlannedRun::good(
        "reclaim-4",
        &[(Key::Parameters, "fallback=reclaim,faulters=4,allocators=4")],
    ),
    PlannedRun::good(
        "classic-4",
        &[(Key::Parameters, "fallback=classic,faulters=4,allocators=4")],
    ),
    PlannedRun::good(
        "ordinary-12",
        &[(
            Key::Parameters,
            "fallback=ordinary,faulters=12,allocators=4",
        )],
    ),
    PlannedRun::good(
        "reclaim-12",
        &[(Key::Parameters, "fallback=reclaim,faulters=12,allocators=4")],
    ),
    PlannedRun::good(
        "classic-12",
        &[(Key::Parameters, "fallback=classic,faulters=12,allocators=4")],
    ),
    PlannedRun::busted(
        "busted-never-pays-4",
        &[
            (Key::Parameters, "faulters=4,allocators=4"),
            (Key::Variant, "busted-never-pays"),
        ],
        CAUGHT,
        3,
    ),
    PlannedRun::busted(
        "busted-never-pays-12",
        &[
            (Key::Parameters, "faulters=12,allocators=4"),
            (Key::Variant, "busted-never-pays"),
        ],
        CAUGHT,
        3,
    ),
];

/// Numbers of faulters, and the forms of their fast path.
const FAULTERS: [u32; 2] = [4, 12];
const FORMS: [&str; 2] = ["reclaim", "classic"];

/// Times that ordinary allocations must have made room, where all are ordinary.
const LEAST_ROUNDS: u64 = 30;

/// How many times as often as among ordinary allocations others may have to make room.
const FACTOR: f64 = 1.5;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2b.guest",
    criterion: "yes if, while pages move, with four and with twelve faulters whose fast path pays, by either \
                fallback, ordinary allocations have to make room at most 1.5 times as often, for each page, \
                as where the faulters' are ordinary too; no if more often with each; inconclusive if more \
                often with some, if it was fewer than 30 times, or if it was no more often where the fast \
                path never pays",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut said = Vec::new();
    let (mut over, mut enough, mut tells) = (Vec::new(), true, true);
    for faulters in FAULTERS {
        let of = |form: &str, measured: &mut Measured| {
            Rounds::of(runs, &format!("{form}-{faulters}"), measured)
        };
        let base = of("ordinary", measured)?;
        enough &= base.rounds >= LEAST_ROUNDS;
        let mut ratio = |form: &str, rounds: &Rounds, measured: &mut Measured| {
            let ratio = rounds.each() / base.each();
            measured.set(format!("{form}-{faulters}.of_ordinary"), ratio);
            said.push(format!("{ratio:.2} with {form}-{faulters}"));
            ratio
        };
        for form in FORMS {
            let rounds = of(form, measured)?;
            rounds.note_times(runs, &format!("{form}-{faulters}"), measured)?;
            over.push(ratio(form, &rounds, measured) > FACTOR);
        }
        base.note_times(runs, &format!("ordinary-{faulters}"), measured)?;
        let busted = of("busted-never-pays", measured)?;
        tells &= ratio("busted-never-pays", &busted, measured) > FACTOR;
    }
    let reason = format!(
        "times as often as among ordinary allocations alone: {}",
        said.join(", ")
    );
    Ok(if !enough {
        Verdict::inconclusive(format!("there was room enough: {reason}"))
    } else if !tells {
        let reason = format!("never to pay starved nobody, so that this shows nothing: {reason}");
        Verdict::inconclusive(reason)
    } else if over.iter().all(|over| *over) {
        Verdict::new(Answer::No, reason)
    } else if over.contains(&true) {
        Verdict::inconclusive(format!("some are beyond the bound: {reason}"))
    } else {
        Verdict::yes_if(true, reason)
    })
}

/// How often the ordinary allocations of a run had to make room.
struct Rounds {
    allocations: u64,
    rounds: u64,
}

impl Rounds {
    /// Of any run; notes them.
    fn of(runs: &Runs, run: &str, measured: &mut Measured) -> Result<Self, Missing> {
        let counters = &runs.record(run)?.guest.moving;
        let mut count = |counter: &str| -> Result<u64, Missing> {
            let value = counters.get(counter).copied();
            let value = value.ok_or_else(|| Missing(format!("{run} counts no {counter}")))?;
            measured.set(format!("{run}.{counter}"), value);
            Ok(value)
        };
        let rounds = Self {
            allocations: count("allocations")?,
            rounds: count("rounds")?,
        };
        for counter in ["stalled", "failed", "no-memory", "reclaimed", "classic"] {
            count(counter)?;
        }
        Ok(rounds)
    }

    /// Notes how long allocations and faults of the run took, which must be sound.
    fn note_times(&self, runs: &Runs, run: &str, measured: &mut Measured) -> Result<(), Missing> {
        for (name, metric) in [("allocation", Metric::Operation), ("fault", Metric::Fault)] {
            let histogram = runs.histogram(run, Moving, metric.name())?;
            measured.latencies(format!("{run}.{name}"), histogram);
        }
        Ok(())
    }

    /// For each page.
    fn each(&self) -> f64 {
        self.rounds as f64 / self.allocations.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::pressure::test_counters;
    use crate::claims::runs::test_runs;

    #[test]
    fn what_ordinary_allocations_pay_is_the_bound() {
        // Rounds where all are ordinary, with each fallback, where nobody pays.
        for ([ordinary, reclaim, classic, busted], answer) in [
            ([100, 150, 150, 151], Answer::Yes),
            ([100, 50, 50, 200], Answer::Yes),
            ([100, 151, 150, 200], Answer::Inconclusive),
            ([100, 151, 151, 200], Answer::No),
            ([100, 100, 100, 150], Answer::Inconclusive),
            ([29, 29, 29, 100], Answer::Inconclusive),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                test_counters(record);
                let rounds = match run.split_once('-').map(|(form, _)| form) {
                    Some("reclaim") => reclaim,
                    Some("classic") => classic,
                    Some("busted") => busted,
                    _ => ordinary,
                };
                record.guest.moving.insert("allocations", 10_000);
                record.guest.moving.insert("rounds", rounds);
            });
            let verdict = judge(&runs, &mut Measured::default());
            let verdict = verdict.expect("all is there");
            assert_eq!(verdict.answer, answer, "{}", verdict.reason);
        }
    }
}
