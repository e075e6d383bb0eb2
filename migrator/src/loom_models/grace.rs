//! A reader of the guest's RCU that meets a window, and a migration that waits for readers: inside its window
//! they wait for each other for ever, after it they do not.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::handle;
use super::kernel::{DATA, Kernel, Way, try_migrate};
use crate::page_word::{Lane, PageWord};
use crate::{GracePeriods, Variant};

/// The guest's RCU: a section that began before a grace period holds it up.
#[derive(Default)]
struct Readers {
    inside: Mutex<u32>,
    left: Condvar,
}

impl Readers {
    fn enter(&self) {
        *self.inside.lock().expect("no panic") += 1;
    }

    fn leave(&self) {
        *self.inside.lock().expect("no panic") -= 1;
        self.left.notify_all();
    }

    fn are_inside(&self) -> bool {
        *self.inside.lock().expect("no panic") > 0
    }

    fn wait(&self) {
        let mut inside = self.inside.lock().expect("no panic");
        while *inside > 0 {
            inside = self.left.wait(inside).expect("no panic");
        }
    }
}

/// As the engine asks for them. A model has no time: the look waits, until the grace period is over or never
/// will be.
struct Asked {
    readers: Arc<Readers>,
    kernel: Arc<Kernel>,
    deadlock: AtomicBool,
}

impl GracePeriods for Asked {
    fn ask(&self, _: u16) -> u64 {
        0
    }

    fn is_over(&self, _: u64) -> bool {
        while self.readers.are_inside() {
            if self.kernel.is_asleep() && self.kernel.contents().is_none() {
                // It sleeps in its section until the window closes that waits for its end.
                self.deadlock.store(true, Ordering::Relaxed);
                break;
            }
            thread::yield_now();
        }
        true
    }
}

/// A reader touches the page in its section, while a migration moves it and waits for readers: in its window
/// with the busted variant, once it is over without.
fn reader_and_migration(variant: Variant) {
    loom::model(move || {
        let kernel = Kernel::with(Some(DATA));
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let readers = Arc::new(Readers::default());
        let asked = StdArc::new(Asked {
            readers: Arc::clone(&readers),
            kernel: Arc::clone(&kernel),
            deadlock: AtomicBool::new(false),
        });
        let reader = {
            let (kernel, word, readers) =
                (Arc::clone(&kernel), Arc::clone(&word), Arc::clone(&readers));
            thread::spawn(move || {
                readers.enter();
                if kernel.touch() {
                    handle(&kernel, &word);
                    kernel.sleep();
                }
                readers.leave();
            })
        };
        let way = Way {
            variant,
            grace: Some(StdArc::clone(&asked) as StdArc<dyn GracePeriods>),
            ..Way::default()
        };
        let (counters, end) = try_migrate(&kernel, &word, 100, way);
        end.expect("nothing is lost");
        assert_eq!(counters.total().committed, 1);
        // Old frames may be freed after this, for one.
        readers.wait();
        reader.join().expect("no panic");
        assert_eq!(kernel.contents(), Some(DATA));
        assert!(!asked.deadlock.load(Ordering::Relaxed), "deadlock");
    });
}

#[test]
fn loom_a_path_that_never_waits_for_readers_in_its_window_ends() {
    reader_and_migration(Variant::None);
}

#[test]
#[should_panic = "deadlock"]
fn loom_catches_a_window_that_waits_for_readers() {
    reader_and_migration(Variant::WindowWaitsGracePeriod);
}
