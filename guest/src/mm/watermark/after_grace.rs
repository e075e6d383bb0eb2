//! Reclaim that waits for what is being freed already.

use super::{Reclaim, Reclaimable};
use crate::{
    Cpu,
    mm::without_bottom_halves,
    sync::{Rcu, RcuFlavour},
};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::MAX_CPUS;

/// Makes room by waiting for a grace period and running this CPU's callbacks, which free pages.
pub struct AfterGracePeriod {
    /// Whose callbacks.
    pub rcu: &'static Rcu,
}

/// Batches of callbacks that one reclaim runs at most.
const CALLBACK_BATCHES: usize = 64;

impl Reclaim for AfterGracePeriod {
    /// What it returns is how many callbacks ran: most of them free a page, or half of one.
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        let ran = || cpu.area.callbacks[1].load(Relaxed) as usize;
        let before = ran();
        self.rcu.synchronize(cpu);
        for _ in 0..CALLBACK_BATCHES {
            let already = ran();
            without_bottom_halves(cpu, || self.rcu.process(cpu));
            if ran() == already || ran() - before >= pages {
                break;
            }
        }
        ran() - before
    }

    fn reclaimable(&self) -> Reclaimable {
        let rcu = RcuFlavour::Classic(self.rcu);
        Reclaimable {
            mapped: 0,
            callbacks: (0..MAX_CPUS).map(|id| rcu.backlog(id).callbacks).sum(),
        }
    }
}
