//! What loom explores of a thread that sleeps for a page, and of KVM's interrupt on the same CPU: whoever has the
//! CPU has it from one opening of interrupts to the next.

use super::{Ready, Waiters};
use crate::sched::ThreadId;
use crate::sync::loom_models::explore;
use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use loom::thread;

const THREAD: ThreadId = ThreadId(7);
const PAGES: [u32; 2] = [1 << 12, 2 << 12];

#[derive(Default)]
struct OneCpu {
    /// Whoever has it is on the CPU, with interrupts masked.
    masked: Mutex<()>,
    waiters: Waiters,
    /// The thread is on its run queue.
    queued: AtomicU32,
}

impl OneCpu {
    /// As the kernel's handler, which lets interrupts in before it sleeps: the page may be there already.
    fn not_present(&self, token: u32) {
        // "Not present" was handed over masked; what came with it is let in.
        drop(self.masked.lock().expect("nobody panics"));
        let masked = self.masked.lock().expect("nobody panics");
        let sleeps = self.waiters.sleeps(token, THREAD);
        drop(masked);
        // The CPU runs something else meanwhile.
        while sleeps && self.queued.swap(0, Relaxed) == 0 {
            thread::yield_now();
        }
    }

    fn ready(&self, token: u32, note: fn(&Waiters, u32)) {
        let _masked = self.masked.lock().expect("nobody panics");
        match self.waiters.ready(token) {
            Ready::Sleeper(THREAD) => {
                assert_eq!(self.queued.swap(1, Relaxed), 0, "in its queue twice");
            }
            Ready::Early => note(&self.waiters, token),
            other => panic!("{other:?}"),
        }
    }
}

/// A thread meets two pages, one after the other; each is there at some time after it was told that it is away.
fn two_pages(note: fn(&Waiters, u32)) {
    explore(3, move || {
        let cpu = Arc::new(OneCpu::default());
        for token in PAGES {
            let ready = {
                let cpu = cpu.clone();
                thread::spawn(move || cpu.ready(token, note))
            };
            cpu.not_present(token);
            ready.join().expect("no panic");
        }
        assert!(cpu.waiters.is_empty(), "something is left");
    });
}

#[test]
fn loom_sleeper_for_a_page_is_woken() {
    two_pages(Waiters::note_early);
}

/// The mutation, `busted-async-lost-wake`: "ready" is forgotten if it comes first.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn loom_ready_that_is_forgotten_lets_sleep_for_ever() {
    two_pages(|_, _| ());
}
