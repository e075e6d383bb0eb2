//! The questions that this project answers.

use crate::names::hint;
use crate::units::ValueError;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the user writes.
    pub id: &'static str,
    /// The question, in one sentence.
    pub text: &'static str,
}

const fn ask(id: &'static str, text: &'static str) -> Question {
    Question { id, text }
}

/// All of them, in the order in which they are listed.
pub const QUESTIONS: &[Question] = &[
    ask(
        "Q1a",
        "Can a reader that waits for a moving page deadlock with a mover that waits for readers, and does a mover that never waits for them exclude it?",
    ),
    ask(
        "Q1b",
        "Does a reader that spins on a moving page wait for one window only, and how long is that, to the last percentile, beside blocking and halting?",
    ),
    ask(
        "Q1c",
        "How much longer does a window become when the spinning vCPU, the lock holder or the mover loses its CPU?",
    ),
    ask(
        "Q1d",
        "Does no vCPU reach the old frame after the flush, whatever it was doing, and what does the shootdown cost while a target cannot answer?",
    ),
    ask(
        "Q1e",
        "What do preemptible RCU with and without boosting, sleepable RCU and sleeping locks cost in grace periods, backlog and memory, beside classic RCU?",
    ),
    ask(
        "Q1f",
        "Does each way of moving a page keep to the rule of thumb, that what could be done under a spinlock may be spun for in a read section?",
    ),
    ask(
        "Q1g",
        "Does stopping the world cost more than moving pages under a running guest, and allocating inside the window more than before it?",
    ),
    ask(
        "Q2a.guest",
        "Does the guest's allocation under RCU keep to its rules: never sleep, never reclaim, leave the reserve alone, and fall back when memory is short?",
    ),
    ask(
        "Q2b.guest",
        "Are the stalls of others those of ordinary allocations, however often the guest's speculative path takes memory first?",
    ),
    ask(
        "Q2c.guest",
        "Is a lock for each area, tried under RCU, better for the guest's faults than one address-space lock or sequence counts?",
    ),
    ask(
        "Q2a.engine",
        "Does the migrator's fault path take frames without sleeping, reclaiming or touching the reserve, and fall back when they are short?",
    ),
    ask(
        "Q2b.engine",
        "Are the stalls of others those of the slow path, however often the migrator's fast path takes frames first?",
    ),
    ask(
        "Q2c.engine",
        "Is a lock for each region, looked up without a lock, better for the migrator's faults than one lock or sequence counts?",
    ),
    ask(
        "Q2d",
        "Does locking the area in the fault and in the teardown keep a new table out of an upper level that is about to be freed?",
    ),
    ask(
        "Q3a",
        "Does a fault that checks the invalidation count and sequence never install a translation of a range that is being invalidated?",
    ),
    ask(
        "Q3b",
        "Does registering a listener in the middle of an invalidation leave its count right?",
    ),
    ask(
        "Q3c",
        "Can invalidations be tracked without allocating, by the caller's stack, a fixed pool or a count for the whole space, and what does each cost?",
    ),
    ask(
        "Q3d",
        "Do faults under steady invalidation starve, and does tracking by range instead of by address space prevent it?",
    ),
    ask(
        "Q4a",
        "Do speculative faults without the address-space lock give more throughput as threads are added, and stay correct?",
    ),
    ask(
        "Q4b",
        "Is the lock cycle of sequence count, reclaim and reverse map reported before it hangs, and can it hang at all?",
    ),
    ask(
        "Q5a",
        "Can page-table fragments be freed by RCU and reused without a double use of the page's callback head or a page freed too early?",
    ),
    ask(
        "Q5b",
        "Does a lock that task context and the RCU callback share deadlock with bottom halves on, and not with them off?",
    ),
    ask(
        "Q5c",
        "Is a type-stable owner of the lock enough for a callback that runs after its address space is gone?",
    ),
    ask(
        "Q5d",
        "Do address spaces exit faster when page tables are freed later than when each exit waits for a grace period?",
    ),
    ask(
        "Q5e",
        "Does mapping and unmapping a region under access survive the migration of the page tables themselves?",
    ),
    ask(
        "Q5f",
        "How much memory would page tables waste without fragments?",
    ),
];

/// The question called `id`; letter case does not matter.
///
/// # Errors
/// [`ValueError::UnknownName`] with the nearest, or with all.
pub fn question(id: &str) -> Result<&'static Question, ValueError> {
    let asked = id.trim();
    QUESTIONS
        .iter()
        .find(|question| question.id.eq_ignore_ascii_case(asked))
        .ok_or_else(|| ValueError::UnknownName {
            value: id.to_owned(),
            what: "question",
            hint: hint(asked, QUESTIONS.iter().map(|question| question.id)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_there_once_and_is_one_sentence() {
        assert_eq!(QUESTIONS.len(), 26);
        for asked in QUESTIONS {
            assert_eq!(question(asked.id), Ok(asked));
            assert_eq!(question(&asked.id.to_lowercase()), Ok(asked));
            assert_eq!(asked.text.matches('?').count(), 1, "{}", asked.id);
            assert!(asked.text.ends_with('?'), "{}", asked.id);
        }
    }

    #[test]
    fn unknown_questions_suggest_the_nearest() {
        let said = |id: &str| question(id).expect_err(id).to_string();
        assert!(
            said("Q2a.gest").contains("`Q2a.guest`"),
            "{}",
            said("Q2a.gest")
        );
        assert!(said("Q5z").contains("`Q5"), "{}", said("Q5z"));
        assert!(
            said("everything").contains("Q1a, Q1b"),
            "{}",
            said("everything")
        );
    }
}
