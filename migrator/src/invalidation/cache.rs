//! A translation cache that keeps to the protocol.

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use super::Subscription;
use super::sync::{AtomicPtr, AtomicU64, Ordering, fence};
use crate::{Gfn, PageRange, Translate};

/// No page: frame numbers are stored with 1 added.
const NONE: u64 = 0;

/// Why a page cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is being moved: try again later.
    #[error("the page is being moved; try again later")]
    Again,
    /// It was moved while it was looked up, which may be for nothing now: try again.
    #[error("the page was moved while it was looked up; try again")]
    Overtaken,
    /// It has no translation, or is not in the range of the subscription.
    #[error("{0} is not guest memory that the consumer may reach; use pages of its subscription")]
    Nowhere(Gfn),
}

/// One translation.
#[derive(Debug)]
struct Entry {
    key: AtomicU64,
    at: AtomicPtr<u8>,
}

/// What the owner of the cache and movers share.
#[derive(Debug)]
struct Shared {
    /// The page that the owner uses now.
    in_use: AtomicU64,
    entries: Box<[Entry]>,
}

/// The translations of one thread of a consumer: a cache with one entry for each slot that a frame
/// number maps to.
#[derive(Debug)]
pub struct TranslationCache(Arc<Shared>);

/// The movers' view of a cache: what a [`Consumer`](super::Consumer)'s methods ask.
#[derive(Clone, Debug)]
pub struct CacheView(Arc<Shared>);

/// A page is in use as long as this lives.
struct InUse<'c>(&'c Shared);

impl<'c> InUse<'c> {
    fn enter(shared: &'c Shared, key: u64) -> Self {
        shared.in_use.store(key, Ordering::Relaxed);
        // Pairs with the second fence in `OpenRange::start`: this finds the page forgotten, or the
        // mover finds it in use.
        fence(Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        // Pairs with the acquire in `is_quiet`: all accesses are over.
        self.0.in_use.store(NONE, Ordering::Release);
    }
}

const fn key_of(gfn: Gfn) -> u64 {
    gfn.0.wrapping_add(1)
}

impl TranslationCache {
    /// An empty cache of `entries` translations, rounded up to a power of two.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let empty = |_| Entry {
            key: AtomicU64::new(NONE),
            at: AtomicPtr::new(null_mut()),
        };
        Self(Arc::new(Shared {
            in_use: AtomicU64::new(NONE),
            entries: (0..entries.next_power_of_two()).map(empty).collect(),
        }))
    }

    /// What movers need of it.
    #[must_use]
    pub fn view(&self) -> CacheView {
        CacheView(Arc::clone(&self.0))
    }

    /// Has `op` access the page at `gfn`, by the address of its first byte, which is good until `op`
    /// returns: no mover changes the page meanwhile. `op` must be short: movers wait for it. The flag
    /// in the result says whether the translation was in the cache.
    ///
    /// # Errors
    /// [`Refused`]; `op` was not called then.
    pub fn access<R>(
        &mut self,
        gfn: Gfn,
        subscription: &Subscription,
        translate: &(impl Translate + ?Sized),
        op: impl FnOnce(NonNull<u8>) -> R,
    ) -> Result<(R, bool), Refused> {
        if !subscription.range().contains(gfn) {
            return Err(Refused::Nowhere(gfn));
        }
        let (shared, key) = (&*self.0, key_of(gfn));
        let entry = shared.entry(key);
        {
            let _in_use = InUse::enter(shared, key);
            if entry.key.load(Ordering::Relaxed) == key
                && let Some(at) = NonNull::new(entry.at.load(Ordering::Relaxed))
            {
                return Ok((op(at), true));
            }
        }
        // Not in use while it is looked up: no mover waits for that, so that one may come and go.
        let snapshot = subscription.read_begin().ok_or(Refused::Again)?;
        let at = translate.translate(gfn).ok_or(Refused::Nowhere(gfn))?;
        let _in_use = InUse::enter(shared, key);
        // Movers look at the key alone, and this thread is the only one to set either.
        entry.at.store(at.as_ptr(), Ordering::Relaxed);
        entry.key.store(key, Ordering::Relaxed);
        if subscription.read_retry(snapshot) {
            entry.key.store(NONE, Ordering::Relaxed);
            return Err(Refused::Overtaken);
        }
        Ok((op(at), false))
    }
}

impl Shared {
    fn entry(&self, key: u64) -> &Entry {
        &self.entries[key as usize & (self.entries.len() - 1)]
    }
}

impl CacheView {
    /// Forgets the translations of the pages of `range`.
    pub fn forget(&self, range: PageRange) {
        let entries = &self.0.entries;
        let forget = |entry: &Entry| {
            let key = entry.key.load(Ordering::Relaxed);
            if key != NONE && range.contains(Gfn(key.wrapping_sub(1))) {
                // Fails if the owner has put another page there meanwhile.
                let _ = entry
                    .key
                    .compare_exchange(key, NONE, Ordering::Relaxed, Ordering::Relaxed);
            }
        };
        if range.pages as usize >= entries.len() {
            entries.iter().for_each(forget);
        } else {
            let keys = key_of(range.start)..key_of(range.end());
            keys.for_each(|key| forget(self.0.entry(key)));
        }
    }

    /// Whether the owner uses no page of `range`.
    #[must_use]
    pub fn is_quiet(&self, range: PageRange) -> bool {
        let key = self.0.in_use.load(Ordering::Acquire);
        key == NONE || !range.contains(Gfn(key.wrapping_sub(1)))
    }
}
