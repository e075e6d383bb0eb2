//! Waits for the guest's readers, and for frames, inside the window, which busted variants do.

use std::thread;
use std::time::{Duration, Instant};

use super::Transaction;
use crate::AbortReason;
use crate::watchdog::{Node, Wait};

/// Between two looks whether the grace period is over.
const LOOK: Duration = Duration::from_micros(50);
/// When it is given up: who waits for it is told to be in a deadlock, or in a stall, long before.
const PATIENCE: Duration = Duration::from_secs(2);

/// How such a wait ended.
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
        let nth = self.tools.nth;
        let number = grace.ask(nth);
        self.wait_in_window(Node::GracePeriod(nth), || grace.is_over(number))
    }

    /// Waits for a frame of the pool, as nobody may who holds pages: old frames may wait for a reader that waits
    /// for one of these. False if that is given up.
    #[cold]
    pub(super) fn await_frame(&mut self) -> bool {
        let Some(frames) = self.tools.frames else {
            return true;
        };
        self.wait_in_window(Node::FramePool(0), || frames.has_spare())
    }

    /// Not told to the checker of lock orders, which would end this before the watchdog could find it.
    fn wait_in_window(&mut self, node: Node, is_over: impl Fn() -> bool) -> bool {
        let deadline = self.tools.max_window.map(|longest| self.opened + longest);
        let wait = self.tools.waiter.as_deref_mut();
        let wait = wait.map(|waiter| waiter.wait_for(node));
        let waited = wait_until(is_over, wait.as_ref(), deadline);
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

fn wait_until(
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
