//! Whether anybody moves pages: while nobody does, no cycle can close that a migration is in.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many movers run. Changed when one starts or ends, not for each migration.
#[derive(Default)]
pub(crate) struct Activity {
    movers: Mutex<u32>,
    started: Condvar,
}

/// A mover that runs.
pub(crate) struct Moving<'a>(&'a Activity);

impl Activity {
    /// One more mover runs until what this returns is dropped.
    pub(crate) fn enter(&self) -> Moving<'_> {
        *self.lock() += 1;
        self.started.notify_all();
        Moving(self)
    }

    /// Waits for a mover to start, for no longer than `longest`; at once where one runs.
    pub(crate) fn wait(&self, longest: Duration) {
        // What woke it matters to nobody: the caller looks.
        drop(
            self.started
                .wait_timeout_while(self.lock(), longest, |movers| *movers == 0),
        );
    }

    /// Whether a mover runs.
    pub(crate) fn is_any(&self) -> bool {
        *self.lock() > 0
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        // A number is whole whatever panicked while it was locked.
        self.movers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn who_waits_goes_on_when_a_mover_starts() {
        let activity = Activity::default();
        assert!(!activity.is_any());
        activity.wait(Duration::from_millis(1));
        let began = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| activity.wait(Duration::from_secs(600)));
            let moving = activity.enter();
            waiting.join().expect("no panic");
            assert!(activity.is_any());
            activity.wait(Duration::from_secs(600));
            drop(moving);
        });
        assert!(!activity.is_any());
        assert!(began.elapsed() < Duration::from_secs(600));
    }
}
