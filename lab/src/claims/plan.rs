//! How a question is answered: the runs, and what they are held against, said beforehand.

use super::runs::{Measured, Missing, Runs};
use crate::experiment::Experiment;
use crate::guest_record;
use crate::host_limits::HostLimits;
use crate::record::{Ending, RunRecord};
use crate::settings::{ExperimentError, Key, Settings};
use crate::units::Seed;
use underfoot_abi::ReportKind;

/// Settings as data.
pub type Flags = &'static [(Key, &'static str)];

/// Which check must speak up for a busted form to count as caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    /// A report of this kind by one of the guest's checkers, made before the run was ended.
    Report(ReportKind),
    /// A finding under `integrity.details` that contains this.
    Integrity(&'static str),
    /// The watchdog ended the run.
    Watchdog,
    /// The engine's watchdog found a deadlock.
    Deadlock,
}

impl Checker {
    /// What this checker said about `record`; `None` if it did not speak up.
    #[must_use]
    pub fn finding(self, record: &RunRecord) -> Option<String> {
        match self {
            Self::Report(kind) => record.guest.report_in_time(kind).map(guest_record::line),
            Self::Integrity(part) => {
                let mut details = record.integrity.details.iter();
                details.find(|detail| detail.contains(part)).cloned()
            }
            Self::Watchdog => (record.outcome.ending == Ending::Watchdog)
                .then(|| record.outcome.message.clone().unwrap_or_default()),
            Self::Deadlock => record.deadlock(),
        }
    }
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Must be clean, or the experiment says nothing.
    Control,
    /// What the question is about.
    Good,
    /// Deliberately wrong; one of these checkers must speak up within so many attempts.
    Busted(&'static [Checker], u32),
}

/// One run of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// What it is called, in the results and as a directory.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// What it sets over [`Plan::common`].
    pub flags: Flags,
}

impl PlannedRun {
    /// A run that must be clean.
    #[must_use]
    pub const fn control(name: &'static str, flags: Flags) -> Self {
        let role = Role::Control;
        Self { name, role, flags }
    }

    /// A run that the question is about.
    #[must_use]
    pub const fn good(name: &'static str, flags: Flags) -> Self {
        let role = Role::Good;
        Self { name, role, flags }
    }

    /// A deliberately wrong run that one of `checkers` must catch within `attempts`: more than one
    /// only where it is wrong by chance.
    #[must_use]
    pub const fn busted(
        name: &'static str,
        flags: Flags,
        checkers: &'static [Checker],
        attempts: u32,
    ) -> Self {
        let role = Role::Busted(checkers, attempts);
        Self { name, role, flags }
    }
}

/// What the runs say of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The criterion is met.
    Yes,
    /// It is not.
    No,
    /// Too little was seen to tell.
    Inconclusive,
    /// It cannot be measured here.
    Unmeasurable,
}

impl Answer {
    /// The word for it in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Inconclusive => "inconclusive",
            Self::Unmeasurable => "unmeasurable",
        }
    }
}

/// An answer and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// Why, in one line.
    pub reason: String,
}

impl Verdict {
    /// `answer`, because of `reason`.
    pub fn new(answer: Answer, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { answer, reason }
    }

    /// [`Answer::Yes`] if `met`, else [`Answer::No`].
    pub fn yes_if(met: bool, reason: impl Into<String>) -> Self {
        Self::new(if met { Answer::Yes } else { Answer::No }, reason)
    }

    /// Too little was seen to tell.
    pub fn inconclusive(reason: impl Into<String>) -> Self {
        Self::new(Answer::Inconclusive, reason)
    }
}

/// Holds the runs against the criterion and notes what was measured.
pub type Judge = fn(&Runs, &mut Measured) -> Result<Verdict, Missing>;

/// The experiment of one question.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The question.
    pub id: &'static str,
    /// When the answer is yes, no or inconclusive, in words, written before the runs.
    pub criterion: &'static str,
    /// What all runs have in common.
    pub common: Flags,
    /// The runs, in order; at least one control and one busted form.
    pub runs: &'static [PlannedRun],
    /// The criterion as a function. Called with every run done, sound or not.
    pub judge: Judge,
}

impl Plan {
    /// The experiment of `run` on a host with `limits`.
    ///
    /// # Errors
    /// [`ExperimentError`]: this host cannot carry it.
    pub fn experiment(
        &self,
        run: &PlannedRun,
        seed: Option<Seed>,
        limits: &HostLimits,
    ) -> Result<Experiment, ExperimentError> {
        let mut settings = Settings::default();
        for (key, value) in self.common.iter().chain(run.flags) {
            settings.set_flag(*key, *value);
        }
        if let Some(seed) = seed {
            settings.set_flag(Key::Seed, seed.to_string());
        }
        Experiment::resolve(&settings, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_record::{test_record, test_report};

    #[test]
    fn checkers_speak_for_themselves_only() {
        let report = Checker::Report(ReportKind::LockCycle);
        let integrity = Checker::Integrity("audit");
        let all = [report, integrity, Checker::Watchdog];
        let spoke = |record: &RunRecord| all.map(|checker| checker.finding(record).is_some());
        let mut record = test_record();
        assert_eq!(spoke(&record), [false; 3]);

        record.integrity.details = vec!["audit: 7 updates lost".into()];
        assert_eq!(spoke(&record), [false, true, false]);
        record.integrity.details = vec!["limbo: stale".into()];
        assert_eq!(spoke(&record), [false; 3]);

        record.outcome.ending = Ending::Watchdog;
        assert_eq!(spoke(&record), [false, false, true]);
        record.guest.reports = vec![test_report(0, ReportKind::LockCycle)];
        assert_eq!(spoke(&record), [false, false, true], "made after the end");
        record.guest.reports_before_end = 1;
        assert_eq!(spoke(&record), [true, false, true]);
        record.guest.reports = vec![test_report(0, ReportKind::LockContext)];
        assert_eq!(spoke(&record), [false, false, true], "another kind");
    }
}
