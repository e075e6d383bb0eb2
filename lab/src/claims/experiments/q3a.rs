//! Q3a: counter and sequence, against faults that take their time.

use super::invalidation::{LOST, device, note};
use crate::claims::plan::{Answer, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs, unsound};
use crate::record::DmaRecord;
use crate::settings::Key;

/// A device whose cache holds one translation, so that it faults at nearly every access, and whose faults
/// take about as long as a page is being moved.
const COMMON: Flags = &[
    (Key::Workload, "dma"),
    (Key::Cpus, "2"),
    (Key::Strategy, "protect-copy"),
    (Key::Backend, "remap"),
    (Key::Target, "data"),
    (Key::Rate, "20000"),
    (Key::Duration, "3s"),
    (Key::Control, "10%"),
    (Key::Parameters, POOL),
];

const POOL: &str = "renew=0,cache=1,lookup-us=20,tracking=pool";
const STACK: &str = "renew=0,cache=1,lookup-us=20,tracking=stack";
const SPACE: &str = "renew=0,cache=1,lookup-us=20,tracking=space";

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("pool", &[]),
    PlannedRun::good("stack", &[(Key::Parameters, STACK)]),
    PlannedRun::good("space", &[(Key::Parameters, SPACE)]),
    PlannedRun::busted(
        "busted-no-sequence",
        &[(Key::Variant, "busted-invalidate-no-sequence")],
        LOST,
        4,
    ),
];

/// Right forms.
const GOOD: [&str; 3] = ["pool", "stack", "space"];
/// Times that counter and sequence, each of them, must have sent a fault back in each run.
const LEAST: u64 = 100;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q3a",
    criterion: "yes if, with each way of keeping track, the counter sent faults back 100 times or more, the \
                sequence 100 times when they had looked their page up, every byte arrived and no old frame was \
                written; no if a byte was wrong or an old frame written; inconclusive below 100",
    common: COMMON,
    runs: RUNS,
    judge,
};

/// Times that the counter sent a fault back, and times that the sequence did.
fn sent_back(dma: &DmaRecord) -> [u64; 2] {
    [dma.retries - dma.overtaken, dma.overtaken]
}

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let (mut least, mut wrong) = ([u64::MAX; 2], None);
    for name in GOOD {
        note(runs, name, measured)?;
        let sent_back = sent_back(device(runs, name)?);
        least = [0, 1].map(|which| least[which].min(sent_back[which]));
        let why = unsound(runs.record(name)?);
        wrong = wrong.or_else(|| why.map(|why| format!("{name}: {why}")));
    }
    note(runs, "busted-no-sequence", measured)?;
    let [counter, sequence] = least;
    let reason = format!(
        "with each way of keeping track the counter sent faults back {counter} times or more, the \
         sequence {sequence} times"
    );
    Ok(match wrong {
        Some(why) => Verdict::new(Answer::No, why),
        None if counter < LEAST || sequence < LEAST => Verdict::inconclusive(reason),
        None => Verdict::yes_if(true, format!("{reason}, and nothing was wrong")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::invalidation::with_device;
    use crate::claims::runs::test_runs;

    #[test]
    fn the_criterion_is_what_it_says() {
        for (retries, overtaken, errors, answer) in [
            (200, 100, 0, Answer::Yes),
            (199, 100, 0, Answer::Inconclusive),
            (1_000, 99, 0, Answer::Inconclusive),
            (1_000, 500, 1, Answer::No),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                with_device(record, |dma| {
                    (dma.retries, dma.overtaken) = (retries, overtaken);
                });
                record.integrity.errors = if name == "stack" { errors } else { 0 };
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
    }
}
