//! Q4a: the throughput of speculative page faults against the number of threads.

use super::fault_paths::{CAUGHT, NO_SEQUENCE_CHECK, median_rate, ratio};
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;

const COMMON: Flags = &[
    (Key::Workload, "fault"),
    (Key::Cpus, "2"),
    (Key::Memory, "256MiB"),
    (Key::Duration, "2s"),
];

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
        "mmap-lock-8",
        &[(Key::Parameters, "path=mmap-lock,threads=8")],
    ),
    PlannedRun::good(
        "vma-lock-8",
        &[(Key::Parameters, "path=vma-lock,threads=8")],
    ),
    PlannedRun::good(
        "speculative-8",
        &[(Key::Parameters, "path=speculative,threads=8")],
    ),
    PlannedRun::busted("busted-no-sequence-check", NO_SEQUENCE_CHECK, CAUGHT, 3),
];

const THREADS: [u32; 4] = [1, 2, 4, 8];

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q4a",
    criterion: "yes if, while pages move, eight threads fault at least as often on the speculative \
                path as under the address space's lock, and no run of the right form found anything \
                wrong",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut said = Vec::new();
    let mut last = 0.0;
    for threads in THREADS {
        let mut rate = |path: &str| {
            let run = format!("{path}-{threads}");
            median_rate(runs, &[&run], measured)
        };
        let rates = [rate("mmap-lock")?, rate("vma-lock")?, rate("speculative")?];
        let [mmap, vma, speculative] = rates;
        ratio(
            &format!("vma-lock-{threads}.of_mmap-lock"),
            vma,
            mmap,
            measured,
        )?;
        let name = format!("speculative-{threads}.of_mmap-lock");
        last = ratio(&name, speculative, mmap, measured)?;
        said.push(format!("{last:.2}"));
    }
    let reason = format!(
        "{} times the faults of the address space's lock with 1, 2, 4 and 8 threads",
        said.join(", ")
    );
    Ok(Verdict::yes_if(last >= 1.0, reason))
}

#[cfg(test)]
mod tests {
    use super::super::fault_paths::test;
    use super::*;
    use crate::claims::plan::Answer;

    #[test]
    fn most_threads_decide() {
        for (four, eight, expected) in [
            (1_000, 1_000, Answer::Yes),
            (1, 1_001, Answer::Yes),
            (2_000, 999, Answer::No),
        ] {
            let runs = test::runs(&PLAN, |name| match name {
                "speculative-4" => four,
                "speculative-8" => eight,
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
