//! What may be waited for while what is held.
//!
//! With the feature `lock-order`, which the tests switch on, each class that is taken while others are held becomes an
//! edge of a [`Graph`]; one that would close a cycle panics, before anybody waits and whether or not anybody is in the
//! way just now. Without the feature nothing is left of it.
//!
//! Classes are not only mutexes: what a thread keeps from others while it goes on, or waits for, is one as well.
//! The idea is that of the kernel's lockdep, `Documentation/locking/lockdep-design.rst`.

#[cfg(all(any(test, feature = "lock-order"), not(loom)))]
mod graph;
mod ordered;
mod ordered_rw;

pub(crate) use ordered::Ordered;
pub(crate) use ordered_rw::{OrderedReadGuard, OrderedRw, OrderedWriteGuard};

use std::marker::PhantomData;

/// Whether cycles are found in this build.
pub(crate) const IS_CHECKED: bool = cfg!(all(feature = "lock-order", not(loom)));

/// What is held or waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(
    not(all(feature = "lock-order", not(loom))),
    expect(dead_code, reason = "some are only named by edges known beforehand")
)]
pub(crate) enum Class {
    /// Claimed pages: faults on them wait.
    Range,
    /// The vCPUs, stopped.
    Vcpus,
    /// Consumers' acknowledgment of an invalidation.
    Consumers,
    /// A slot of the invalidations' pool.
    Slot,
    /// The list of consumers.
    Registrants,
    /// Frames that whoever needs them pays for: what the pool refills itself from.
    Frames,
    /// A grace period of the guest.
    GracePeriod,
    /// The lists of movers' and handlers' counters.
    Counters,
    /// The length of the file of guest memory.
    Alias,
    /// A file that the kernel answers from.
    Pagemap,
    /// Plugging and unplugging.
    Changes,
    /// The table of blocks.
    Table,
    /// A fault that is served in a block.
    Served,
    /// The list of what is registered.
    Registered,
}

#[cfg(all(any(test, feature = "lock-order"), not(loom)))]
impl Class {
    const ALL: [Self; 14] = [
        Self::Range,
        Self::Vcpus,
        Self::Consumers,
        Self::Slot,
        Self::Registrants,
        Self::Frames,
        Self::GracePeriod,
        Self::Counters,
        Self::Alias,
        Self::Pagemap,
        Self::Changes,
        Self::Table,
        Self::Served,
        Self::Registered,
    ];

    /// What waits for what by itself, where no code of ours is seen to: each first one ends only after the second.
    const KNOWN: [(Self, Self); 2] = [
        // Frames come back when windows close.
        (Self::Frames, Self::Range),
        // Readers end when the pages that they touch are there again.
        (Self::GracePeriod, Self::Range),
    ];
}

/// A class that this thread holds, until this is dropped.
#[must_use]
pub(crate) struct Held(
    #[cfg(all(feature = "lock-order", not(loom)))] Class,
    /// It belongs to its thread.
    PhantomData<*const ()>,
);

/// Holds a class that was taken just now, or is about to be.
///
/// # Panics
/// If that closes a cycle.
#[track_caller]
pub(crate) fn hold(class: Class) -> Held {
    may_wait(class);
    keep(class)
}

/// Holds a class that was taken just now without a wait.
pub(crate) fn keep(class: Class) -> Held {
    #[cfg(all(feature = "lock-order", not(loom)))]
    return checked::keep(class);
    #[cfg(not(all(feature = "lock-order", not(loom))))]
    {
        let _ = class;
        Held(PhantomData)
    }
}

/// Says that this thread may come to wait for a class here, and does not keep it.
///
/// # Panics
/// If that closes a cycle.
#[track_caller]
#[inline]
pub(crate) fn may_wait(class: Class) {
    #[cfg(all(feature = "lock-order", not(loom)))]
    checked::may_wait(class);
    #[cfg(not(all(feature = "lock-order", not(loom))))]
    let _ = class;
}

#[cfg(all(feature = "lock-order", not(loom)))]
mod checked {
    use std::cell::Cell;
    use std::marker::PhantomData;

    use super::graph::{Classes, Graph};
    use super::{Class, Held};

    static GRAPH: Graph = Graph::new(&Class::KNOWN);

    thread_local! {
        static HELD: Cell<Classes> = const { Cell::new(Classes::NONE) };
    }

    pub(super) fn keep(class: Class) -> Held {
        HELD.set(HELD.get().with(class));
        Held(class, PhantomData)
    }

    #[track_caller]
    pub(super) fn may_wait(class: Class) {
        // A panic on top of one would end the process before pages are put back.
        if std::thread::panicking() {
            return;
        }
        if let Err(cycle) = GRAPH.take(HELD.get(), class) {
            panic!("{cycle}");
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(HELD.get().without(self.0));
        }
    }
}
