//! How long a thread has waited for a CPU, by the scheduler's word.
//!
//! Source: Documentation/scheduler/sched-stats.rst, section `/proc/<pid>/schedstat`.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The schedstat of one thread of this process.
#[derive(Debug)]
pub struct RunDelay(File);

impl RunDelay {
    /// Of the thread `thread_id`. `None` where there is no such thread, or the kernel keeps no such statistics.
    #[must_use]
    pub fn of(thread_id: i32) -> Option<Self> {
        let file = File::open(format!("/proc/self/task/{thread_id}/schedstat"));
        file.ok().map(Self)
    }

    /// Time that the thread has waited on a run queue so far, in ns; a wait that still lasts is not in it. `None` once the
    /// thread has ended.
    #[must_use]
    pub fn ns(&self) -> Option<u64> {
        let mut text = [0; 96];
        let len = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..len)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_threads_delay_is_readable() {
        let delay = RunDelay::of(crate::sys::thread_id()).expect("schedstat");
        let first = delay.ns().expect("a number");
        assert!(delay.ns().expect("a number") >= first);
    }

    #[test]
    fn a_thread_that_has_ended_has_none() {
        let thread = std::thread::spawn(|| RunDelay::of(crate::sys::thread_id()));
        let delay = thread.join().expect("no panic").expect("schedstat");
        // Its exit may be under way still.
        let told = (0..10_000).find(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            delay.ns().is_none()
        });
        assert!(told.is_some());
    }
}
