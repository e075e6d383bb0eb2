//! How a CPU's bottom halves are raised, held back and run: by two words that only this CPU and its own
//! interrupts touch.
//!
//! Whoever raises one looks whether it can run ([`is_due`]); whoever ends what held it back looks after
//! that whether one was raised ([`release`]); and who runs them looks again before it ends ([`run`]). So
//! none stays raised while nothing holds it back.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

/// A word of one CPU's. An interrupt comes between two accesses, and leaves a count as it found it.
pub(crate) trait Word {
    fn load(&self) -> u32;
    fn store(&self, value: u32);
    fn swap(&self, value: u32) -> u32;
    fn or(&self, bits: u32);
}

impl Word for AtomicU32 {
    #[inline]
    fn load(&self) -> u32 {
        self.load(Relaxed)
    }

    #[inline]
    fn store(&self, value: u32) {
        self.store(value, Relaxed);
    }

    #[inline]
    fn swap(&self, value: u32) -> u32 {
        self.swap(value, Relaxed)
    }

    #[inline]
    fn or(&self, bits: u32) {
        self.fetch_or(bits, Relaxed);
    }
}

/// Adds `n` to a count; returns what it is then.
#[inline]
pub(crate) fn add(count: &impl Word, n: u32) -> u32 {
    let new = count.load().wrapping_add(n);
    count.store(new);
    // What follows must not be seen by this CPU's own interrupts before the count is.
    compiler_fence(SeqCst);
    new
}

/// Raises bottom half `bit`.
#[inline]
pub(crate) fn raise(raised: &impl Word, bit: u32) {
    raised.or(1 << bit);
}

/// Whether some are raised and nothing holds them back.
#[inline]
pub(crate) fn is_due(held: &impl Word, raised: &impl Word) -> bool {
    raised.load() != 0 && held.load() == 0
}

/// Holds them back once less; whether some are due now.
#[inline]
pub(crate) fn release(held: &impl Word, raised: &impl Word) -> bool {
    // After the count: an interrupt in between finds nothing held back, and runs them itself.
    add(held, u32::MAX) == 0 && raised.load() != 0
}

/// Gives those that are raised to `handle`, which opens interrupts meanwhile, until none is left: an
/// interrupt that raises one finds them held back. Interrupts are masked.
#[cfg(any(not(loom), test))]
pub(crate) fn run(held: &impl Word, raised: &impl Word, mut handle: impl FnMut(u32)) {
    add(held, 1);
    loop {
        let bits = raised.swap(0);
        if bits == 0 {
            break;
        }
        handle(bits);
    }
    add(held, u32::MAX);
}

#[cfg(all(loom, test))]
mod loom_models {
    //! What loom explores of one CPU and its interrupts: each step of the thread takes the CPU, and an
    //! interrupt takes it from its first step to its last.

    use super::{Word, add, is_due, raise, release, run};
    use crate::sync::loom_models::explore;
    use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    };
    use loom::thread;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Words {
        /// Whoever has it is on the CPU, and no interrupt comes.
        masked: Mutex<()>,
        held: AtomicU32,
        raised: AtomicU32,
        handled: AtomicU32,
    }

    /// What runs on the CPU.
    struct Here<'a> {
        words: &'a Words,
        masked: RefCell<Option<MutexGuard<'a, ()>>>,
    }

    impl<'a> Here<'a> {
        fn new(words: &'a Words) -> Self {
            let masked = RefCell::new(None);
            Self { words, masked }
        }

        fn mask(&self) {
            let guard = self.words.masked.lock().expect("nobody panics");
            self.masked.replace(Some(guard));
        }

        fn open(&self) {
            self.masked.replace(None);
        }

        fn held(&self) -> Step<'_, 'a> {
            Step(self, &self.words.held)
        }

        fn raised(&self) -> Step<'_, 'a> {
            Step(self, &self.words.raised)
        }

        /// As the scheduler's, of a thread: interrupts come while one is handled.
        fn bottom_halves(&self, run: Run) {
            self.mask();
            if is_due(&self.held(), &self.raised()) {
                run(&self.held(), &self.raised(), &mut |bits| {
                    self.open();
                    self.words.handled.fetch_or(bits, Relaxed);
                    self.mask();
                });
            }
            self.open();
        }

        /// An interrupt that raises `bit`, and what follows at its end.
        fn interrupt(&self, bit: u32) {
            self.mask();
            raise(&self.raised(), bit);
            if is_due(&self.held(), &self.raised()) {
                run(&self.held(), &self.raised(), |bits| {
                    self.words.handled.fetch_or(bits, Relaxed);
                });
            }
            self.open();
        }
    }

    /// A word, one access of which is a step.
    struct Step<'here, 'a>(&'here Here<'a>, &'a AtomicU32);

    impl Step<'_, '_> {
        fn step<T>(&self, access: impl FnOnce(&AtomicU32) -> T) -> T {
            if self.0.masked.borrow().is_some() {
                return access(self.1);
            }
            let _on_cpu = self.0.words.masked.lock().expect("nobody panics");
            access(self.1)
        }
    }

    impl Word for Step<'_, '_> {
        fn load(&self) -> u32 {
            self.step(|word| word.load(Relaxed))
        }

        fn store(&self, value: u32) {
            self.step(|word| word.store(value, Relaxed));
        }

        fn swap(&self, value: u32) -> u32 {
            self.step(|word| word.swap(value, Relaxed))
        }

        fn or(&self, bits: u32) {
            self.step(|word| word.fetch_or(bits, Relaxed));
        }
    }

    type Release = fn(&Step<'_, '_>, &Step<'_, '_>) -> bool;
    type Run = fn(&Step<'_, '_>, &Step<'_, '_>, &mut dyn FnMut(u32));

    const RELEASE: Release = |held, raised| release(held, raised);
    const RUN: Run = |held, raised, handle| run(held, raised, handle);

    /// A thread holds bottom halves back for a while, and interrupts raise two.
    fn raised_by_interrupts(release: Release, run: Run) {
        explore(3, move || {
            let words = Arc::new(Words::default());
            let interrupts: Vec<_> = (0..2)
                .map(|bit| {
                    let words = words.clone();
                    thread::spawn(move || Here::new(&words).interrupt(bit))
                })
                .collect();
            let here = Here::new(&words);
            add(&here.held(), 1);
            if release(&here.held(), &here.raised()) {
                here.bottom_halves(run);
            }
            for interrupt in interrupts {
                interrupt.join().expect("no panic");
            }
            assert_eq!(words.held.load(Relaxed), 0);
            assert_eq!(words.raised.load(Relaxed), 0, "one stays raised");
            assert_eq!(words.handled.load(Relaxed), 0b11);
        });
    }

    #[test]
    fn none_stays_raised() {
        raised_by_interrupts(RELEASE, RUN);
    }

    /// The mutation: whether one is raised is looked at while they are held back still.
    #[test]
    #[should_panic(expected = "one stays raised")]
    fn looking_before_the_release_misses_one() {
        let looks_first: Release = |held, raised| {
            let due = raised.load() != 0;
            add(held, u32::MAX) == 0 && due
        };
        raised_by_interrupts(looks_first, RUN);
    }

    /// The mutation: who has run them does not look again.
    #[test]
    #[should_panic(expected = "one stays raised")]
    fn running_once_misses_one() {
        let once: Run = |held, raised, handle| {
            add(held, 1);
            handle(raised.swap(0));
            add(held, u32::MAX);
        };
        raised_by_interrupts(RELEASE, once);
    }
}
