//! Events read from a userfaultfd.

use super::abi::{EVENT_PAGEFAULT, UffdMsg};

/// Events taken by one read.
const CAPACITY: usize = 16;

/// A fault that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The address touched, rounded down to its page.
    pub(crate) address: usize,
    /// The kernel's id of the thread that sleeps.
    pub(crate) thread: i32,
}

/// A buffer for events.
#[derive(Default)]
pub(crate) struct Messages {
    pub(super) raw: [UffdMsg; CAPACITY],
    pub(super) len: usize,
}

impl Messages {
    /// The faults among the events; no other events are asked for.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Fault> {
        self.raw[..self.len]
            .iter()
            .filter(|message| message.event == EVENT_PAGEFAULT)
            .map(|message| Fault {
                address: message.address as usize & !(crate::PAGE_SIZE - 1),
                // Of 64 bits, those that `struct uffd_msg` has for it.
                thread: message.feature as u32 as i32,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn faults_are_the_page_fault_events_within_the_length(
            events in prop::collection::vec((any::<u8>(), any::<u64>(), any::<i32>()), 0..CAPACITY),
            len in 0usize..CAPACITY,
        ) {
            let mut messages = Messages::default();
            for (slot, (event, address, thread)) in messages.raw.iter_mut().zip(&events) {
                // Half of the events are made page faults, or hardly any would be.
                slot.event = if event % 2 == 0 { EVENT_PAGEFAULT } else { *event };
                slot.address = *address;
                slot.feature = u64::from(*thread as u32);
            }
            messages.len = len.min(events.len());
            let expected: Vec<_> = events[..messages.len]
                .iter()
                .filter(|(event, ..)| event % 2 == 0 || *event == EVENT_PAGEFAULT)
                .map(|(_, address, thread)| Fault {
                    address: *address as usize / 4096 * 4096,
                    thread: *thread,
                })
                .collect();
            prop_assert_eq!(messages.faults().collect::<Vec<_>>(), expected);
        }
    }
}
