//! The registry: what is registered, and what is open.

use std::sync::Arc;
use std::time::Duration;

use super::laggards::Laggards;
use super::listener::{Listener, Matching, Registered};
use super::pool::Pool;
use super::stack::Stack;
use super::sync::{AtomicU64, Ordering};
use super::{Consumer, Exhausted, Laggard, RegisterError, Sharing, Subscription, Tracking};
use crate::lock_order::{Class, Ordered};
use crate::{Gfn, Node, PAGE_SIZE, PageRange, Variant};

/// Subscriptions that there can be at one time: one bit each in a word.
pub const MAX_SUBSCRIPTIONS: usize = u64::BITS as usize;

/// Slots of the pool at most: one bit each in a word.
pub const MAX_SLOTS: u32 = u64::BITS;

/// How a registry is to work.
#[derive(Clone, Copy, Debug)]
pub struct InvalidationOptions {
    /// Where open invalidations are kept track of.
    pub tracking: Tracking,
    /// Slots of the pool, with [`Tracking::Pool`]: 1 to [`MAX_SLOTS`], what is outside is brought inside.
    /// 16 by default: more than there are movers, as a rule.
    pub slots: u32,
    /// What a start does that finds every slot taken.
    pub exhausted: Exhausted,
    /// How long a mover waits for all consumers of a range to acknowledge; 10 ms by default, which a
    /// consumer's thread may spend without a CPU.
    pub patience: Duration,
    /// A form that is wrong on purpose; those that are not about invalidation change nothing.
    pub variant: Variant,
}

impl Default for InvalidationOptions {
    fn default() -> Self {
        Self {
            tracking: Tracking::default(),
            slots: 16,
            exhausted: Exhausted::default(),
            patience: Duration::from_millis(10),
            variant: Variant::None,
        }
    }
}

/// Invalidations of the space as a whole.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Space {
    open: AtomicU64,
    sequence: AtomicU64,
}

impl Space {
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // Release: who sees the new sequence sees the count.
        self.sequence.fetch_add(1, Ordering::Release);
    }

    /// Release: who sees the count go sees what was changed.
    pub(super) fn end(&self) {
        self.open.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) != 0
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }
}

/// How often the pool had no slot left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Starts that waited for a slot ([`Exhausted::Wait`]).
    pub waited: u64,
    /// Starts that counted for the space instead.
    pub fell_back: u64,
}

/// The same while movers count.
#[derive(Debug, Default)]
pub(super) struct LivePoolCounts {
    pub(super) waited: Tally,
    pub(super) fell_back: Tally,
}

/// A count that orders nothing: no concern of a loom model.
#[derive(Debug, Default)]
pub(super) struct Tally(std::sync::atomic::AtomicU64);

impl Tally {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// What registrants know of each other.
#[derive(Default)]
struct Registrants {
    entries: Vec<Entry>,
    /// Of those who have left.
    laggards: Laggards,
}

struct Entry {
    index: usize,
    name: Arc<str>,
    range: PageRange,
    sharing: Sharing,
}

/// Who keeps translations of which ranges of one guest's memory, and what is being invalidated.
///
/// Shared by movers ([`OpenRange`](super::OpenRange)) and consumers ([`Subscription`]). It outlives
/// neither of them: both hold on to it.
pub struct Invalidations {
    memory: Box<[PageRange]>,
    pub(super) options: InvalidationOptions,
    /// Places that may have a subscription in them, as a mask.
    occupied: AtomicU64,
    listeners: Box<[Listener]>,
    pub(super) pool: Pool,
    pub(super) stack: Stack,
    pub(super) space: Space,
    pub(super) pool_counts: LivePoolCounts,
    /// Held by registrants alone; movers never wait for it.
    registrants: Ordered<Registrants>,
}

impl Invalidations {
    /// A registry for the guest memory whose regions are `memory`, in any order.
    #[must_use]
    pub fn new(memory: impl IntoIterator<Item = PageRange>, options: InvalidationOptions) -> Self {
        let slots = options.slots.clamp(1, MAX_SLOTS) as usize;
        Self::sized(memory, options, slots, MAX_SUBSCRIPTIONS)
    }

    /// The same, with so many slots in its pool and so many places.
    pub(crate) fn sized(
        memory: impl IntoIterator<Item = PageRange>,
        options: InvalidationOptions,
        pool: usize,
        places: usize,
    ) -> Self {
        assert!(pool <= u64::BITS as usize && places <= MAX_SUBSCRIPTIONS);
        Self {
            memory: memory.into_iter().collect(),
            options,
            occupied: AtomicU64::new(0),
            listeners: (0..places).map(|_| Listener::new(pool)).collect(),
            pool: Pool::new(pool),
            stack: Stack::new(),
            space: Space {
                open: AtomicU64::new(0),
                sequence: AtomicU64::new(0),
            },
            pool_counts: LivePoolCounts::default(),
            registrants: Ordered::new(Class::Registrants, Registrants::default()),
        }
    }

    /// Registers `bytes` bytes of guest memory from `gpa` on (both multiples of [`PAGE_SIZE`]) for
    /// `consumer`: from now on movers tell it before they change a page of them.
    ///
    /// May be called at any time, in the middle of an invalidation as well: that one is open for the
    /// subscription then.
    ///
    /// # Errors
    /// The range is empty, unaligned, not in one region of guest memory, registered by this consumer
    /// already or by another where one of them is [`Sharing::Exclusive`]; or every place is taken.
    pub fn register(
        self: &Arc<Self>,
        consumer: Arc<dyn Consumer>,
        gpa: u64,
        bytes: u64,
        sharing: Sharing,
    ) -> Result<Subscription, RegisterError> {
        let name: Arc<str> = consumer.name().into();
        let range = self.checked(&name, gpa, bytes)?;
        let mut registrants = self.registrants.lock();
        let entries = &mut registrants.entries;
        let index = self.free_place(entries, &name, range, sharing)?;
        entries.push(Entry {
            index,
            name: Arc::clone(&name),
            range,
            sharing,
        });
        self.activate(index, range, Registered { consumer, name });
        drop(registrants);
        Ok(Subscription::new(Arc::clone(self), index))
    }

    fn checked(&self, name: &Arc<str>, gpa: u64, bytes: u64) -> Result<PageRange, RegisterError> {
        let consumer = || Arc::clone(name);
        if bytes == 0 {
            return Err(RegisterError::Empty {
                consumer: consumer(),
                gpa,
            });
        }
        if !(gpa | bytes).is_multiple_of(PAGE_SIZE as u64) {
            return Err(RegisterError::Unaligned {
                consumer: consumer(),
                gpa,
                bytes,
            });
        }
        let (start, pages) = (Gfn::containing(gpa), bytes / PAGE_SIZE as u64);
        let inside =
            |region: &&PageRange| region.contains(start) && pages <= region.end().0 - start.0;
        match self.memory.iter().find(inside) {
            // A region has no more pages than that.
            Some(_) => Ok(PageRange::new(start, pages as u32)),
            None => Err(RegisterError::Outside {
                consumer: consumer(),
                gpa,
                bytes,
                known: self.describe_memory(),
            }),
        }
    }

    fn describe_memory(&self) -> String {
        let regions = self.memory.iter().map(|region| {
            let bytes = u64::from(region.pages) * PAGE_SIZE as u64;
            format!("{bytes:#x} bytes at {:#x}", region.start.gpa())
        });
        regions.collect::<Vec<_>>().join(", ")
    }

    /// A place for `range`, if nobody who is registered is in its way.
    fn free_place(
        &self,
        entries: &[Entry],
        name: &Arc<str>,
        range: PageRange,
        sharing: Sharing,
    ) -> Result<usize, RegisterError> {
        for entry in entries {
            if entry.name == *name && entry.range == range {
                return Err(RegisterError::Twice {
                    consumer: Arc::clone(name),
                    range,
                });
            }
            let exclusive = Sharing::Exclusive;
            if entry.range.overlaps(range) && (sharing == exclusive || entry.sharing == exclusive) {
                return Err(RegisterError::Overlap {
                    consumer: Arc::clone(name),
                    range,
                    holder: Arc::clone(&entry.name),
                    other: entry.range,
                });
            }
        }
        (0..self.listeners.len())
            .find(|place| entries.iter().all(|entry| entry.index != *place))
            .ok_or_else(|| RegisterError::Full {
                consumer: Arc::clone(name),
            })
    }

    /// Makes the subscription known to movers, and what is open to the subscription.
    fn activate(&self, index: usize, range: PageRange, registered: Registered) {
        let listener = &self.listeners[index];
        if self.options.tracking == Tracking::Stack {
            let locked = self.stack.lock();
            self.occupied.fetch_or(1 << index, Ordering::Relaxed);
            listener.activate(range, registered);
            if self.matching() == Matching::Start {
                locked.each(|node| {
                    if node.range().overlaps(range) && listener.pin() {
                        listener.count_late();
                        node.set_counted(node.counted() | 1 << index);
                    }
                });
            }
        } else {
            listener.activate(range, registered);
            self.occupied.fetch_or(1 << index, Ordering::Release);
            if self.matching() == Matching::Start {
                listener.await_open(&self.pool);
            }
        }
    }

    /// Ends the subscription at `index`, once no open invalidation counts it.
    pub(super) fn deregister(&self, index: usize) {
        let listener = &self.listeners[index];
        listener.vacate();
        // The place is empty, and nobody else's before its entry is gone.
        let times = listener.times_late();
        let mut registrants = self.registrants.lock();
        self.occupied.fetch_and(!(1 << index), Ordering::Relaxed);
        let at = registrants
            .entries
            .iter()
            .position(|entry| entry.index == index);
        let entry = registrants
            .entries
            .swap_remove(at.expect("a subscription has its entry"));
        registrants.laggards.add(entry.name, entry.range, times);
    }

    pub(super) fn listener(&self, index: usize) -> &Listener {
        &self.listeners[index]
    }

    pub(super) fn matching(&self) -> Matching {
        match self.options.variant {
            Variant::InvalidateUnmatched => Matching::Unmatched,
            Variant::InvalidateClamp => Matching::Clamped,
            _ => Matching::Start,
        }
    }

    /// Pins the subscriptions that overlap `range`, and does `with` each; returns which, as a mask.
    pub(super) fn pin_overlapping(&self, range: PageRange, with: impl Fn(&Listener)) -> u64 {
        let mut pinned = 0;
        for index in bits(self.occupied.load(Ordering::Acquire)) {
            let listener = &self.listeners[index];
            // A range that is changing now belongs to somebody who will see this invalidation open.
            if listener.is_active() && listener.range().overlaps(range) && listener.pin() {
                with(listener);
                pinned |= 1 << index;
            }
        }
        pinned
    }

    /// The consumers that did not acknowledge in time, by name and range; those too that have left. The
    /// first [`MAX_LAGGARDS`](super::MAX_LAGGARDS) who left are told apart, further ones by their name.
    #[must_use]
    pub fn laggards(&self) -> Vec<Laggard> {
        let registrants = self.registrants.lock();
        let mut all = registrants.laggards.clone();
        for entry in &registrants.entries {
            // An entry's place is its own until the entry is gone.
            let times = self.listeners[entry.index].times_late();
            all.add(Arc::clone(&entry.name), entry.range, times);
        }
        all.into()
    }

    /// How often the pool had no slot left.
    #[must_use]
    pub fn pool_counts(&self) -> PoolCounts {
        PoolCounts {
            waited: self.pool_counts.waited.get(),
            fell_back: self.pool_counts.fell_back.get(),
        }
    }

    /// The consumers whose counter is not 0, with the counter. While nothing is being invalidated
    /// there are none, but for busted forms.
    #[must_use]
    pub fn unbalanced(&self) -> Vec<(Arc<str>, i64)> {
        self.each_registered()
            .map(|(listener, consumer)| (consumer, listener.open()))
            .filter(|(_, open)| *open != 0)
            .collect()
    }

    fn each_registered(&self) -> impl Iterator<Item = (&Listener, Arc<str>)> {
        self.listeners.iter().filter_map(|listener| {
            let pinned = listener.pin();
            let name = pinned.then(|| listener.with_registered(|of| Arc::clone(&of.name)));
            if pinned {
                listener.unpin();
            }
            Some((listener, name??))
        })
    }
}

/// The consumer of the place `index`, in the wait-for graph.
pub(super) const fn consumer_node(index: usize) -> Node {
    Node::Consumer(index as u16)
}

/// The numbers of the bits set in `mask`.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}
