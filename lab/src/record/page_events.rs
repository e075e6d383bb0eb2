//! What the guest counted under the wait policy `async`.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::PageEvents;

/// What KVM told one vCPU of pages that were away, from its start to its end, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageEventCounts {
    /// Pages of which it said that they are away.
    pub not_present: u64,
    /// Pages of which it said afterwards that they are there.
    pub ready: u64,
    /// The thread slept, and the vCPU ran another or idled.
    pub switched: u64,
    /// Of these, the thread was woken.
    pub woken: u64,
    /// The page was there before the thread slept.
    pub early: u64,
    /// The thread could not sleep: KVM halted the vCPU, which still took interrupts.
    pub halted: u64,
    /// The same with interrupts masked in software.
    pub masked: u64,
    /// "Ready" for all pages, which KVM says when it begins to tell.
    pub broadcasts: u64,
    /// Interrupts that told of no page.
    pub spurious: u64,
}

impl PageEventCounts {
    /// As the guest has them.
    #[must_use]
    pub fn read(events: &PageEvents) -> Self {
        let count = |word: &AtomicU64| word.load(Relaxed);
        Self {
            not_present: count(&events.not_present),
            ready: count(&events.ready),
            switched: count(&events.switched),
            woken: count(&events.woken),
            early: count(&events.early),
            halted: count(&events.halted),
            masked: count(&events.masked),
            broadcasts: count(&events.broadcasts),
            spurious: count(&events.spurious),
        }
    }

    /// What is wrong with the counts: of a guest that has come to its end (`ended`), or of one that was ended, in which a
    /// page may have been away.
    #[must_use]
    pub fn fault(&self, ended: bool) -> Option<String> {
        let Self {
            not_present, ready, ..
        } = self;
        if not_present != ready {
            return ended
                .then(|| format!("{not_present} pages were away, and {ready} of them came back"));
        }
        if self.switched != self.woken {
            let asleep = self.switched.abs_diff(self.woken);
            return Some(format!("{asleep} threads sleep for pages that are there"));
        }
        let waits = [self.switched, self.early, self.halted, self.masked];
        let waits = waits.into_iter().fold(0, u64::saturating_add);
        (waits != *not_present)
            .then(|| format!("{not_present} pages were away, and {waits} of them waited for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_do_not_add_up_are_told() {
        let counts = PageEventCounts {
            not_present: 10,
            ready: 10,
            switched: 4,
            woken: 4,
            early: 3,
            halted: 2,
            masked: 1,
            broadcasts: 1,
            spurious: 0,
        };
        assert_eq!(counts.fault(true), None);
        for (wrong, found) in [
            (
                PageEventCounts { ready: 9, ..counts },
                "10 pages were away, and 9 of them came back",
            ),
            (
                PageEventCounts { woken: 3, ..counts },
                "1 threads sleep for pages that are there",
            ),
            (
                PageEventCounts { early: 4, ..counts },
                "10 pages were away, and 11 of them waited for",
            ),
        ] {
            assert_eq!(wrong.fault(true).as_deref(), Some(found));
        }
    }

    #[test]
    fn a_page_may_be_away_when_a_guest_is_ended() {
        let counts = PageEventCounts {
            not_present: 1,
            switched: 1,
            ..PageEventCounts::default()
        };
        assert_eq!(counts.fault(false), None);
        assert!(counts.fault(true).is_some());
    }

    #[test]
    fn each_count_is_read_as_what_it_is() {
        let events = PageEvents::default();
        for (word, value) in [
            &events.not_present,
            &events.ready,
            &events.switched,
            &events.woken,
            &events.early,
            &events.halted,
            &events.masked,
            &events.broadcasts,
            &events.spurious,
        ]
        .into_iter()
        .zip(1..)
        {
            word.store(value, Relaxed);
        }
        let expected = PageEventCounts {
            not_present: 1,
            ready: 2,
            switched: 3,
            woken: 4,
            early: 5,
            halted: 6,
            masked: 7,
            broadcasts: 8,
            spurious: 9,
        };
        assert_eq!(PageEventCounts::read(&events), expected);
    }
}
