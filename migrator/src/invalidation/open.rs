//! A mover's side: the start and the end of an invalidation.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::listener::Matching;
use super::pool::Ticket;
use super::registry::{bits, consumer_node};
use super::stack::Node;
use super::sync::{Backoff, Deadline, Ordering, fence};
use super::{Exhausted, Invalidations, Tracking, Unacknowledged};
use crate::PageRange;
use crate::clock::{self, Tsc};
use crate::lock_order::{Class, may_wait};
use crate::watchdog::{Wait, Waiter};

/// Where an open invalidation is kept track of.
#[derive(Clone, Copy)]
enum Place {
    Pool(Ticket),
    Stack,
    Space,
}

/// Why an invalidation has not begun as it should.
#[derive(Debug)]
pub(crate) struct Unquiet {
    pub(crate) late: Unacknowledged,
    /// It was told to give up, as its wait closed a cycle.
    pub(crate) deadlock: bool,
}

/// When an invalidation was counted that somebody had to be told of, in TSC ticks; 0 if nobody had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) counted: Tsc,
}

#[derive(Clone, Copy)]
struct Open {
    range: PageRange,
    place: Place,
    /// Subscriptions that were pinned, and counted unless the space was, as a mask.
    pinned: u64,
}

/// Room for one invalidation, on its caller's stack: [`start`](Self::start) it before the first
/// change of a mapping, [`end`](Self::end) it after the last. Ends by itself when dropped.
///
/// ```
/// use std::pin::pin;
/// use underfoot_migrator::{Gfn, InvalidationOptions, Invalidations, OpenRange, PageRange};
///
/// let memory = PageRange::new(Gfn(0), 1024);
/// let invalidations = Invalidations::new([memory], InvalidationOptions::default());
/// let open = pin!(OpenRange::new(&invalidations));
/// open.as_ref().start(PageRange::new(Gfn(7), 1))?;
/// // … the page moves …
/// open.end();
/// # Ok::<_, underfoot_migrator::Unacknowledged>(())
/// ```
pub struct OpenRange<'r> {
    registry: &'r Invalidations,
    open: Cell<Option<Open>>,
    /// In the registry's list while this is open, with [`Tracking::Stack`].
    node: Node,
    _pinned: PhantomPinned,
}

impl<'r> OpenRange<'r> {
    /// Room, with nothing in it.
    #[must_use]
    pub fn new(registry: &'r Invalidations) -> Self {
        Self {
            registry,
            open: Cell::new(None),
            node: Node::new(),
            _pinned: PhantomPinned,
        }
    }

    /// Starts an invalidation of `range`: when this returns, nobody who registered a page of it uses
    /// a translation of that page, and nobody can get a new one before [`Self::end`]. If one is open
    /// here already, it is ended first. Takes no sleeping lock and does not allocate.
    ///
    /// # Errors
    /// A consumer did not acknowledge in time. The range is open all the same; it must not be
    /// changed.
    pub fn start(self: Pin<&Self>, range: PageRange) -> Result<(), Unacknowledged> {
        let told = self.start_as(range, None);
        told.map(drop).map_err(|unquiet| unquiet.late)
    }

    /// The same, by one who says for which consumer it waits, and gives up if it is told to.
    pub(crate) fn start_as(
        self: Pin<&Self>,
        range: PageRange,
        waiter: Option<&mut Waiter>,
    ) -> Result<Told, Unquiet> {
        self.end();
        if range.pages == 0 {
            return Ok(Told::default());
        }
        let pinned = self.publish(range);
        if pinned == 0 {
            return Ok(Told::default());
        }
        let counted = clock::now();
        // Pairs with the fence in `Subscription::read_retry`: a fault sees that it is too late, or
        // what it put into its cache is seen here and forgotten.
        fence(Ordering::SeqCst);
        for index in bits(pinned) {
            let listener = self.registry.listener(index);
            listener.with_registered(|of| of.consumer.forget(range));
        }
        // Pairs with the fence in `InUse::enter`: who uses a page finds it forgotten, or is seen here
        // using it.
        fence(Ordering::SeqCst);
        may_wait(Class::Consumers);
        self.await_quiet(pinned, range, waiter)?;
        Ok(Told { counted })
    }

    /// Counts the invalidation where it is to be counted, and pins whom to tell.
    fn publish(self: Pin<&Self>, range: PageRange) -> u64 {
        let registry = self.registry;
        let ticket = match registry.options.tracking {
            Tracking::Stack => return self.publish_on_stack(range),
            Tracking::Space => None,
            Tracking::Pool => registry.pool.open(range).or_else(|| self.await_slot(range)),
        };
        let place = match ticket {
            Some(ticket) => Place::Pool(ticket),
            None => {
                registry.space.begin();
                Place::Space
            }
        };
        // Pairs with the fence in `Listener::await_open`: this finds who is registered, or the
        // registrant finds this.
        fence(Ordering::SeqCst);
        let pinned = registry.pin_overlapping(range, |listener| {
            if ticket.is_some() {
                listener.count();
            }
        });
        self.open.set(Some(Open {
            range,
            place,
            pinned,
        }));
        pinned
    }

    /// A slot of the pool, which had none; `None` if there is none in time, or is none to be waited for.
    #[cold]
    fn await_slot(&self, range: PageRange) -> Option<Ticket> {
        let registry = self.registry;
        if registry.options.exhausted == Exhausted::Wait {
            may_wait(Class::Slot);
            registry.pool_counts.waited.add_one();
            let deadline = Deadline::after(registry.options.patience);
            let mut backoff = Backoff::default();
            while !deadline.is_over() {
                backoff.wait();
                if let Some(ticket) = registry.pool.open(range) {
                    return Some(ticket);
                }
            }
        }
        registry.pool_counts.fell_back.add_one();
        None
    }

    fn publish_on_stack(self: Pin<&Self>, range: PageRange) -> u64 {
        let locked = self.registry.stack.lock();
        // SAFETY: `start` ended what was open here, so that the node is in no list; and it is pinned,
        // so that it stays where it is until it is dropped, which ends what is open.
        unsafe { locked.link(&self.node, range) };
        let pinned = self
            .registry
            .pin_overlapping(range, |listener| listener.count());
        self.node.set_counted(pinned);
        self.open.set(Some(Open {
            range,
            place: Place::Stack,
            pinned,
        }));
        pinned
    }

    fn await_quiet(
        &self,
        pinned: u64,
        range: PageRange,
        mut waiter: Option<&mut Waiter>,
    ) -> Result<(), Unquiet> {
        let mut deadline = None;
        for index in bits(pinned) {
            if !self.is_quiet(index, range) {
                let patience = self.registry.options.patience;
                let deadline = deadline.get_or_insert_with(|| Deadline::after(patience));
                self.await_one(index, range, deadline, waiter.as_deref_mut())?;
            }
        }
        Ok(())
    }

    fn is_quiet(&self, index: usize, range: PageRange) -> bool {
        let listener = self.registry.listener(index);
        listener.with_registered(|of| of.consumer.is_quiet(range)) != Some(false)
    }

    /// Waits for the consumer of the place `index`, which was not quiet.
    fn await_one(
        &self,
        index: usize,
        range: PageRange,
        deadline: &Deadline,
        waiter: Option<&mut Waiter>,
    ) -> Result<(), Unquiet> {
        let wait = waiter.map(|waiter| waiter.wait_for(consumer_node(index)));
        let mut backoff = Backoff::default();
        loop {
            let deadlock = wait.as_ref().is_some_and(Wait::is_aborted);
            if deadlock || deadline.is_over() {
                return Err(self.unquiet(index, range, deadline.so_far(), deadlock));
            }
            backoff.wait();
            if self.is_quiet(index, range) {
                return Ok(());
            }
        }
    }

    #[cold]
    fn unquiet(&self, index: usize, range: PageRange, waited: Duration, deadlock: bool) -> Unquiet {
        let listener = self.registry.listener(index);
        if !deadlock {
            listener.is_late();
        }
        let name = listener.with_registered(|of| Arc::clone(&of.name));
        let late = Unacknowledged {
            consumer: name.unwrap_or_default(),
            range,
            waited,
        };
        Unquiet { late, deadlock }
    }

    /// Ends the invalidation, if one is open here.
    pub fn end(&self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let registry = self.registry;
        if let Place::Stack = open.place {
            let locked = registry.stack.lock();
            locked.unlink(&self.node);
            // Those who registered meanwhile are in it too.
            open.pinned = self.node.counted();
        }
        let matching = registry.matching();
        let space = matches!(open.place, Place::Space);
        if !space && matching != Matching::Start {
            let overlapping =
                registry.pin_overlapping(open.range, |listener| listener.uncount(matching));
            bits(overlapping).for_each(|index| registry.listener(index).unpin());
        }
        for index in bits(open.pinned) {
            let listener = registry.listener(index);
            if !space && matching == Matching::Start {
                listener.uncount(matching);
            }
            listener.unpin();
        }
        match open.place {
            Place::Pool(ticket) => registry.pool.close(ticket),
            Place::Space => registry.space.end(),
            Place::Stack => {}
        }
    }
}

impl Drop for OpenRange<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
