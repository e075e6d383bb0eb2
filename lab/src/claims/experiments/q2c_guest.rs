//! Q2c.guest: a lock for each VMA, beside the address space's lock alone and sequence counts.

use super::fault_paths::{CAUGHT, NO_VMA_LOCK, Rates, suffix};
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

/// By turns, so that a host that becomes busy does not meet one path only.
const RUNS: &[PlannedRun] = &[
    PlannedRun::control(
        "none",
        &[
            (Key::Strategy, "none"),
            (Key::Parameters, "path=vma-lock,mappers=1"),
        ],
    ),
    PlannedRun::good(
        "mmap-lock-1",
        &[(Key::Parameters, "path=mmap-lock,mappers=1")],
    ),
    PlannedRun::good(
        "vma-lock-1",
        &[(Key::Parameters, "path=vma-lock,mappers=1")],
    ),
    PlannedRun::good(
        "speculative-1",
        &[(Key::Parameters, "path=speculative,mappers=1")],
    ),
    PlannedRun::good(
        "mmap-lock-2",
        &[(Key::Parameters, "path=mmap-lock,mappers=1")],
    ),
    PlannedRun::good(
        "vma-lock-2",
        &[(Key::Parameters, "path=vma-lock,mappers=1")],
    ),
    PlannedRun::good(
        "speculative-2",
        &[(Key::Parameters, "path=speculative,mappers=1")],
    ),
    PlannedRun::good(
        "mmap-lock-3",
        &[(Key::Parameters, "path=mmap-lock,mappers=1")],
    ),
    PlannedRun::good(
        "vma-lock-3",
        &[(Key::Parameters, "path=vma-lock,mappers=1")],
    ),
    PlannedRun::good(
        "speculative-3",
        &[(Key::Parameters, "path=speculative,mappers=1")],
    ),
    PlannedRun::busted("busted-no-vma-lock", NO_VMA_LOCK, CAUGHT, 3),
];

/// Changes of mappings beside the faults, below which there is nothing to wait for.
const LEAST_CHANGES: u64 = 100;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2c.guest",
    criterion: "yes if, while pages move and a thread maps and unmaps beside them, two threads fault \
                at least as often under the VMAs' locks in each of three runs as under the address \
                space's lock alone in any of three, no if less often in each; inconclusive if these \
                runs overlap, or one saw fewer than 100 changes of mappings",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let names = |path: &str| [1, 2, 3].map(|number| format!("{path}-{number}"));
    let [mmap, vma, speculative] = ["mmap-lock", "vma-lock", "speculative"].map(names);
    let mut fewest = u64::MAX;
    for run in mmap.iter().chain(&vma).chain(&speculative) {
        let changes = runs.counter(run, Moving, "changes")?;
        measured.set(format!("{run}.changes"), changes);
        fewest = fewest.min(changes);
    }
    let mut reach = None;
    let mut ratios = [0.0; 2];
    for phase in [Control, Moving] {
        let mmap = Rates::of(runs, &mmap, phase, measured)?;
        let vma = Rates::of(runs, &vma, phase, measured)?;
        let speculative = Rates::of(runs, &speculative, phase, measured)?;
        let name = |path: &str| format!("{path}.of_mmap-lock{}", suffix(phase));
        ratios = [
            vma.ratio(&mmap, &name("vma-lock"), measured)?,
            speculative.ratio(&mmap, &name("speculative"), measured)?,
        ];
        reach = vma.reach(&mmap);
    }
    let [locked, counted] = ratios;
    let reason = format!(
        "{locked:.2} times the faults of the address space's lock under the VMAs' locks, \
         {counted:.2} times with sequence counts (middle runs)"
    );
    Ok(match reach {
        _ if fewest < LEAST_CHANGES => {
            Verdict::inconclusive(format!("only {fewest} changes of mappings in a run"))
        }
        None => Verdict::inconclusive(format!("the runs overlap: {reason}")),
        Some(met) => Verdict::yes_if(met, reason),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fault_paths::test;
    use super::*;
    use crate::claims::plan::Answer;

    fn answer(mmap: u64, vma: [u64; 3], changes: u64) -> Answer {
        let mut runs = test::runs(&PLAN, |name| match name {
            "vma-lock-1" => vma[0],
            "vma-lock-2" => vma[1],
            "vma-lock-3" => vma[2],
            _ => mmap,
        });
        for done in &mut runs.0 {
            done.record.guest.moving.insert("changes", changes);
        }
        let verdict = judge(&runs, &mut Measured::default());
        verdict.expect("all is there").answer
    }

    #[test]
    fn the_vma_lock_must_be_as_fast() {
        for (mmap, vma, changes, expected) in [
            (1_000, [1_000, 1_000, 1_000], 100, Answer::Yes),
            (1_000, [1, 2_000, 1_001], 100, Answer::Inconclusive),
            (1_000, [999, 998, 1], 100, Answer::No),
            (1_000, [2_000, 2_000, 2_000], 99, Answer::Inconclusive),
        ] {
            assert_eq!(answer(mmap, vma, changes), expected, "{vma:?} {changes}");
        }
    }

    #[test]
    fn nothing_is_not_compared_with() {
        let runs = test::runs(&PLAN, |_| 0);
        assert!(judge(&runs, &mut Measured::default()).is_err());
    }
}
