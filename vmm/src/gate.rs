//! The gate that every vCPU passes before it enters the guest, and at which others stop it.
//!
//! One mutex holds the truth: how many want the vCPU out, whether it must end, and where it is.
//! `wanted` repeats "somebody wants something" for the vCPU's fast path. A requester sets `wanted`
//! and then *pokes*: it sets `immediate_exit` and sends the kick signal. A vCPU that read `wanted`
//! too early is then still caught, because the signal comes either before KVM_RUN begins, which
//! then sees `immediate_exit`, or while it runs, which interrupts it. `immediate_exit` is cleared
//! under the mutex only, when nobody wants anything, so no poke can be wiped out.

use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the guest, or on its way in or out.
    Inside,
    /// Parked at the gate.
    Outside,
    /// The thread ended.
    Gone,
}

#[derive(Debug)]
struct State {
    holds: u32,
    stop: bool,
    place: Place,
}

/// What the vCPU's thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Enter the guest.
    Enter,
    /// End the thread.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    wanted: AtomicBool,
}

impl Gate {
    /// A gate with one hold on it: the vCPU stays out until the first [`Gate::release`].
    pub(crate) fn held() -> Self {
        Self {
            state: Mutex::new(State {
                holds: 1,
                stop: false,
                place: Place::Inside,
            }),
            changed: Condvar::new(),
            wanted: AtomicBool::new(true),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing panics while it holds this lock, so poison would be a lie.
        change(&mut self.state.lock().expect("gate lock"))
    }

    /// Asks the vCPU to stay out; `poke` must set `immediate_exit` and then kick the thread.
    /// Each call needs its [`Gate::release`]. Does not wait: see [`Gate::wait_outside`].
    pub(crate) fn hold(&self, poke: impl FnOnce()) {
        self.with(|state| {
            state.holds += 1;
            self.ask(state, poke);
        });
    }

    /// Asks the vCPU's thread to end.
    pub(crate) fn stop(&self, poke: impl FnOnce()) {
        self.with(|state| {
            state.stop = true;
            self.ask(state, poke);
            self.changed.notify_all();
        });
    }

    fn ask(&self, state: &State, poke: impl FnOnce()) {
        // Pairs with the acquire in `pass`; the poke covers the vCPU that has just read it.
        self.wanted.store(true, Ordering::Release);
        if state.place == Place::Inside {
            poke();
        }
    }

    /// Takes back one [`Gate::hold`].
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn release(&self) {
        self.with(|state| {
            state.holds = state.holds.checked_sub(1).expect("release without a hold");
            self.changed.notify_all();
        });
    }

    /// Waits until the vCPU is out of the guest: parked, or gone.
    pub(crate) fn wait_outside(&self) {
        let mut state = self.state.lock().expect("gate lock");
        while state.place == Place::Inside {
            state = self.changed.wait(state).expect("gate lock");
        }
    }

    /// The same for `patience` at most; whether the vCPU is out.
    #[cfg(not(loom))]
    pub(crate) fn wait_outside_for(&self, patience: std::time::Duration) -> bool {
        let state = self.state.lock().expect("gate lock");
        let inside = |state: &mut State| state.place == Place::Inside;
        let waited = self.changed.wait_timeout_while(state, patience, inside);
        !waited.expect("gate lock").1.timed_out()
    }

    /// loom has no time.
    #[cfg(loom)]
    pub(crate) fn wait_outside_for(&self, _: std::time::Duration) -> bool {
        self.wait_outside();
        true
    }

    /// Whether somebody wants the vCPU out: for loops of its thread outside of KVM_RUN.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// The vCPU's thread, before each KVM_RUN: parks while held. `clear` must reset
    /// `immediate_exit`.
    pub(crate) fn pass(&self, clear: impl FnOnce()) -> Pass {
        if !self.is_wanted() {
            return Pass::Enter;
        }
        let mut state = self.state.lock().expect("gate lock");
        state.place = Place::Outside;
        self.changed.notify_all();
        while state.holds > 0 && !state.stop {
            state = self.changed.wait(state).expect("gate lock");
        }
        if state.stop {
            return Pass::Stop;
        }
        state.place = Place::Inside;
        self.wanted.store(false, Ordering::Release);
        clear();
        Pass::Enter
    }

    /// The vCPU's thread ends, in whatever way.
    pub(crate) fn leave(&self) {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.place = Place::Gone;
        self.changed.notify_all();
    }
}
