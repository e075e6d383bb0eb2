//! What loom explores of the scheduler: sleeping against being woken, and a change of threads
//! against a wake-up.

use super::{crossing::Crossing, token::Token};
use crate::sync::{
    atomic::{AtomicU32, Ordering::Relaxed},
    loom_models::explore,
};
use loom::{sync::Arc, thread};

/// A thread, its run queue, and what two others do for it.
struct Sleeper {
    token: Token,
    queued: AtomicU32,
    done: [AtomicU32; 2],
}

impl Sleeper {
    /// As the scheduler's `park`, by which the thread leaves its CPU until it is queued.
    fn park(&self) {
        if self.token.take() {
            return;
        }
        if self.token.sleep() {
            // Being queued orders nothing here: the token alone has to.
            while self.queued.swap(0, Relaxed) == 0 {
                thread::yield_now();
            }
        }
        self.token.awake();
    }

    fn queue(&self) {
        assert_eq!(self.queued.swap(1, Relaxed), 0, "in its queue twice");
    }
}

/// A thread sleeps until two others have done something, each of which wakes it with `unpark`.
fn sleeper(unpark: fn(&Sleeper)) {
    explore(3, move || {
        let sleeper = Arc::new(Sleeper {
            token: Token::new(),
            queued: AtomicU32::new(0),
            done: [AtomicU32::new(0), AtomicU32::new(0)],
        });
        let wakers: Vec<_> = (0..2)
            .map(|number| {
                let sleeper = sleeper.clone();
                thread::spawn(move || {
                    sleeper.done[number].store(1, Relaxed);
                    unpark(&sleeper);
                })
            })
            .collect();
        while sleeper.done.iter().any(|done| done.load(Relaxed) == 0) {
            sleeper.park();
        }
        for waker in wakers {
            waker.join().expect("no panic");
        }
    });
}

#[test]
fn loom_sleeper_is_woken_and_sees_why() {
    sleeper(|sleeper| {
        if sleeper.token.notify() {
            sleeper.queue();
        }
    });
}

/// The second waker's notification is forgotten with the first's: the thread does not see what it did.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn loom_sleeper_whose_notification_is_taken_back_sleeps_for_ever() {
    sleeper(|sleeper| {
        if sleeper.token.notify() {
            sleeper.token.reset();
            sleeper.queue();
        }
    });
}

/// Levels of the thread that a CPU leaves, of the one that it goes to, and of the one that is woken.
const OLD: u8 = 8;
const NEW: u8 = 0;
const WOKEN: u8 = 4;

/// A CPU goes from a more to a less urgent thread while another wakes one in between, and calls
/// `cross` before it looks.
fn crossing(cross: fn(&Crossing)) {
    explore(3, move || {
        let place = Arc::new(Crossing::new());
        place.set_current(OLD.into());
        let waker = {
            let place = place.clone();
            thread::spawn(move || {
                place.set_ready(1 << WOKEN);
                cross(&place);
                place.current() < WOKEN.into()
            })
        };
        place.set_current(NEW.into());
        let changes_again = place.is_wanted(NEW + 1);
        let interrupted = waker.join().expect("no panic");
        assert!(
            changes_again || interrupted,
            "waits behind a less urgent one"
        );
    });
}

#[test]
fn loom_wake_up_meets_a_change_of_threads() {
    crossing(Crossing::cross);
}

#[test]
#[should_panic(expected = "waits behind a less urgent one")]
fn loom_wake_up_that_looks_too_early_is_caught() {
    crossing(|_| ());
}
