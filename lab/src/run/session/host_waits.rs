//! What the host sees of a guest that gets nowhere: whether a vCPU waits in the kernel, and for a fault that nobody ends.

use crate::run::engine::Engine;
use underfoot_migrator::WaitingFaults;
use underfoot_vmm::ThreadState;

/// What each vCPU's thread does, by its id of the kernel's, and how many faults wait, in words.
pub fn describe(threads: &[i32], engine: Option<&Engine>) -> String {
    let states = threads.iter().map(|&id| ThreadState::of(id));
    words(states, engine.and_then(Engine::waiting_faults))
}

fn words(threads: impl Iterator<Item = ThreadState>, faults: Option<WaitingFaults>) -> String {
    let thread = |(number, state)| format!("vCPU {number}'s thread {state}");
    let mut sentences: Vec<_> = threads.enumerate().map(thread).collect();
    if let Some(WaitingFaults { unread, read }) = faults {
        sentences.push(format!(
            "{} sleep in faults of guest memory, {unread} of them unread by the engine",
            unread + read
        ));
    }
    sentences.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_faults_are_told() {
        let threads = || [ThreadState::Runs, ThreadState::Sleeps("x".into())].into_iter();
        let alone = "vCPU 0's thread runs; vCPU 1's thread sleeps in x";
        assert_eq!(words(threads(), None), alone);
        let faults = WaitingFaults { unread: 1, read: 2 };
        let both =
            format!("{alone}; 3 sleep in faults of guest memory, 1 of them unread by the engine");
        assert_eq!(words(threads(), Some(faults)), both);
    }
}
