//! The kernel, as a model: one page-table entry and one sleeper, as `fs/userfaultfd.c` has them. A
//! fault queues itself and then looks at the entry again before it sleeps; a map fills the entry and
//! then wakes, and so does taking a write-protection off.

use std::io;
use std::pin::pin;
use std::sync::Arc as StdArc;

use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::backend::{Backend, Source};
use crate::batch::Claim;
use crate::counters::{Counters, LiveCounters};
use crate::inject::Injector;
use crate::lock_order;
use crate::page_word::{Lane, PageWord};
use crate::sync::AtomicU32;
use crate::transaction::{Fatal, Tools, Transaction};
use crate::uffd::{Transfer, UffdError};
use crate::windows::Windows;
use crate::{
    Class, Gfn, GracePeriods, Inject, InjectAction, InvalidationOptions, Invalidations, OpenRange,
    PAGE_SIZE, Phase, Silent, StrategyKind, Variant,
};

/// What the guest had written.
pub(super) const DATA: u8 = 7;
/// What a fresh page holds.
pub(super) const ZERO: u8 = 1;

/// Where the page's old frame lies.
const SLOT: usize = 0x5000;

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) contents: u8,
    pub(super) protected: bool,
}

#[derive(Default)]
pub(super) struct Kernel {
    /// The page, or nothing if it is not mapped.
    entry: Mutex<Option<Mapped>>,
    /// What lies in limbo.
    limbo: Mutex<Option<u8>>,
    asleep: Mutex<bool>,
    woken: Condvar,
}

impl Kernel {
    /// One that has the page mapped, or not.
    pub(super) fn with(contents: Option<u8>) -> Arc<Self> {
        let kernel = Self::default();
        *kernel.entry() = contents.map(writable);
        Arc::new(kernel)
    }

    fn entry(&self) -> MutexGuard<'_, Option<Mapped>> {
        self.entry.lock().expect("no panic")
    }

    /// What lies in limbo at `address`.
    pub(super) fn old_frame(&self, address: usize) -> u8 {
        assert_eq!(address, SLOT);
        self.limbo().expect("an old frame that is gone was read")
    }

    fn limbo(&self) -> MutexGuard<'_, Option<u8>> {
        self.limbo.lock().expect("no panic")
    }

    pub(super) fn contents(&self) -> Option<u8> {
        self.entry().map(|page| page.contents)
    }

    pub(super) fn is_asleep(&self) -> bool {
        *self.asleep.lock().expect("no panic")
    }

    pub(super) fn fill(&self, contents: u8) -> Result<(), i32> {
        {
            let mut entry = self.entry();
            if entry.is_some() {
                return Err(libc::EEXIST);
            }
            *entry = Some(writable(contents));
        }
        self.wake();
        Ok(())
    }

    pub(super) fn wake(&self) {
        *self.asleep.lock().expect("no panic") = false;
        self.woken.notify_all();
    }

    /// Sleeps, as who touched the page does, until somebody wakes it.
    pub(super) fn sleep(&self) {
        let mut asleep = self.asleep.lock().expect("no panic");
        while *asleep {
            asleep = self.woken.wait(asleep).expect("no panic");
        }
    }

    /// A touch of the page: true if it sleeps and an event was queued.
    pub(super) fn touch(&self) -> bool {
        self.sleeps_unless(|entry| entry.is_some())
    }

    /// A write of the page, which adds one: true if it sleeps, having written nothing.
    pub(super) fn write(&self) -> bool {
        self.sleeps_unless(|entry| match entry {
            Some(page) if !page.protected => {
                page.contents += 1;
                true
            }
            _ => false,
        })
    }

    fn sleeps_unless(&self, mut done: impl FnMut(&mut Option<Mapped>) -> bool) -> bool {
        if done(&mut self.entry()) {
            return false;
        }
        *self.asleep.lock().expect("no panic") = true;
        if done(&mut self.entry()) {
            self.wake();
            return false;
        }
        true
    }
}

fn writable(contents: u8) -> Mapped {
    Mapped {
        contents,
        protected: false,
    }
}

/// How the page is moved.
pub(super) struct Way {
    pub(super) strategy: StrategyKind,
    pub(super) variant: Variant,
    pub(super) compared_unmapped: u32,
    pub(super) inject: Option<Phase>,
    pub(super) grace: Option<StdArc<dyn GracePeriods>>,
    /// Old frames cannot be put back.
    pub(super) broken: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            strategy: StrategyKind::UnmapCopy,
            variant: Variant::None,
            compared_unmapped: 1,
            inject: None,
            grace: None,
            broken: false,
        }
    }
}

/// Moves the page once, if it can be claimed.
pub(super) fn try_migrate(
    kernel: &Arc<Kernel>,
    word: &PageWord,
    now: u64,
    way: Way,
) -> (Counters, Result<(), Fatal>) {
    let mut end = Ok(());
    let counters = LiveCounters::default();
    let windows = Windows::default();
    let demanded = AtomicU32::new(u32::MAX);
    let mut backend = Fake {
        kernel: Arc::clone(kernel),
        windows: &windows,
        staged: None,
        broken: way.broken,
    };
    let inject = way.inject.map(|phase| Inject {
        phase,
        nth: 1,
        on: true,
        action: InjectAction::Abort,
    });
    let mut injector = Injector::new(inject, None, 0);
    if word.try_claim(now, 32) {
        let claim = Claim {
            words: std::slice::from_ref(word),
            classes: &[Some(Class::default())],
            first: 0,
            gfn: Gfn(0),
            hva: 0,
            lane: Lane::Blocking,
            _held: lock_order::hold(lock_order::Class::Range),
        };
        let invalidations = Invalidations::sized([], InvalidationOptions::default(), 1, 0);
        let consumers = pin!(OpenRange::new(&invalidations));
        let mut transaction = Transaction::new(
            claim,
            Tools {
                backend: &mut backend,
                injector: &mut injector,
                counters: &counters,
                windows: &windows,
                frames: None,
                consumers: consumers.as_ref(),
                nth: 0,
                grace: way.grace.as_deref(),
                waiter: None,
                observer: &Silent,
                demanded: (&demanded, 0),
                strategy: way.strategy,
                compared_unmapped: way.compared_unmapped,
                max_window: None,
                prefetch_after: std::time::Duration::ZERO,
                variant: way.variant,
            },
            now,
        );
        transaction.run();
        end = transaction.finish();
    }
    (counters.snapshot(), end)
}

struct Fake<'a> {
    kernel: Arc<Kernel>,
    windows: &'a Windows,
    staged: Option<u8>,
    broken: bool,
}

impl Fake<'_> {
    fn give(&self, frame: Option<u8>) -> Transfer {
        match self.kernel.fill(frame.expect("a frame to give")) {
            Ok(()) => all(),
            Err(errno) => Transfer { done: 0, errno },
        }
    }

    fn at(&self, source: Source) -> Option<u8> {
        match source {
            Source::Limbo => *self.kernel.limbo(),
            Source::Mapped(_) => self.kernel.contents(),
        }
    }

    fn protected(&self, protected: bool) -> i32 {
        if let Some(page) = &mut *self.kernel.entry() {
            page.protected = protected;
        }
        0
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
        self.protected(true)
    }

    fn unprotect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        let errno = self.protected(false);
        self.kernel.wake();
        errno
    }

    fn unmap(&mut self, _: usize, _: u32) -> Transfer {
        let taken = self.kernel.entry().take().map(|page| page.contents);
        *self.kernel.limbo() = taken;
        match taken {
            Some(_) => all(),
            None => Transfer {
                done: 0,
                errno: libc::ENOENT,
            },
        }
    }

    fn copy(&mut self, source: Source, _: u32, _: usize) {
        self.staged = self.at(source);
    }

    fn is_copied(&self, source: Source, _: u32) -> bool {
        self.staged == self.at(source)
    }

    fn map(&mut self, _: Lane, _: usize, _: u32, _: u32) -> Transfer {
        // Without a copy the kernel copies as it maps, as the backend `copy` has it.
        let limbo = *self.kernel.limbo();
        self.give(self.staged.or(limbo))
    }

    fn put_back(&mut self, _: Lane, _: usize, _: u32, _: u32) -> Transfer {
        assert!(self.windows.is_open(), "who spins was told before the end");
        if self.broken {
            return Transfer {
                done: 0,
                errno: libc::EINVAL,
            };
        }
        let taken = self.kernel.limbo().take();
        self.give(taken)
    }

    fn commit(&mut self, _: u32) {
        // Used again from now on.
        *self.kernel.limbo() = None;
    }

    fn forget(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake(&mut self, _: Lane, _: usize, _: u32) -> Result<(), UffdError> {
        self.kernel.wake();
        Ok(())
    }

    fn limbo_address(&self, _: u32) -> usize {
        SLOT
    }

    fn scribble(&mut self) {}

    fn audit(&mut self) -> u32 {
        0
    }

    fn take_uncounted(&mut self) -> u32 {
        0
    }
}
