//! Whether vCPUs took interrupts while they waited for a page in flight.

use crate::human;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Stalls that began while the page accessed was away, and the interrupts of the vCPU as long as it was certainly so: from
/// the return of the call that unmaps to the end of the copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Such stalls.
    pub stalls: u64,
    /// Of these, those in which a handler of any interrupt began within that time.
    pub interrupted: u64,
    /// Of `stalls`, those in which a tick was due within it, 50 µs before its end or more.
    pub due: u64,
    /// Of `due`, those in which no such tick had its handler begin within it.
    pub late: u64,
}

impl Answers {
    /// Of `due`, those whose tick was handled while the vCPU waited.
    #[must_use]
    pub const fn in_time(self) -> u64 {
        self.due.saturating_sub(self.late)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            stalls: self.stalls + other.stalls,
            interrupted: self.interrupted + other.interrupted,
            due: self.due + other.due,
            late: self.late + other.late,
        }
    }
}

/// By the wait policy that held for the page accessed, and by its kind.
pub type AnswersByWait = BTreeMap<&'static str, BTreeMap<&'static str, Answers>>;

/// How many ticks that were due in the wait were handled in it, by wait policy, in words; `None` where none was due.
#[must_use]
pub fn ticks_in_waits<Word: AsRef<str> + Ord>(
    answers: &BTreeMap<Word, BTreeMap<Word, Answers>>,
) -> Option<String> {
    let sums = answers.iter().map(|(wait, kinds)| {
        let sum = kinds.values().copied();
        (wait, sum.fold(Answers::default(), Answers::plus))
    });
    let told = sums.filter(|(_, sum)| sum.due > 0).map(|(wait, sum)| {
        let [in_time, due] = [sum.in_time(), sum.due].map(human::short_count);
        format!("{in_time} of {due} ({})", wait.as_ref())
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| format!("taken in the wait for a page: {}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_told_by_policy_where_any_was_due() {
        let answers = |due, late| Answers {
            stalls: 10,
            interrupted: 0,
            due,
            late,
        };
        let none = BTreeMap::from([("halt", BTreeMap::from([("data", answers(0, 0))]))]);
        assert_eq!(ticks_in_waits(&none), None);
        let some = BTreeMap::from([
            ("block", BTreeMap::from([("data", answers(7, 7))])),
            (
                "spin",
                BTreeMap::from([("data", answers(3, 1)), ("slab", answers(2, 2))]),
            ),
            ("yield", BTreeMap::new()),
        ]);
        assert_eq!(
            ticks_in_waits(&some).as_deref(),
            Some("taken in the wait for a page: 0 of 7 (block), 2 of 5 (spin)")
        );
    }
}
