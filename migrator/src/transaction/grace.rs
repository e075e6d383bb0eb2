//! The wait for the guest's readers inside the window, which a busted variant does.

use std::thread;
use std::time::{Duration, Instant};

use super::Transaction;
use crate::AbortReason;
use crate::watchdog::{Node, Wait};

/// Between two looks whether the grace period is over.
const LOOK: Duration = Duration::from_micros(50);
/// When it is given up: who waits for it is told to be in a deadlock, or in a stall, long before.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the wait for a grace period ended.
enum Waited {
    Over,
    GivenUp(AbortReason),
}

impl Transaction<'_> {
    /// Waits for a grace period of the guest, as nobody may whose page a reader can wait for; false if that
    /// is given up.
    #[cold]
    pub(super) fn await_readers(&mut self) -> bool {
        let Some(grace) = self.tools.grace else {
            return true;
        };
        // Not told to the checker of lock orders, which would end this before the watchdog could find it.
        let nth = self.tools.nth;
        let number = grace.ask(nth);
        let deadline = self.tools.max_window.map(|longest| self.opened + longest);
        let wait = self.tools.waiter.as_deref_mut();
        let wait = wait.map(|waiter| waiter.wait_for(Node::GracePeriod(nth)));
        let waited = await_number(|| grace.is_over(number), wait.as_ref(), deadline);
        drop(wait);
        match waited {
            Waited::Over => true,
            Waited::GivenUp(AbortReason::OverBudget) => !self.is_over_budget(),
            Waited::GivenUp(reason) => {
                self.stop_in_window(reason);
                false
            }
        }
    }
}

fn await_number(
    is_over: impl Fn() -> bool,
    wait: Option<&Wait<'_>>,
    deadline: Option<u64>,
) -> Waited {
    let began = Instant::now();
    loop {
        if is_over() {
            return Waited::Over;
        }
        if wait.is_some_and(Wait::is_aborted) {
            return Waited::GivenUp(AbortReason::Deadlock);
        }
        if deadline.is_some_and(|deadline| crate::clock::now() > deadline) {
            return Waited::GivenUp(AbortReason::OverBudget);
        }
        if began.elapsed() > PATIENCE {
            return Waited::GivenUp(AbortReason::NoGracePeriod);
        }
        thread::sleep(LOOK);
    }
}
