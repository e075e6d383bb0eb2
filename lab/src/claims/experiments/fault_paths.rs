//! What the experiments on the paths of page faults have in common.

use crate::claims::plan::{Checker, Flags};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};
use underfoot_abi::{Metric, RecordedPhase, ReportKind};

/// An entry landed in a freed table.
pub const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::Fragment)];

/// The fault path is not locked out of tables that are torn down.
pub const NO_VMA_LOCK: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "path=vma-lock"),
    (Key::Variant, "busted-no-vma-lock"),
];

/// The speculative path does not see that tables are torn down.
pub const NO_SEQUENCE_CHECK: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "path=speculative"),
    (Key::Variant, "busted-no-sequence-check"),
];

/// Fault throughputs of runs that are alike, in operations per second, ascending.
#[derive(Clone, Debug)]
pub struct Rates(Vec<f64>);

impl Rates {
    /// Those of these runs in `phase`; notes them, and the latencies of the faults.
    pub fn of<S: AsRef<str>>(
        runs: &Runs,
        names: &[S],
        phase: RecordedPhase,
        measured: &mut Measured,
    ) -> Result<Self, Missing> {
        let mut rates = Vec::new();
        for run in names.iter().map(AsRef::as_ref) {
            let suffix = suffix(phase);
            let rate = runs.operations_per_s(run, phase)?;
            measured.set(format!("{run}.operations_per_s{suffix}"), rate);
            let faults = runs.histogram(run, phase, Metric::Fault.name())?;
            measured.latencies(format!("{run}.fault{suffix}"), faults);
            rates.push(rate);
        }
        rates.sort_by(f64::total_cmp);
        Ok(Self(rates))
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    /// Whether all of these are at least as high as all of `others`, or all lower; `None` if they
    /// overlap, so that chance may have chosen between them.
    pub fn reach(&self, others: &Self) -> Option<bool> {
        let (Some(least), Some(most)) = (self.0.first(), self.0.last()) else {
            return None;
        };
        if others.0.iter().all(|other| least >= other) {
            return Some(true);
        }
        others.0.iter().all(|other| most < other).then_some(false)
    }

    /// How the middle one compares with that of `base`; noted as `name`.
    pub fn ratio(&self, base: &Self, name: &str, measured: &mut Measured) -> Result<f64, Missing> {
        let base = base.median();
        if base <= 0.0 {
            let reason = format!("nothing was done that {name} compares with");
            return Err(Missing(reason));
        }
        let ratio = self.median() / base;
        measured.set(name, ratio);
        Ok(ratio)
    }
}

/// What figures of `phase` are marked with.
pub const fn suffix(phase: RecordedPhase) -> &'static str {
    match phase {
        Control => ".control",
        Moving => "",
    }
}

#[cfg(test)]
pub mod test {
    use crate::claims::plan::Plan;
    use crate::claims::runs::{Runs, test_runs};
    use crate::histogram::Histogram;
    use underfoot_abi::Metric;

    /// Sound runs of `plan`, each with so many operations as `operations` says.
    pub fn runs(plan: &Plan, operations: impl Fn(&str) -> u64) -> Runs {
        test_runs(plan.runs, |run, record| {
            let mut faults = Histogram::new();
            faults.record(5_000);
            let name = Metric::Fault.name().to_owned();
            record.control.insert(name.clone(), faults.clone());
            record.moving.insert(name, faults);
            record.guest.moving.insert("operations", operations(run));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_rates_tell_nothing() {
        let rates = |rates: &[f64]| Rates(rates.to_vec());
        let base = rates(&[10.0, 20.0, 30.0]);
        for (others, reach) in [
            (rates(&[30.0, 31.0, 32.0]), Some(true)),
            (rates(&[7.0, 8.0, 9.0]), Some(false)),
            (rates(&[29.0, 50.0, 60.0]), None),
            (rates(&[8.0, 9.0, 10.0]), None),
            (rates(&[]), None),
        ] {
            assert_eq!(others.reach(&base), reach, "{others:?}");
        }
    }
}
