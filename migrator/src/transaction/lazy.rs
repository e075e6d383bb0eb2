//! [`StrategyKind::Lazy`](crate::StrategyKind::Lazy): pages that are away, and come one by one.

use super::steps::{BUSTED_GAP, TRIES, TRIES_BACK};
use super::window::OpenWindow;
use super::{Fatal, Transaction};
use crate::page_word::{Away, Leave};
use crate::sync::Ordering;
use crate::uffd::{Transfer, is_transient};
use crate::{AbortReason, MAX_BATCH, Phase, Variant, clock};

/// A set of pages of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageSet([u64; MAX_BATCH as usize / 64]);

impl PageSet {
    fn insert(&mut self, nth: u32) {
        self.0[nth as usize / 64] |= 1 << (nth % 64);
    }

    fn contains(&self, nth: u32) -> bool {
        self.0[nth as usize / 64] & 1 << (nth % 64) != 0
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// How pages that were away came back: fetched, but for these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Returns {
    /// In their old frames.
    restored: PageSet,
    /// Not at all.
    lost: PageSet,
}

impl Returns {
    pub(super) fn is_fetched(&self, nth: u32) -> bool {
        !self.restored.contains(nth) && !self.lost.contains(nth)
    }

    pub(super) fn all_fetched(&self) -> bool {
        self.restored.len() + self.lost.len() == 0
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost.len()
    }
}

impl Transaction<'_> {
    /// Unmaps all, and fetches page by page; who touches a page meanwhile has the fault handler fetch
    /// it.
    pub(super) fn move_lazily(&mut self) {
        let mut window = OpenWindow::new(self);
        let this = window.inside();
        if !this.unmap() || this.stops_in_window(Phase::Unmapped) {
            return;
        }
        // The kernel copies as it maps.
        this.times.copied = this.times.unmapped;
        this.send_away();
        if this.tools.variant == Variant::ZeroFill {
            // Long enough for the guest to touch one of the pages.
            std::thread::sleep(BUSTED_GAP);
        }
        // No budget any more: who touches a page has it brought.
        if this.strikes(Phase::Away) {
            this.stop_in_window(AbortReason::Injected);
        } else {
            if !this.tools.prefetch_after.is_zero() {
                std::thread::sleep(this.tools.prefetch_after);
            }
            this.fetch_all();
        }
    }

    /// From here on the fault handler brings what is touched.
    fn send_away(&mut self) {
        self.phase = Phase::Away;
        // All that are not called back are taken for fetched.
        self.mapped = self.out;
        self.away = Some(Returns::default());
        let mut waited = false;
        for nth in 0..self.out {
            let address = self.tools.backend.limbo_address(nth);
            waited |= self.claim.words[nth as usize].leave(Leave::Away(address));
        }
        self.wake_if(waited);
    }

    /// Fetches in the order of addresses, but first what comes after the page that was last
    /// demanded.
    fn fetch_all(&mut self) {
        loop {
            let mut busy = false;
            for nth in 0..self.out {
                while let Some(next) = self.after_demanded() {
                    if self.fetch(next) != Away::Claimed || self.abort.is_some() {
                        break;
                    }
                }
                busy |= self.abort.is_none() && self.fetch(nth) == Away::Busy;
                if self.abort.is_some() {
                    return;
                }
            }
            if !busy {
                break;
            }
            give_way();
        }
        self.times.mapped = clock::now();
    }

    /// The page after the one that was last demanded, if that is one of ours; asked once for each
    /// demand.
    fn after_demanded(&self) -> Option<u32> {
        let (demanded, first) = self.tools.demanded;
        let page = demanded.load(Ordering::Relaxed);
        let next = page.checked_sub(first)?.checked_add(1)?;
        if next >= self.out {
            return None;
        }
        // A demand that comes in between is one that is not followed.
        demanded.store(page + 1, Ordering::Relaxed);
        Some(next)
    }

    /// Fetches the `nth` page, if it is away.
    fn fetch(&mut self, nth: u32) -> Away {
        let address = self.tools.backend.limbo_address(nth);
        let word = &self.claim.words[nth as usize];
        let found = word.fetch(address);
        if found != Away::Claimed {
            return found;
        }
        let errno = self.try_step(TRIES, |this| {
            this.tools
                .backend
                .map(this.claim.lane, this.claim.hva, nth, 1)
        });
        let left = match errno {
            0 => Leave::Idle(clock::now()),
            _ => Leave::Away(address),
        };
        let waited = word.end_populate(left);
        self.wake_if(waited);
        if errno != 0 {
            self.abort = Some(AbortReason::Errno(errno));
        }
        found
    }

    /// Makes one step, again while the kernel asks for that, `tries` times at most; 0 or the errno.
    fn try_step(&mut self, tries: u32, step: impl Fn(&mut Self) -> Transfer) -> i32 {
        let mut tried = 1;
        loop {
            let errno = step(self).errno;
            if !is_transient(errno) || tried == tries {
                return errno;
            }
            tried += 1;
            self.retried += 1;
            std::thread::yield_now();
        }
    }

    /// Puts back what is away still, and waits for what the fault handler is at.
    pub(super) fn call_back(&mut self) {
        loop {
            let mut busy = false;
            for nth in 0..self.out {
                let address = self.tools.backend.limbo_address(nth);
                match self.claim.words[nth as usize].call_back(address) {
                    Away::Claimed => self.put_one_back(nth),
                    Away::Busy => busy = true,
                    Away::Back => {}
                }
            }
            if !busy {
                break;
            }
            give_way();
        }
        if self.times.mapped == 0 {
            self.times.mapped = clock::now();
        }
    }

    #[cold]
    fn put_one_back(&mut self, nth: u32) {
        let errno = self.try_step(TRIES_BACK, |this| {
            this.tools
                .backend
                .put_back(this.claim.lane, this.claim.hva, nth, 1)
        });
        let returns = self.away.get_or_insert_default();
        let left = if errno == 0 {
            returns.restored.insert(nth);
            Leave::Idle(clock::now())
        } else {
            returns.lost.insert(nth);
            let range = self.range(nth, 1);
            self.lost.get_or_insert(Fatal::Lost { range, errno });
            Leave::Lost
        };
        let reason = match errno {
            0 => AbortReason::Panicked,
            errno => AbortReason::Errno(errno),
        };
        self.abort.get_or_insert(reason);
        let waited = self.claim.words[nth as usize].leave(left);
        self.wake_if(waited);
    }

    fn wake_if(&mut self, waited: bool) {
        if !waited {
            return;
        }
        let (lane, hva, pages) = (self.claim.lane, self.claim.hva, self.pages());
        if let Err(error) = self.tools.backend.wake(lane, hva, pages) {
            self.lost.get_or_insert(Fatal::Wake(error));
        }
    }
}

/// The fault handler's turn; in a model, everybody else's.
fn give_way() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut set = PageSet::default();
        for nth in [0, 63, 64, MAX_BATCH - 1] {
            assert!(!set.contains(nth));
            set.insert(nth);
            assert!(set.contains(nth));
        }
        assert_eq!(set.len(), 4);
    }
}
