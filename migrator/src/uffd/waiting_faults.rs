//! Faults that nobody has ended, by the kernel's count.

use std::iter::Sum;

/// Threads that sleep in faults, as the kernel counts them: who looks at a hang wants to know whether the fault that it
/// hangs by was ever read.
///
/// Source: `userfaultfd_show_fdinfo` in Linux's `fs/userfaultfd.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingFaults {
    /// Nobody has read their events yet.
    pub unread: u64,
    /// A handler has read their events, and they were not woken since.
    pub read: u64,
}

impl WaitingFaults {
    /// By the text of `/proc/self/fdinfo/N`; `None` if it tells nothing of faults.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let of = |key: &str| {
            let number = text.lines().find_map(|line| line.strip_prefix(key))?;
            number.trim().parse::<u64>().ok()
        };
        let unread = of("pending:")?;
        Some(Self {
            unread,
            read: of("total:")?.checked_sub(unread)?,
        })
    }
}

impl Sum for WaitingFaults {
    fn sum<I: Iterator<Item = Self>>(faults: I) -> Self {
        faults.fold(Self::default(), |sum, of| Self {
            unread: sum.unread + of.unread,
            read: sum.read + of.read,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_has_those_that_nobody_read() {
        let read = |text| WaitingFaults::parse(text).map(|it| (it.unread, it.read));
        for (text, told) in [
            (
                "pos:\t0\npending:\t1\ntotal:\t4\nAPI:\taa:0:0\n",
                Some((1, 3)),
            ),
            ("pending:\t0\ntotal:\t0\n", Some((0, 0))),
            ("pending:\t2\ntotal:\t1\n", None),
            ("pending:\t2\n", None),
            ("pos:\t0\n", None),
            ("pending:\tx\ntotal:\t1\n", None),
        ] {
            assert_eq!(read(text), told, "{text:?}");
        }
    }
}
