//! Inter-processor interrupts: TLB shootdown, and waking halted CPUs.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use underfoot_abi::{MAX_CPUS, Metric, Wait};
use underfoot_firmware::VECTOR_IPI;
use underfoot_guest::Cpu;
use underfoot_guest::arch::Apic;
use underfoot_guest::record::Span;
use underfoot_guest::sync::Backoff;

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

/// One shootdown at a time: the address, and who has still to drop it.
pub struct Shootdown {
    busy: AtomicBool,
    address: AtomicUsize,
    /// Who waits for the answers, perhaps halted.
    asker: AtomicUsize,
    waiting: AtomicU64,
}

impl Shootdown {
    pub const fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            address: AtomicUsize::new(0),
            asker: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// Makes every CPU drop its translation of `address`, and returns when all have. Interrupts must
    /// be open: two CPUs that shoot at each other answer each other while they wait.
    pub fn run(&self, apic: Apic, cpu: &Cpu, address: usize) {
        let mut backoff = Backoff::new();
        while self.busy.swap(true, Ordering::Acquire) {
            cpu.waits_for(Wait::Lock, (core::ptr::from_ref(self).addr() >> 4) as u32);
            backoff.pause(cpu, || !self.busy.load(Ordering::Relaxed));
        }
        let span = Span::start(cpu);
        let up = u64::from(cpu.header.cpus_up.load(Ordering::Relaxed));
        let all = if up >= 64 { u64::MAX } else { (1 << up) - 1 };
        let targets = all & !(1 << cpu.id);
        self.address.store(address, Ordering::Relaxed);
        self.asker.store(cpu.id, Ordering::Relaxed);
        // Pairs with the acquire in `answer`: who sees its bit sees the address and the new entry.
        self.waiting.store(targets, Ordering::Release);
        cpu.ops.flush_page(address);
        for id in (0..up as usize).filter(|id| *id != cpu.id) {
            apic.send(id, VECTOR_IPI);
        }
        let mut backoff = Backoff::new();
        // Pairs with the release in `answer`: the last bit gone, every translation is.
        loop {
            let waiting = self.waiting.load(Ordering::Acquire);
            if waiting == 0 {
                break;
            }
            cpu.waits_for(Wait::Ipi, waiting.trailing_zeros());
            backoff.pause(cpu, || self.waiting.load(Ordering::Relaxed) == 0);
        }
        cpu.waits_for(Wait::None, 0);
        span.finish(cpu, Metric::Shootdown);
        self.busy.store(false, Ordering::Release);
    }

    /// In the interrupt: drops the translation if this CPU is asked to.
    pub fn answer(&self, cpu: &Cpu) {
        let me = 1 << cpu.id;
        if self.waiting.load(Ordering::Acquire) & me != 0 {
            cpu.ops.flush_page(self.address.load(Ordering::Relaxed));
            let asker = self.asker.load(Ordering::Relaxed);
            if self.waiting.fetch_and(!me, Ordering::AcqRel) == me {
                cpu.ops.kick(asker);
            }
        }
    }
}
