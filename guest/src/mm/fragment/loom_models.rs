//! The states of a page's halves, under every order of steps.
//!
//! A CPU that queues the head runs the callback as well: that a grace period lies between makes no
//! difference to who may touch what.

use super::state::{Deferred, Half, List, PageState, Settled};
use loom::{cell::UnsafeCell, model::Builder, sync::Mutex, thread};
// Loom's own cannot be dropped by a panic that comes while another thread has one.
use std::sync::Arc;

/// One rule broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The head is queued without looking whether it is in use.
    Head,
    /// Halves are allocated without looking whether they are pending.
    Pending,
    /// The callback gives the page back without the lock.
    Listed,
    /// A page stays listed when its last free half is reused while the other is pending.
    Stays,
}

/// A cell that loom lets nobody touch while another CPU does.
#[derive(Default)]
struct Cell(UnsafeCell<bool>);

impl Cell {
    fn set(&self, value: bool) -> bool {
        // SAFETY: loom fails the model if anybody else is at the value.
        self.0
            .with_mut(|cell| unsafe { core::mem::replace(&mut *cell, value) })
    }
}

// SAFETY: loom checks every access.
unsafe impl Sync for Cell {}
// SAFETY: a flag.
unsafe impl Send for Cell {}

struct Page {
    state: PageState,
    /// The list's lock.
    lock: Mutex<()>,
    /// Whether the page is on the list.
    listed: Cell,
    /// The callback head: whether it is queued.
    head: Cell,
    /// Given back: nobody may touch the page any more.
    gone: Cell,
    broken: Broken,
}

/// The page's place on the list, with the lock held.
struct Links<'a> {
    page: &'a Page,
    stays: bool,
}

impl List for Links<'_> {
    fn push(&mut self) {
        assert!(!self.page.gone.set(false), "listed after it was given back");
        assert!(!self.page.listed.set(true), "listed twice");
    }
    fn remove(&mut self) {
        assert!(self.page.listed.set(self.stays), "it is not listed");
    }
}

impl Page {
    /// The first half is allocated, and the second too if `both`; else it is free, and the page
    /// listed.
    fn new(broken: Broken, both: bool) -> Self {
        let page = Self {
            state: PageState::default(),
            lock: Mutex::new(()),
            listed: Cell::default(),
            head: Cell::default(),
            gone: Cell::default(),
            broken,
        };
        page.locked(|page, links| page.state.reset(Some(links)));
        if both {
            let second = page.locked(|page, links| page.state.take(true, links));
            assert_eq!(second, Some(Half::Second));
        }
        page
    }

    fn locked<T>(&self, change: impl FnOnce(&Self, &mut Links<'_>) -> T) -> T {
        let _held = self.lock.lock().expect("no panic");
        let mut links = Links {
            page: self,
            stays: false,
        };
        change(self, &mut links)
    }

    fn is_listed(&self) -> bool {
        let listed = self.listed.set(false);
        self.listed.set(listed);
        listed
    }

    /// Allocates a half if the page is listed.
    fn allocate(&self) -> Option<Half> {
        self.locked(|page, links| {
            links.stays = page.broken == Broken::Stays;
            let check = page.broken != Broken::Pending;
            page.is_listed()
                .then(|| page.state.take(check, links))
                .flatten()
        })
    }

    /// Frees a half, and runs the callback if it was queued.
    fn free(&self, half: Half) {
        match self.state.defer(half, self.broken != Broken::Head) {
            Deferred::Queue => {}
            Deferred::Later => return,
            Deferred::Misuse(word) => panic!("misused: {word:#b}"),
        }
        while self.callback() {}
    }

    /// Queues the head and runs the callback; whether it is to be queued again.
    fn callback(&self) -> bool {
        assert!(!self.head.set(true), "queued twice");
        let half = self.state.queued().expect("a half that waits");
        assert!(self.head.set(false), "not queued");
        let settled = if self.broken == Broken::Listed {
            self.state.settle_unlocked(half)
        } else {
            self.locked(|page, links| page.state.settle(half, true, links))
        };
        let Settled {
            requeue,
            over,
            sound,
        } = settled;
        assert!(sound, "misused");
        if over {
            let listed = self.locked(|page, _| page.is_listed());
            assert!(!listed, "given back while it is listed");
            assert!(!self.gone.set(true), "given back twice");
        }
        requeue
    }
}

/// Each allocated half is freed by a CPU of its own, while another one allocates what is free and
/// frees it again.
fn explore(broken: Broken, both: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let page = Arc::new(Page::new(broken, both));
        let halves = if both { 2 } else { 1 };
        let threads: Vec<_> = [Half::First, Half::Second][..halves]
            .iter()
            .map(|&half| {
                let page = page.clone();
                thread::spawn(move || page.free(half))
            })
            .collect();
        if let Some(half) = page.allocate() {
            page.free(half);
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert!(
            page.gone.set(true),
            "kept for ever: {:#b}",
            page.state.word()
        );
    });
}

#[test]
fn loom_fragments_are_given_back_once() {
    explore(Broken::Nothing, true);
}

#[test]
fn loom_fragment_half_is_reused_while_the_other_is_pending() {
    explore(Broken::Nothing, false);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_fragment_head_used_twice_is_caught() {
    explore(Broken::Head, true);
}

#[test]
#[should_panic(expected = "misused")]
fn loom_fragment_reused_while_pending_is_caught() {
    explore(Broken::Pending, false);
}

#[test]
#[should_panic(expected = "given back while it is listed")]
fn loom_fragment_given_back_while_listed_is_caught() {
    explore(Broken::Listed, false);
}

#[test]
#[should_panic(expected = "listed")]
fn loom_fragment_page_that_stays_listed_is_caught() {
    explore(Broken::Stays, false);
}
