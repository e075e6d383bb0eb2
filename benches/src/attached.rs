//! The engine over some memory.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use underfoot_migrator::{Builder, HandlerError, Migrator, Observer, Silent, Stop};

/// A migrator whose faults are served by a thread for each userfaultfd. Once it is dropped the memory is as it was.
pub struct Attached {
    migrator: Migrator,
    end: Arc<Stop>,
    serving: Vec<JoinHandle<Result<(), HandlerError>>>,
}

impl Attached {
    /// Puts memory under the engine.
    ///
    /// # Panics
    /// If the engine refuses: a benchmark has nothing to say then.
    #[must_use]
    pub fn new(builder: Builder) -> Self {
        Self::watched(builder, Arc::new(Silent))
    }

    /// The same, with one who is told of faults.
    ///
    /// # Panics
    /// As [`Attached::new`].
    #[must_use]
    pub fn watched(builder: Builder, observer: Arc<dyn Observer>) -> Self {
        let migrator = builder.build().expect("a migrator");
        let end = Arc::new(Stop::new().expect("an event"));
        let handlers = migrator.handlers().into_iter();
        let serving = handlers.map(|handler| {
            let handler = handler.with_observer(Arc::clone(&observer));
            let theirs = Arc::clone(&end);
            thread::spawn(move || handler.run(&theirs))
        });
        let serving = serving.collect();
        Self {
            migrator,
            end,
            serving,
        }
    }

    /// The migrator.
    #[must_use]
    pub const fn migrator(&self) -> &Migrator {
        &self.migrator
    }

    /// Moves pages for `time`, with a mover for each of `observers`, which it tells what it does. The
    /// `nth` of them first does `place(nth)` on its thread.
    ///
    /// # Panics
    /// If a mover ends before its time.
    pub fn move_for(
        &self,
        time: Duration,
        observers: &[Arc<dyn Observer>],
        place: impl Fn(usize) + Sync,
    ) {
        let stop = Stop::new().expect("an event");
        let movers = observers.iter().map(|observer| {
            let mover = self.migrator.mover().expect("a mover");
            mover.with_observer(Arc::clone(observer))
        });
        thread::scope(|scope| {
            for (nth, mut mover) in movers.enumerate() {
                let (stop, place) = (&stop, &place);
                scope.spawn(move || {
                    place(nth);
                    mover.run(stop).expect("a mover that runs to its end");
                });
            }
            thread::sleep(time);
            stop.request().expect("an event");
        });
        let counters = self.migrator.counters();
        assert_eq!(counters.integrity_errors(), 0, "{counters:?}");
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.end.request();
        for serving in self.serving.drain(..) {
            let served = serving.join();
            if !thread::panicking() {
                let served = served.expect("no panic");
                served.expect("a handler that runs to its end");
            }
        }
    }
}
