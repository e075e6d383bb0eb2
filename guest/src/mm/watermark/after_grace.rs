//! Reclaim that waits for what is being freed already.

use super::{Reclaim, Reclaimable};
use crate::{
    Cpu,
    mm::without_bottom_halves,
    sync::{Rcu, RcuFlavour},
};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::MAX_CPUS;

/// Makes room by waiting for a grace period and having callbacks run, which free pages: this CPU's at once, and those of
/// the others in their bottom halves.
pub struct AfterGracePeriod {
    /// Whose callbacks.
    pub rcu: &'static Rcu,
}

/// Batches of callbacks that one reclaim runs at most.
const CALLBACK_BATCHES: usize = 64;
/// Naps in which it waits at most for the first of the other CPUs' callbacks: some of these CPUs may have to wait for
/// one of their host.
const NAPS: usize = 25;
/// About a tick: no sleep is shorter.
const NAP_NS: u64 = 4_000_000;

impl Reclaim for AfterGracePeriod {
    /// What it returns is how many callbacks ran, of whatever CPU: most of them free a page, or half of one.
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        let rcu = RcuFlavour::Classic(self.rcu);
        let before = rcu.done();
        let ran = || (rcu.done() - before) as usize;
        rcu.synchronize(cpu);
        let mut others = rcu.hurry_others(cpu);
        let mine = || cpu.area.callbacks[1].load(Relaxed);
        for _ in 0..CALLBACK_BATCHES {
            let already = mine();
            without_bottom_halves(cpu, || rcu.process(cpu));
            if mine() == already || ran() >= pages {
                break;
            }
        }
        for _ in 0..NAPS {
            if ran() > 0 || !others {
                break;
            }
            cpu.sched.sleep_ns(cpu, NAP_NS);
            others = rcu.hurry_others(cpu);
        }
        ran()
    }

    fn reclaimable(&self) -> Reclaimable {
        let rcu = RcuFlavour::Classic(self.rcu);
        Reclaimable {
            mapped: 0,
            callbacks: (0..MAX_CPUS).map(|id| rcu.backlog(id).callbacks).sum(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fixture::{self, Fixture};
    use crate::sync::RcuHead;
    use core::{ptr::NonNull, sync::atomic::AtomicBool};
    use underfoot_abi::Context;

    /// CPU 0 has nothing to free; what CPU 1 has counts, whether it runs it by itself or is told to, and CPU 0 waits
    /// for it; but not for a CPU that never does.
    #[test]
    fn what_another_cpu_frees_counts() {
        for (told, freed) in [(false, 3), (true, 3)] {
            let fixture = Fixture::new(2);
            let rcu: &'static Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, |_, _| ())));
            let cpus = [0, 1].map(|id| fixture.cpu(id));
            cpus.iter().for_each(|cpu| rcu.idle_exit(cpu));
            for _ in 0..3 {
                // SAFETY: leaked, and in no list.
                let head = unsafe { &*fixture::leak::<RcuHead>() };
                // SAFETY: as above, and it does nothing.
                unsafe { rcu.call(&cpus[1], NonNull::from(head), |_, _, _| (), 0) };
            }
            let done = AtomicBool::new(false);
            let got = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let flavour = RcuFlavour::Classic(rcu);
                    while !done.load(Relaxed) {
                        flavour.tick(&cpus[1], Context::default());
                        if !told || flavour.is_hurried(&cpus[1]) {
                            flavour.process(&cpus[1]);
                        }
                        std::thread::yield_now();
                    }
                });
                let reclaim = AfterGracePeriod { rcu };
                let mut got = 0;
                // Under load CPU 1 may be late for one.
                while got < freed {
                    got += reclaim.reclaim(&cpus[0], 32);
                }
                done.store(true, Relaxed);
                got
            });
            assert_eq!(
                (got, cpus[0].area.callbacks[1].load(Relaxed)),
                (freed, 0),
                "{told}"
            );
        }
    }

    #[test]
    fn a_cpu_that_runs_none_is_not_waited_for_for_ever() {
        let fixture = Fixture::new(2);
        let rcu: &'static Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, |_, _| ())));
        let cpus = [0, 1].map(|id| fixture.cpu(id));
        rcu.idle_exit(&cpus[0]);
        // SAFETY: leaked, in no list, and it does nothing.
        unsafe {
            let head = &*fixture::leak::<RcuHead>();
            rcu.call(&cpus[1], NonNull::from(head), |_, _, _| (), 0);
        }
        let reclaim = AfterGracePeriod { rcu };
        assert_eq!(reclaim.reclaim(&cpus[0], 32), 0);
        assert_eq!(reclaim.reclaimable().callbacks, 1);
        let flavour = RcuFlavour::Classic(rcu);
        assert!(flavour.is_hurried(&cpus[1]) && !flavour.is_hurried(&cpus[1]));
    }
}
