//! One thread's way into guest memory: its cache, its registrations, and what it counts.

use super::copy::Page;
use super::counts::{LiveCounts, add};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAccess {
    /// The page is not there for the device.
    Nowhere,
    /// The device was told to stop.
    Stopped,
}

pub(super) struct Channel {
    registrant: Arc<Registrant>,
    cache: TranslationCache,
    /// One for each range.
    subscriptions: Vec<Subscription>,
    ranges: Arc<[PageRange]>,
    invalidations: Arc<Invalidations>,
    translate: Arc<dyn Translate>,
    pub(super) counts: Arc<LiveCounts>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Channel {
    pub(super) fn new(
        name: String,
        entries: usize,
        ranges: Arc<[PageRange]>,
        invalidations: Arc<Invalidations>,
        translate: Arc<dyn Translate>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, RegisterError> {
        let cache = TranslationCache::new(entries);
        let view = cache.view();
        let mut channel = Self {
            registrant: Arc::new(Registrant { name, view }),
            cache,
            subscriptions: Vec::new(),
            ranges,
            invalidations,
            translate,
            counts: Arc::default(),
            stop,
        };
        channel.renew()?;
        Ok(channel)
    }

    /// Drops the registrations and registers anew, as a driver does that maps its buffers again.
    pub(super) fn renew(&mut self) -> Result<(), RegisterError> {
        let negative = self.subscriptions.iter().filter(|one| one.balance() < 0);
        add(&self.counts.negative, negative.count() as u64);
        self.subscriptions.clear();
        // Nobody tells it of changes at this moment, so it must not remember what was.
        self.ranges
            .iter()
            .for_each(|range| self.registrant.view.forget(*range));
        for range in &*self.ranges {
            let consumer: Arc<dyn Consumer> = self.registrant.clone();
            let bytes = u64::from(range.pages) * PAGE_SIZE as u64;
            let gpa = range.start.gpa();
            let registered = self
                .invalidations
                .register(consumer, gpa, bytes, Sharing::Shared);
            self.subscriptions.push(registered?);
        }
        Ok(())
    }

    /// Has `op` access the page at `gfn`, once it does not move.
    pub(super) fn access<R>(
        &mut self,
        gfn: Gfn,
        mut op: impl FnMut(Page<'_>) -> R,
    ) -> Result<R, NoAccess> {
        let mut tries = 0;
        loop {
            match self.try_access(gfn, &mut op) {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(()) => tries += 1,
            }
            add(&self.counts.retries, 1);
            self.counts
                .retries_in_a_row
                .fetch_max(tries, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                return Err(NoAccess::Stopped);
            }
            if tries < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn try_access<R>(
        &mut self,
        gfn: Gfn,
        op: &mut impl FnMut(Page<'_>) -> R,
    ) -> ControlFlow<Result<R, NoAccess>> {
        let mut all = self.subscriptions.iter();
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
            Err(Refused::Again) => ControlFlow::Continue(()),
            Err(Refused::Nowhere(_)) => ControlFlow::Break(Err(NoAccess::Nowhere)),
        }
    }
}
