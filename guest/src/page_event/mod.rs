//! Pages of which KVM said that they are away, and who sleeps until they are there: KVM's asynchronous page fault,
//! as Linux guests use it.
//!
//! KVM names each such page by a token and tells one CPU of it twice, "not present" and "ready", in this order. But
//! the thread that met the page may let interrupts in before it sleeps, so that "ready" can be handled first: it
//! then leaves a note ([`Waiters::note_early`]), which keeps the thread from a sleep that nobody would end.

#[cfg(all(loom, test))]
mod loom_models;
#[cfg(all(not(loom), test))]
mod tests;

use crate::sched::ThreadId;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed, const_fn};
use core::array::from_fn;

/// Far more than KVM tells of at one time (64, ASYNC_PF_PER_VCPU).
const SLOTS: usize = 128;
/// The token of "ready" for all.
pub const BROADCAST: u32 = !0;

/// Nobody sleeps for this token.
const NOBODY: u32 = u32::MAX;
/// "Ready" came before anybody said whether he sleeps for this token.
const EARLY: u32 = u32::MAX - 1;

/// What "ready" finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// This thread sleeps for the page; the caller wakes it.
    Sleeper(ThreadId),
    /// Nobody does.
    Nobody,
    /// Nobody has said yet: to be [noted](Waiters::note_early).
    Early,
}

/// A token, 0 if the slot is free, and who waits for it.
struct Slot {
    token: AtomicU32,
    who: AtomicU32,
}

/// Who waits for which token, of one CPU: a table hashed by token. Only that CPU touches it, with interrupts masked.
pub struct Waiters {
    slots: [Slot; SLOTS],
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            slots: from_fn(|_| Slot {
                token: AtomicU32::new(0),
                who: AtomicU32::new(0),
            }),
        }
    }
}

impl Waiters {
    const_fn! {
        /// Nobody waits.
        #[must_use]
        pub fn new() -> Self {
            #[cfg(loom)]
            return Self::default();
            #[cfg(not(loom))]
            Self {
                slots: [const {
                    Slot {
                        token: AtomicU32::new(0),
                        who: AtomicU32::new(0),
                    }
                }; SLOTS],
            }
        }
    }

    /// `thread` is about to sleep for the page of `token`; whether it must. If so, [`Self::ready`] names it.
    #[must_use]
    pub fn sleeps(&self, token: u32, thread: ThreadId) -> bool {
        self.expect(token, thread.0)
    }

    /// The thread that met the page of `token` does not sleep for it.
    pub fn stays(&self, token: u32) {
        self.expect(token, NOBODY);
    }

    /// KVM says that the page of `token` is there.
    #[must_use]
    pub fn ready(&self, token: u32) -> Ready {
        match self.take(token) {
            None => Ready::Early,
            Some(NOBODY) => Ready::Nobody,
            Some(EARLY) => panic!("KVM said twice that page {token:#x} is ready"),
            Some(thread) => Ready::Sleeper(ThreadId(thread)),
        }
    }

    /// Keeps in mind that the page of `token` is there, for who has yet to say whether he sleeps for it.
    pub fn note_early(&self, token: u32) {
        self.put(token, EARLY);
    }

    /// KVM says that all pages are there: nothing is waited for any more. Gives `wake` the sleepers.
    pub fn ready_all(&self, mut wake: impl FnMut(ThreadId)) {
        for slot in &self.slots {
            if slot.token.load(Relaxed) == 0 {
                continue;
            }
            slot.token.store(0, Relaxed);
            let who = slot.who.load(Relaxed);
            if who < EARLY {
                wake(ThreadId(who));
            }
        }
    }

    /// Whether nothing is waited for, and nothing noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.all(|slot| slot.token.load(Relaxed) == 0)
    }

    /// `who` waits for `token` from now on; `false` if it was ready before.
    fn expect(&self, token: u32, who: u32) -> bool {
        match self.take(token) {
            Some(EARLY) => false,
            Some(_) => panic!("KVM said twice that page {token:#x} is away"),
            None => {
                self.put(token, who);
                true
            }
        }
    }

    fn put(&self, token: u32, who: u32) {
        assert!(
            token != 0 && token != BROADCAST,
            "{token:#x} is no page's token"
        );
        let slot = self
            .find(token, 0)
            .expect("KVM tells of 64 pages at one time at most");
        slot.who.store(who, Relaxed);
        slot.token.store(token, Relaxed);
    }

    fn take(&self, token: u32) -> Option<u32> {
        let slot = self.find(token, token)?;
        slot.token.store(0, Relaxed);
        Some(slot.who.load(Relaxed))
    }

    /// The slot that holds `content`, from where `token` belongs on.
    fn find(&self, token: u32, content: u32) -> Option<&Slot> {
        // The lower bits are the vCPU's number, the others count (`alloc_apf_token` in Linux).
        let first = (token >> 12) as usize;
        (0..SLOTS)
            .map(|step| &self.slots[(first + step) % SLOTS])
            .find(|slot| slot.token.load(Relaxed) == content)
    }
}
