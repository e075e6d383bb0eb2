//! Every interleaving of a mover, a thread that touches its page, and the fault handler.
//!
//! The mover's [`Transaction`] and the handler's [`serve`] are the real ones; the kernel is a model
//! of one page-table entry and one sleeper, as `fs/userfaultfd.c` has them: a fault queues itself
//! and then looks at the entry again before it sleeps, a map fills the entry and then wakes.

use std::convert::Infallible;
use std::io;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::backend::{Backend, Source};
use crate::batch::Claim;
use crate::counters::{Counters, Counts, LiveCounters};
use crate::inject::Injector;
use crate::page_word::{Lane, Leave, PageWord, serve};
use crate::transaction::{Fatal, Tools, Transaction};
use crate::uffd::{Transfer, UffdError};
use crate::windows::Windows;
use crate::{
    Class, Gfn, Inject, InjectAction, PAGE_SIZE, Phase, Served, Silent, StrategyKind, Variant,
};

/// What the guest had written.
const DATA: u8 = 7;
/// What a fresh page holds.
const ZERO: u8 = 1;

#[derive(Default)]
struct Kernel {
    /// The page's contents, or nothing if it is not mapped.
    entry: Mutex<Option<u8>>,
    asleep: Mutex<bool>,
}

impl Kernel {
    fn fill(&self, contents: u8) -> Result<(), i32> {
        {
            let mut entry = self.entry.lock().expect("no panic");
            if entry.is_some() {
                return Err(libc::EEXIST);
            }
            *entry = Some(contents);
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        *self.asleep.lock().expect("no panic") = false;
    }

    fn is_mapped(&self) -> bool {
        self.entry.lock().expect("no panic").is_some()
    }

    /// A touch of the page: true if it sleeps and an event was queued.
    fn touch(&self) -> bool {
        if self.is_mapped() {
            return false;
        }
        *self.asleep.lock().expect("no panic") = true;
        if self.is_mapped() {
            self.wake();
            return false;
        }
        true
    }
}

struct Fake<'a> {
    kernel: Arc<Kernel>,
    windows: &'a Windows,
    limbo: Option<u8>,
    staged: Option<u8>,
    /// Old frames cannot be put back.
    broken: bool,
}

impl Fake<'_> {
    fn give(&self, frame: Option<u8>) -> Transfer {
        match self.kernel.fill(frame.expect("a frame to give")) {
            Ok(()) => all(),
            Err(errno) => Transfer { done: 0, errno },
        }
    }
}

fn all() -> Transfer {
    Transfer {
        done: PAGE_SIZE,
        errno: 0,
    }
}

impl Backend for Fake<'_> {
    fn prepare(&mut self, _: u32) -> io::Result<u32> {
        Ok(0)
    }

    fn protect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        0
    }

    fn unprotect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        0
    }

    fn is_copied(&self, _: Source, _: u32) -> bool {
        true
    }

    fn unmap(&mut self, _: usize, _: u32) -> Transfer {
        self.limbo = self.kernel.entry.lock().expect("no panic").take();
        match self.limbo {
            Some(_) => all(),
            None => Transfer {
                done: 0,
                errno: libc::ENOENT,
            },
        }
    }

    fn copy(&mut self, _: Source, _: u32, _: usize) {
        self.staged = self.limbo;
    }

    fn map(&mut self, _: Lane, _: usize, _: u32, _: u32) -> Transfer {
        self.give(self.staged)
    }

    fn put_back(&mut self, _: Lane, _: usize, _: u32, _: u32) -> Transfer {
        assert!(self.windows.is_open(), "who spins was told before the end");
        if self.broken {
            return Transfer {
                done: 0,
                errno: libc::EINVAL,
            };
        }
        self.give(self.limbo)
    }

    fn commit(&mut self, _: u32) {}

    fn wake(&mut self, _: Lane, _: usize, _: u32) -> Result<(), UffdError> {
        self.kernel.wake();
        Ok(())
    }

    fn limbo_address(&self, _: u32) -> usize {
        0
    }

    fn scribble(&mut self) {}

    fn audit(&mut self) -> u32 {
        0
    }
    fn take_uncounted(&mut self) -> u32 {
        0
    }
}

/// Moves the page once, if it can be claimed; returns the counters.
fn migrate(kernel: &Arc<Kernel>, word: &PageWord, now: u64, inject: Option<Phase>) -> Counts {
    let (counters, end) = try_migrate(kernel, word, now, inject, false);
    end.expect("nothing is lost");
    counters.total()
}

fn try_migrate(
    kernel: &Arc<Kernel>,
    word: &PageWord,
    now: u64,
    inject: Option<Phase>,
    broken: bool,
) -> (Counters, Result<(), Fatal>) {
    let mut end = Ok(());
    let counters = LiveCounters::default();
    let windows = Windows::default();
    let mut backend = Fake {
        kernel: Arc::clone(kernel),
        windows: &windows,
        limbo: None,
        staged: None,
        broken,
    };
    let mut injector = Injector::new(inject.map(|phase| Inject {
        phase,
        nth: 1,
        on: true,
        action: InjectAction::Abort,
    }));
    if word.try_claim(now, 32) {
        let claim = Claim {
            words: std::slice::from_ref(word),
            classes: &[Class::default()],
            gfn: Gfn(0),
            hva: 0,
            lane: Lane::Blocking,
        };
        let mut transaction = Transaction::new(
            claim,
            Tools {
                backend: &mut backend,
                injector: &mut injector,
                counters: &counters,
                windows: &windows,
                observer: &Silent,
                strategy: StrategyKind::UnmapCopy,
                variant: Variant::None,
            },
            now,
        );
        transaction.run();
        end = transaction.finish();
    }
    (counters.snapshot(), end)
}

/// The handler's turn, after an event.
fn handle(kernel: &Kernel, word: &PageWord) {
    let fill = || {
        Ok(match kernel.fill(ZERO) {
            Ok(()) => Served::Hole,
            Err(_) => Served::Present,
        })
    };
    let wake = || {
        kernel.wake();
        Ok::<_, Infallible>(())
    };
    let Ok(_) = serve(word, fill, wake);
}

/// A mover against a thread that touches the page; `contents` are there at first.
fn mover_and_fault(contents: Option<u8>, inject: Option<Phase>, handle: fn(&Kernel, &PageWord)) {
    loom::model(move || {
        let kernel = Arc::new(Kernel::default());
        *kernel.entry.lock().expect("no panic") = contents;
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let guest = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || {
                if kernel.touch() {
                    handle(&kernel, &word);
                }
            })
        };
        let counts = migrate(&kernel, &word, 100, inject);
        guest.join().expect("no panic");
        assert!(
            !*kernel.asleep.lock().expect("no panic"),
            "who touched the page sleeps for ever"
        );
        // Who was woken touches the page again: now it must be there.
        if kernel.touch() {
            handle(&kernel, &word);
        }
        let expected = contents.unwrap_or(ZERO);
        let left = *kernel.entry.lock().expect("no panic");
        if contents.is_some() || left.is_some() {
            assert_eq!(left, Some(expected), "the contents were lost");
        }
        assert!(left.is_some(), "the hole was not filled");
        assert!(counts.add_up() && counts.attempted <= 1, "{counts:?}");
        assert!(word.is_movable(u64::MAX, 32), "the page can be moved again");
    });
}

#[test]
fn loom_mover_against_fault_on_a_present_page() {
    mover_and_fault(Some(DATA), None, handle);
}

#[test]
fn loom_mover_against_fault_on_a_hole() {
    mover_and_fault(None, None, handle);
}

#[test]
fn loom_abort_in_every_phase_against_fault() {
    for phase in [Phase::Claimed, Phase::Unmapped, Phase::Copied] {
        mover_and_fault(Some(DATA), Some(phase), handle);
        mover_and_fault(None, Some(phase), handle);
    }
}

#[test]
#[should_panic = "nothing is lost"]
fn loom_catches_a_handler_that_fills_without_a_claim() {
    mover_and_fault(Some(DATA), None, |kernel, _| {
        if kernel.fill(ZERO).is_err() {
            kernel.wake();
        }
    });
}

#[test]
#[should_panic = "sleeps for ever"]
fn loom_catches_a_handler_that_leaves_no_mark() {
    mover_and_fault(None, None, |kernel, word| {
        if word.is_movable(u64::MAX, 0) {
            handle(kernel, word);
        }
    });
}

#[test]
fn loom_a_lost_page_is_never_filled_nor_claimed() {
    loom::model(|| {
        let kernel = Arc::new(Kernel::default());
        *kernel.entry.lock().expect("no panic") = Some(DATA);
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let guest = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || {
                if kernel.touch() {
                    handle(&kernel, &word);
                }
            })
        };
        let (counters, end) = try_migrate(&kernel, &word, 100, Some(Phase::Unmapped), true);
        guest.join().expect("no panic");
        assert!(matches!(end, Err(Fatal::Lost { range, .. }) if range.pages == 1));
        assert_eq!((counters.lost_pages, counters.total().aborted), (1, 1));
        // Whoever touches it now, again or for the first time, sleeps and is not given zeroes.
        assert!(kernel.touch());
        handle(&kernel, &word);
        assert!(*kernel.asleep.lock().expect("no panic") && !kernel.is_mapped());
        let (other, _) = try_migrate(&kernel, &word, u64::MAX, None, false);
        assert_eq!(other.total().attempted, 0, "claimed by another mover");
    });
}

#[test]
fn loom_two_movers_move_a_page_once_and_then_it_rests() {
    loom::model(|| {
        let kernel = Arc::new(Kernel::default());
        *kernel.entry.lock().expect("no panic") = Some(DATA);
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let other = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || migrate(&kernel, &word, 100, None))
        };
        let mine = migrate(&kernel, &word, 100, None);
        let theirs = other.join().expect("no panic");
        // The stamp of the first is the real clock's, far after 100.
        assert_eq!(mine.committed + theirs.committed, 1);
        assert_eq!(*kernel.entry.lock().expect("no panic"), Some(DATA));
    });
}

struct Owned {
    word: PageWord,
    frame: UnsafeCell<u32>,
}

// SAFETY: loom's cell checks that the claim keeps the accesses to it apart: that is the model.
unsafe impl Sync for Owned {}

#[test]
fn loom_a_claim_orders_what_its_owners_did() {
    loom::model(|| {
        let page = Arc::new(Owned {
            word: PageWord::new(Lane::Blocking),
            frame: UnsafeCell::new(0),
        });
        let own = |page: &Owned| {
            let claimed = page.word.try_claim(100, 0);
            if claimed {
                // SAFETY: the claim is exclusive; loom fails the model if it is not.
                page.frame.with_mut(|frame| unsafe { *frame += 1 });
                let waited = page.word.leave(Leave::Untouched);
                assert!(!waited, "nobody waits here");
            }
            u32::from(claimed)
        };
        let other = {
            let page = Arc::clone(&page);
            thread::spawn(move || own(&page))
        };
        let claims = own(&page) + other.join().expect("no panic");
        assert!(claims >= 1);
        // SAFETY: the other thread has ended.
        page.frame
            .with(|frame| assert_eq!(unsafe { *frame }, claims));
    });
}
