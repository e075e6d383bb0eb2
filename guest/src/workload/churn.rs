//! The workload `churn`: pages are given to RCU to be freed, at a chosen rate, while readers hold
//! grace periods up: how many callbacks and how much memory wait, and who goes without.

use super::audit::Audit;
use super::plan::{Parameters, Seat, Workload, is_over};
use crate::Cpu;
use crate::arch::tsc;
use crate::mm::PageAllocator;
use crate::random::mix;
use crate::record::{self, Span, access};
use crate::sched::Priority;
use crate::sync::{RcuFlavour, RcuHead};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{Metric, PAGE_SIZE, PageByte, PageKind};

/// Parameters, in the order of the contract.
const KIND: usize = 0;
const RATE: usize = 1;
const READERS: usize = 2;
const HOLD_US: usize = 3;
/// Counters, in the order of the contract.
const STARVED: usize = 1;
const SECTIONS: usize = 2;
const CALLBACKS_WAITING: usize = 3;
const BYTES_WAITING: usize = 4;

/// A page that waits to be freed: the head, then words that can be computed.
#[repr(C)]
struct Waiting {
    head: RcuHead,
    /// The address of the [`Home`] that it goes back to.
    home: AtomicU64,
    words: [AtomicU64; WORDS],
}

const WORDS: usize = 64;
const DATA: PageByte = PageByte::new(PageKind::Data, false);
const _: () = assert!(size_of::<Waiting>() <= PAGE_SIZE);

/// Where pages go back to.
struct Home {
    pages: &'static PageAllocator,
    /// Pages that came back.
    freed: AtomicU64,
}

/// The workload, shared by all threads: on each CPU one that frees, and readers.
pub struct Churn {
    rcu: RcuFlavour<'static>,
    home: &'static Home,
    /// Pages a second that each thread frees; 0 for as many as it can.
    rate: u64,
    readers_each: usize,
    hold_ns: u64,
}

impl Churn {
    /// Over `flavours`, the kernel's machines by kind. `None` if there is no page left.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        pages: &'static PageAllocator,
        flavours: &'static [RcuFlavour<'static>; 3],
        parameters: &Parameters,
    ) -> Option<Self> {
        let freed = AtomicU64::new(0);
        let home = pages.place(cpu, DATA, Home { pages, freed })?;
        Some(Self {
            rcu: flavours[parameters[KIND] as usize % flavours.len()],
            home,
            rate: parameters[RATE],
            readers_each: parameters[READERS] as usize,
            hold_ns: parameters[HOLD_US] * 1000,
        })
    }

    /// Allocates a page, fills it and leaves it to RCU. Whether there was one.
    fn leave(&self, cpu: &Cpu) -> bool {
        let span = Span::start(cpu);
        let Some(address) = self.home.pages.allocate(cpu, 0, DATA) else {
            record::count(cpu, STARVED, 1);
            return false;
        };
        let page = core::ptr::with_exposed_provenance_mut::<Waiting>(address);
        // SAFETY: a page of ours, large and aligned enough, not shared yet; zero is a valid value.
        let waiting = unsafe {
            (&raw mut (*page).head).write_bytes(0, 1);
            &*page
        };
        let home = core::ptr::from_ref(self.home).expose_provenance() as u64;
        waiting.home.store(home, Relaxed);
        access(cpu, address, || {
            for (index, word) in waiting.words.iter().enumerate() {
                word.store(mix(address as u64 ^ index as u64), Relaxed);
            }
        });
        // SAFETY: the head lies in the page, which nobody frees before its callback.
        unsafe {
            let head = NonNull::from(&waiting.head);
            self.rcu.call(cpu, head, free, address, PAGE_SIZE as u32);
        }
        record::updated(cpu);
        span.finish(cpu, Metric::Operation);
        record::operation(cpu);
        true
    }

    fn free_at_rate(&self, cpu: &Cpu) {
        let began = tsc();
        let mut done = 0;
        while !is_over(cpu) {
            let elapsed = u128::from(cpu.ns(tsc().saturating_sub(began)));
            let due = (elapsed * u128::from(self.rate) / 1_000_000_000) as u64;
            if self.rate == 0 || done < due {
                done += 1;
                if self.leave(cpu) {
                    self.sample(cpu);
                    continue;
                }
            }
            // Nothing is due, or no page is left: callbacks have their turn.
            self.rcu.process(cpu);
            cpu.sched.sleep_ns(cpu, 1);
        }
    }

    fn sample(&self, cpu: &Cpu) {
        let backlog = self.rcu.backlog(cpu.id);
        record::peak(cpu, CALLBACKS_WAITING, backlog.callbacks);
        record::peak(cpu, BYTES_WAITING, backlog.bytes);
    }

    fn hold(&self, cpu: &Cpu) {
        let section = self.rcu.read_lock(cpu);
        let began = tsc();
        while cpu.ns(tsc().saturating_sub(began)) < self.hold_ns {
            core::hint::spin_loop();
        }
        drop(section);
        record::count(cpu, SECTIONS, 1);
        cpu.sched.yield_now(cpu);
    }
}

/// The grace period of a page is over: it is as it was left, and goes back.
///
/// # Safety
/// `address` is that of a [`Waiting`], whose head this is.
unsafe fn free(cpu: &Cpu, _: NonNull<RcuHead>, address: usize) {
    // SAFETY: the caller's promise.
    let waiting = unsafe { &*core::ptr::with_exposed_provenance::<Waiting>(address) };
    for (index, word) in waiting.words.iter().enumerate() {
        let found = word.load(Relaxed);
        if found != mix(address as u64 ^ index as u64) {
            record::error(cpu, core::ptr::from_ref(word).addr(), found);
        }
    }
    let home = waiting.home.load(Relaxed) as usize;
    // SAFETY: `leave` stored the address of the home, which lives for ever.
    let home = unsafe { &*core::ptr::with_exposed_provenance::<Home>(home) };
    home.freed.fetch_add(1, Relaxed);
    // SAFETY: nobody else has the page.
    unsafe { home.pages.free(cpu, address, 0) };
}

/// On each CPU the thread that frees, then the readers.
impl Workload for Churn {
    fn threads(&self, cpus: usize) -> usize {
        (1 + self.readers_each) * cpus
    }

    fn seat(&self, number: usize, cpus: usize) -> Seat {
        Seat {
            cpu: number % cpus,
            priority: Priority::NORMAL,
        }
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        if number < cpu.header.cpus as usize {
            return self.free_at_rate(cpu);
        }
        while !is_over(cpu) {
            self.hold(cpu);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.rcu.drain(cpu) };
        let left: u64 = (0..cpu.header.cpus as usize)
            .map(|id| self.rcu.backlog(id).callbacks)
            .sum();
        if left != 0 {
            record::error(cpu, 0, left);
        }
        let checked = 1 + self.home.pages.audit(cpu);
        Audit {
            checked,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: self.home.freed.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
