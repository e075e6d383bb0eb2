//! What waits for grace periods, sampled in the ticks of whichever CPU comes first.

use super::{
    super::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        const_fn,
    },
    RcuFlavour,
};
use crate::{Cpu, arch::tsc, record};
use underfoot_abi::{BACKLOG_PERIOD_NS, BacklogSample, MAX_CPUS, Phase, RecordedPhase};

/// Who samples, and when somebody last did.
pub struct BacklogSampler {
    /// 1 while a CPU takes a sample: the host's ring has one writer at a time.
    busy: AtomicU32,
    /// TSC of the last sample; 0 before the first.
    last_tsc: AtomicU64,
}

impl BacklogSampler {
    const_fn! {
        /// Nothing was sampled yet.
        #[must_use]
        pub fn new() -> Self {
            Self {
                busy: AtomicU32::new(0),
                last_tsc: AtomicU64::new(0),
            }
        }
    }

    /// In the tick, interrupts masked: tells the host what waits on all CPUs for the grace periods of all `kinds`, if
    /// that is due and the run is being recorded. A CPU on which callbacks wait has its ticks: while none has any,
    /// nothing waits.
    pub fn tick(&self, cpu: &Cpu, kinds: &[RcuFlavour<'_>]) {
        let Some(phase) = record::phase(cpu) else {
            return;
        };
        let now = tsc();
        let is_due = |last: u64| cpu.ns(now.saturating_sub(last)) >= BACKLOG_PERIOD_NS;
        self.claim(now, is_due, || {
            let all = kinds
                .iter()
                .flat_map(|kind| (0..MAX_CPUS).map(|id| kind.backlog(id)));
            let (callbacks, bytes) = all.fold((0, 0), |(callbacks, bytes), waits| {
                (callbacks + waits.callbacks, bytes + waits.bytes)
            });
            cpu.header.backlog.push(BacklogSample {
                tsc: now,
                phase: match phase {
                    RecordedPhase::Control => Phase::Control as u64,
                    RecordedPhase::Moving => Phase::Moving as u64,
                },
                callbacks,
                bytes,
            });
        });
    }

    /// Calls `take` if it `is_due` after the time of the last sample, and nobody else is about it.
    fn claim(&self, now: u64, is_due: impl Fn(u64) -> bool, take: impl FnOnce()) {
        if !is_due(self.last_tsc.load(Relaxed)) {
            return;
        }
        // Acquire: the last writer of the ring is done. Pairs with the release below.
        let mine = self.busy.compare_exchange(0, 1, Acquire, Relaxed).is_ok();
        if !mine {
            return;
        }
        // Another CPU may have been here since.
        if is_due(self.last_tsc.load(Relaxed)) {
            self.last_tsc.store(now, Relaxed);
            take();
        }
        self.busy.store(0, Release);
    }
}

impl Default for BacklogSampler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        fixture::{self, Fixture},
        sync::{Rcu, RcuHead},
    };
    use core::ptr::NonNull;

    #[test]
    fn what_waits_on_all_cpus_is_told_once_a_period_while_the_run_is_recorded() {
        let fixture = Fixture::new(2);
        let rcu: &'static Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, |_, _| ())));
        let kinds = [RcuFlavour::Classic(rcu)];
        let cpus = [0, 1].map(|id| fixture.cpu(id));
        for (on, bytes) in [(0, 100), (1, 20), (1, 3)] {
            // SAFETY: leaked, in no list, and it does nothing.
            unsafe {
                let head = &*fixture::leak::<RcuHead>();
                kinds[0].call(&cpus[on], NonNull::from(head), |_, _, _| (), 0, bytes);
            }
        }
        let sampler = BacklogSampler::new();
        let phase = |phase: Phase| fixture.header.phase.store(phase as u32, Relaxed);
        phase(Phase::Warmup);
        sampler.tick(&cpus[0], &kinds);
        phase(Phase::Moving);
        // One of these, whichever is first: the second is not due, unless the host slept for so long.
        cpus.iter().for_each(|cpu| sampler.tick(cpu, &kinds));
        let first = fixture.header.backlog.pop().expect("a sample");
        let told = (first.phase, first.callbacks, first.bytes);
        assert_eq!(told, (Phase::Moving as u64, 3, 123));
        while let Some(next) = fixture.header.backlog.pop() {
            let apart = cpus[0].ns(next.tsc - first.tsc);
            assert!(apart >= BACKLOG_PERIOD_NS, "{apart}");
        }
        assert_eq!(fixture.header.backlog.dropped(), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::sync::loom_models::explore;
    use loom::{cell::UnsafeCell, sync::Arc, thread};

    type Claim = fn(&BacklogSampler, u64, &dyn Fn());

    const CLAIM: Claim = |sampler, now, take| sampler.claim(now, |last| last < now, take);

    /// Two CPUs' ticks come at times 1 and 2: each is due. They write without a lock of their own.
    fn two(claim: Claim) {
        explore(3, move || {
            let shared = Arc::new((BacklogSampler::new(), UnsafeCell::new(0)));
            let tick = move |shared: &(BacklogSampler, UnsafeCell<u32>), now| {
                claim(&shared.0, now, &|| {
                    // SAFETY: loom says if another thread is in here.
                    shared.1.with_mut(|samples| unsafe { *samples += 1 });
                });
            };
            let other = {
                let shared = shared.clone();
                thread::spawn(move || tick(&shared, 2))
            };
            tick(&shared, 1);
            other.join().expect("no panic");
            // SAFETY: alone again.
            let samples = shared.1.with(|samples| unsafe { *samples });
            assert!((1..=2).contains(&samples), "{samples} samples");
            assert_eq!(
                shared.0.busy.load(Relaxed),
                0,
                "nobody else could ever sample"
            );
        });
    }

    #[test]
    fn one_at_a_time_writes() {
        two(CLAIM);
    }

    /// The mutation: the time alone decides who samples.
    #[test]
    #[should_panic(expected = "Causality violation")]
    fn two_may_be_due_at_once() {
        two(|sampler, now, take| {
            let last = sampler.last_tsc.load(Relaxed);
            let swapped = sampler
                .last_tsc
                .compare_exchange(last, now, Acquire, Relaxed);
            if last < now && swapped.is_ok() {
                take();
            }
        });
    }
}
