//! Pages brought because somebody touched them, held against the stalls that the guest saw.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use underfoot_abi::{PAGE_SIZE, StallRecord};
use underfoot_benches::ratio::median;
use underfoot_benches::span::Span;
use underfoot_migrator::clock::{self, Tsc};
use underfoot_migrator::{Event, Observer, Served};
use underfoot_vmm::Machine;

/// Demands that one slice keeps.
const MOST: usize = 1 << 16;
/// Rings of stalls are emptied so often.
const DRAIN: Duration = Duration::from_millis(2);

/// The frame number of each page that a handler brought, and when it had read the fault.
pub struct Demands(Mutex<Vec<(u64, Tsc)>>);

impl Demands {
    /// Room for a slice.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::with_capacity(MOST))))
    }

    /// Notes one; handlers' threads alone do.
    pub fn note(&self, gfn: u64, read: Tsc) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < all.capacity() {
            all.push((gfn, read));
        }
    }

    /// The pages, each at least once.
    pub fn gfns(&self) -> impl Iterator<Item = u64> {
        self.by_page().into_keys()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Does `slice`; how long the guest's accesses to `span` took in it that waited for a page noted here, in
    /// ns at the median.
    pub fn stalls_during(
        &self,
        machine: &Machine,
        span: &Span,
        slice: impl FnOnce(),
    ) -> Option<f64> {
        let shared = machine.shared();
        shared.drain_stalls(|_, _| ());
        let mut stalls: Vec<StallRecord> = Vec::with_capacity(MOST);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    thread::sleep(DRAIN);
                    shared.drain_stalls(|_, stall| stalls.push(stall));
                }
                shared.drain_stalls(|_, stall| stalls.push(stall));
            });
            slice();
            done.store(true, Relaxed);
        });
        let demands = self.by_page();
        let waited = stalls.iter().filter_map(|stall| {
            // The guest maps these pages to themselves.
            let gfn = stall.gva / PAGE_SIZE as u64;
            let within = stall.start_tsc..=stall.end_tsc;
            let demanded = span.gfns.contains(&gfn)
                && demands.get(&gfn).is_some_and(|reads| {
                    let next = reads.partition_point(|read| read < within.start());
                    reads.get(next).is_some_and(|read| within.contains(read))
                });
            demanded.then(|| Some((stall.end_tsc - stall.start_tsc) as f64))
        });
        Some(median(waited)? * 1e9 / clock::measured_hz() as f64)
    }

    /// When faults of each page were read, by rising time.
    fn by_page(&self) -> HashMap<u64, Vec<Tsc>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_page: HashMap<u64, Vec<Tsc>> = HashMap::new();
        for (gfn, read) in all.iter() {
            by_page.entry(*gfn).or_default().push(*read);
        }
        by_page
    }
}

impl Observer for Demands {
    fn on(&self, event: &Event) {
        if let Event::Fault {
            gfn,
            served: Served::Fetched,
            read,
            ..
        } = event
        {
            self.note(gfn.0, *read);
        }
    }
}
