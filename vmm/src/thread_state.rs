//! What a thread does, by the kernel's word.

use std::fmt::{self, Display, Formatter};
use std::fs;

/// What a thread of this process does at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadState {
    /// It has a CPU, or wants one.
    Runs,
    /// It sleeps, in a function of the kernel's; empty where the kernel does not say in which.
    Sleeps(String),
    /// The kernel does not say.
    Unknown,
}

impl ThreadState {
    /// What the thread with this id of the kernel's does now.
    #[must_use]
    pub fn of(thread_id: i32) -> Self {
        let read = |file| fs::read_to_string(format!("/proc/self/task/{thread_id}/{file}"));
        let stat = read("stat").unwrap_or_default();
        Self::parse(&stat, &read("wchan").unwrap_or_default())
    }

    /// By the texts of `stat` and `wchan` (proc_pid_stat(5), proc_pid_wchan(5)).
    fn parse(stat: &str, wchan: &str) -> Self {
        // The name before it may have any character in it.
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        match state {
            Some('R') => Self::Runs,
            Some('S' | 'D') => Self::Sleeps(wchan.trim().trim_matches('0').to_owned()),
            _ => Self::Unknown,
        }
    }
}

impl Display for ThreadState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str("runs"),
            Self::Sleeps(place) if place.is_empty() => f.write_str("sleeps"),
            Self::Sleeps(place) => write!(f, "sleeps in {place}"),
            Self::Unknown => f.write_str("does what the kernel does not tell"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_told_in_ours() {
        for (stat, wchan, told) in [
            ("7 (vcpu 0) R 1 7", "0", "runs"),
            (
                "7 (a) S b) S 1 7",
                "kvm_vcpu_block",
                "sleeps in kvm_vcpu_block",
            ),
            (
                "7 (vcpu 0) D 1 7",
                "handle_userfault\n",
                "sleeps in handle_userfault",
            ),
            ("7 (vcpu 0) S 1 7", "0", "sleeps"),
            ("7 (vcpu 0) S 1 7", "", "sleeps"),
            ("", "", "does what the kernel does not tell"),
        ] {
            assert_eq!(ThreadState::parse(stat, wchan).to_string(), told);
        }
    }

    #[test]
    fn a_thread_that_looks_at_itself_runs() {
        assert_eq!(ThreadState::of(crate::sys::thread_id()), ThreadState::Runs);
        assert_eq!(ThreadState::of(-1), ThreadState::Unknown);
    }
}
