//! Q4a: the throughput of speculative page faults against the number of threads.

use super::fault_paths::{CAUGHT, NO_SEQUENCE_CHECK, Rates, suffix};
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};

const COMMON: Flags = &[
    (Key::Workload, "fault"),
    (Key::Cpus, "2"),
    (Key::Memory, "256MiB"),
    (Key::Duration, "2s"),
];

/// Eight threads three times, by turns: they decide.
const RUNS: &[PlannedRun] = &[
    PlannedRun::control(
        "none",
        &[
            (Key::Strategy, "none"),
            (Key::Parameters, "path=speculative,threads=8"),
        ],
    ),
    PlannedRun::good(
        "mmap-lock-1",
        &[(Key::Parameters, "path=mmap-lock,threads=1")],
    ),
    PlannedRun::good(
        "vma-lock-1",
        &[(Key::Parameters, "path=vma-lock,threads=1")],
    ),
    PlannedRun::good(
        "speculative-1",
        &[(Key::Parameters, "path=speculative,threads=1")],
    ),
    PlannedRun::good(
        "mmap-lock-2",
        &[(Key::Parameters, "path=mmap-lock,threads=2")],
    ),
    PlannedRun::good(
        "vma-lock-2",
        &[(Key::Parameters, "path=vma-lock,threads=2")],
    ),
    PlannedRun::good(
        "speculative-2",
        &[(Key::Parameters, "path=speculative,threads=2")],
    ),
    PlannedRun::good(
        "mmap-lock-4",
        &[(Key::Parameters, "path=mmap-lock,threads=4")],
    ),
    PlannedRun::good(
        "vma-lock-4",
        &[(Key::Parameters, "path=vma-lock,threads=4")],
    ),
    PlannedRun::good(
        "speculative-4",
        &[(Key::Parameters, "path=speculative,threads=4")],
    ),
    PlannedRun::good(
        "mmap-lock-8a",
        &[(Key::Parameters, "path=mmap-lock,threads=8")],
    ),
    PlannedRun::good(
        "vma-lock-8a",
        &[(Key::Parameters, "path=vma-lock,threads=8")],
    ),
    PlannedRun::good(
        "speculative-8a",
        &[(Key::Parameters, "path=speculative,threads=8")],
    ),
    PlannedRun::good(
        "mmap-lock-8b",
        &[(Key::Parameters, "path=mmap-lock,threads=8")],
    ),
    PlannedRun::good(
        "vma-lock-8b",
        &[(Key::Parameters, "path=vma-lock,threads=8")],
    ),
    PlannedRun::good(
        "speculative-8b",
        &[(Key::Parameters, "path=speculative,threads=8")],
    ),
    PlannedRun::good(
        "mmap-lock-8c",
        &[(Key::Parameters, "path=mmap-lock,threads=8")],
    ),
    PlannedRun::good(
        "vma-lock-8c",
        &[(Key::Parameters, "path=vma-lock,threads=8")],
    ),
    PlannedRun::good(
        "speculative-8c",
        &[(Key::Parameters, "path=speculative,threads=8")],
    ),
    PlannedRun::busted("busted-no-sequence-check", NO_SEQUENCE_CHECK, CAUGHT, 3),
];

const THREADS: [(u32, &[&str]); 4] = [
    (1, &["1"]),
    (2, &["2"]),
    (4, &["4"]),
    (8, &["8a", "8b", "8c"]),
];

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q4a",
    criterion: "yes if, while pages move, eight threads fault at least as often on the speculative \
                path in each of three runs as under the address space's lock in any of three, no if \
                less often in each; inconclusive if these runs overlap, or one was not sound",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut said = Vec::new();
    let mut reach = None;
    for phase in [Control, Moving] {
        said.clear();
        for (threads, which) in THREADS {
            let mut rates = |path: &str| {
                let names: Vec<String> = which.iter().map(|run| format!("{path}-{run}")).collect();
                Rates::of(runs, &names, phase, measured)
            };
            let (mmap, vma) = (rates("mmap-lock")?, rates("vma-lock")?);
            let speculative = rates("speculative")?;
            let name = |path: &str| format!("{path}-{threads}.of_mmap-lock{}", suffix(phase));
            vma.ratio(&mmap, &name("vma-lock"), measured)?;
            let ratio = speculative.ratio(&mmap, &name("speculative"), measured)?;
            said.push(format!("{ratio:.2}"));
            reach = speculative.reach(&mmap);
        }
    }
    let reason = format!(
        "{} times the faults of the address space's lock with 1, 2, 4 and 8 threads",
        said.join(", ")
    );
    Ok(match reach {
        Some(met) => Verdict::yes_if(met, reason),
        None => Verdict::inconclusive(format!("the runs with 8 overlap: {reason}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fault_paths::test;
    use super::*;
    use crate::claims::plan::Answer;

    #[test]
    fn most_threads_decide() {
        for (four, eight, expected) in [
            (1_000, [1_000; 3], Answer::Yes),
            (1, [1_001; 3], Answer::Yes),
            (2_000, [999; 3], Answer::No),
            (2_000, [999, 1_001, 1_002], Answer::Inconclusive),
        ] {
            let runs = test::runs(&PLAN, |name| match name {
                "speculative-4" => four,
                "speculative-8a" => eight[0],
                "speculative-8b" => eight[1],
                "speculative-8c" => eight[2],
                _ => 1_000,
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, expected);
        }
    }

    #[test]
    fn an_unsound_run_is_no_figure() {
        let mut runs = test::runs(&PLAN, |_| 1_000);
        let done = runs.0.iter_mut();
        for done in done.filter(|done| done.planned.name == "speculative-1") {
            done.record.integrity.errors = 1;
        }
        assert!(judge(&runs, &mut Measured::default()).is_err());
    }
}
