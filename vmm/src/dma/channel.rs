//! One thread's way into guest memory: its cache, its registrations, and what it counts.

use super::copy::Page;
use super::counts::{LiveCounts, add};
use super::device::DmaOptions;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use underfoot_abi::PAGE_SIZE;
use underfoot_migrator::{
    CacheView, Consumer, Gfn, Invalidations, PageRange, Refused, RegisterError, Sharing,
    Subscription, Translate, TranslationCache,
};

/// Tries of an access in a row before the CPU is offered to the mover that it waits for.
const SPINS: u64 = 32;

/// What the registry knows of a thread.
struct Registrant {
    name: String,
    view: CacheView,
}

impl Consumer for Registrant {
    fn name(&self) -> &str {
        &self.name
    }

    fn forget(&self, range: PageRange) {
        self.view.forget(range);
    }

    fn is_quiet(&self, range: PageRange) -> bool {
        self.view.is_quiet(range)
    }
}

/// Why an access was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAccess {
    /// The page is not there for the device.
    Nowhere,
    /// The device was told to stop.
    Stopped,
    /// The device could not register anew.
    Unregistered(RegisterError),
}

/// A range that is registered.
struct Held {
    subscription: Subscription,
    /// By which of the two names.
    name: usize,
}

pub(super) struct Channel {
    /// The same thread by two names, so that it can register a range anew before it drops it.
    registrants: [Arc<Registrant>; 2],
    cache: TranslationCache,
    /// One for each range.
    held: Vec<Held>,
    /// A range is registered anew whenever a page of it is being moved.
    renew_busy: bool,
    invalidations: Arc<Invalidations>,
    translate: Arc<dyn Translate>,
    pub(super) counts: Arc<LiveCounts>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Channel {
    /// The channel of the thread called `name`.
    pub(super) fn new(
        name: &str,
        options: &DmaOptions,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, RegisterError> {
        let cache = TranslationCache::new(options.cache);
        let registrant = |name: String| {
            let view = cache.view();
            Arc::new(Registrant { name, view })
        };
        let mut channel = Self {
            registrants: [name.to_owned(), format!("{name} anew")].map(registrant),
            cache,
            held: Vec::new(),
            renew_busy: options.renew_busy,
            invalidations: Arc::clone(&options.invalidations),
            translate: Arc::clone(&options.translate),
            counts: Arc::default(),
            stop,
        };
        for range in &options.ranges {
            let held = channel.register(*range, 0)?;
            channel.held.push(held);
        }
        Ok(channel)
    }

    fn register(&self, range: PageRange, name: usize) -> Result<Held, RegisterError> {
        let consumer: Arc<dyn Consumer> = self.registrants[name].clone();
        let bytes = u64::from(range.pages) * PAGE_SIZE as u64;
        let gpa = range.start.gpa();
        let sharing = Sharing::Shared;
        let subscription = self.invalidations.register(consumer, gpa, bytes, sharing)?;
        Ok(Held { subscription, name })
    }

    /// Registers every range anew, as a driver does that maps its buffers again.
    pub(super) fn renew(&mut self) -> Result<(), RegisterError> {
        (0..self.held.len()).try_for_each(|nth| self.renew_one(nth))
    }

    /// Registers a range anew, in the midst of whatever moves, and drops the old registration then: for
    /// that, who drops it waits until nobody moves a page of it.
    fn renew_one(&mut self, nth: usize) -> Result<(), RegisterError> {
        let old = &self.held[nth];
        let range = old.subscription.range();
        let new = self.register(range, 1 - old.name)?;
        add(&self.counts.in_midst, new.subscription.is_open().into());
        let old = std::mem::replace(&mut self.held[nth], new);
        let negative = old.subscription.balance() < 0;
        add(&self.counts.negative, negative.into());
        drop(old);
        self.registrants[0].view.forget(range);
        Ok(())
    }

    /// Has `op` access the page at `gfn`, once it does not move.
    pub(super) fn access<R>(
        &mut self,
        gfn: Gfn,
        mut op: impl FnMut(Page<'_>) -> R,
    ) -> Result<R, NoAccess> {
        let first = match self.try_access(gfn, &mut op) {
            ControlFlow::Break(result) => return result,
            ControlFlow::Continue(()) => Instant::now(),
        };
        let mut tries = 0;
        let result = loop {
            tries += 1;
            if tries == 1 && self.renew_busy {
                self.renew_of(gfn).map_err(NoAccess::Unregistered)?;
            }
            if self.stop.load(Ordering::Relaxed) {
                break Err(NoAccess::Stopped);
            }
            if tries < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            if let ControlFlow::Break(result) = self.try_access(gfn, &mut op) {
                break result;
            }
        };
        let ns = u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counts.note_put_off(tries, ns);
        result
    }

    /// Registers the range of `gfn` anew.
    fn renew_of(&mut self, gfn: Gfn) -> Result<(), RegisterError> {
        let of = |held: &Held| held.subscription.range().contains(gfn);
        let Some(nth) = self.held.iter().position(of) else {
            return Ok(());
        };
        add(&self.counts.renewed, 1);
        self.renew_one(nth)
    }

    /// Tries once; goes on if the page is being moved.
    fn try_access<R>(
        &mut self,
        gfn: Gfn,
        op: &mut impl FnMut(Page<'_>) -> R,
    ) -> ControlFlow<Result<R, NoAccess>> {
        let mut all = self.held.iter().map(|held| &held.subscription);
        let Some(subscription) = all.find(|one| one.range().contains(gfn)) else {
            return ControlFlow::Break(Err(NoAccess::Nowhere));
        };
        let accessed = self
            .cache
            .access(gfn, subscription, &*self.translate, |at| {
                // SAFETY: a `Translate` gives addresses of whole pages, that are good until this
                // returns.
                op(unsafe { Page::new(at) })
            });
        match accessed {
            Ok((result, hit)) => {
                let count = [&self.counts.misses, &self.counts.hits][usize::from(hit)];
                add(count, 1);
                ControlFlow::Break(Ok(result))
            }
            Err(Refused::Again) => {
                add(&self.counts.retries, 1);
                ControlFlow::Continue(())
            }
            Err(Refused::Overtaken) => {
                add(&self.counts.retries, 1);
                add(&self.counts.overtaken, 1);
                ControlFlow::Continue(())
            }
            Err(Refused::Nowhere(_)) => ControlFlow::Break(Err(NoAccess::Nowhere)),
        }
    }
}
