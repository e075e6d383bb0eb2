//! CPUs and memory for tests on the host: threads are the CPUs.

use crate::{Cpu, arch::PrivOps};
use std::{
    alloc::{Layout, alloc_zeroed},
    sync::atomic::Ordering::Relaxed,
};
use underfoot_abi::{Context, Header, Metric, Phase, RecordedPhase, Variant, VcpuArea};

/// Nothing is privileged on the host, and nothing interrupts.
struct HostOps;

impl PrivOps for HostOps {
    fn irq_save(&self, cpu: &Cpu) -> bool {
        let context = &cpu.area.context;
        context.fetch_or(Context::MASKED, Relaxed) & Context::MASKED == 0
    }
    fn irq_restore(&self, cpu: &Cpu, open: bool) {
        if open {
            cpu.area.context.fetch_and(!Context::MASKED, Relaxed);
        }
    }
    fn halt(&self, _cpu: &Cpu) {
        std::thread::yield_now();
    }
    fn flush_page(&self, _address: usize) {}
    fn load_page_table(&self, _root: usize) {}
    fn console(&self, bytes: &[u8]) {
        eprint!("{}", String::from_utf8_lossy(bytes));
    }
    fn doorbell(&self, _value: u32) {}
    fn exit(&self, status: u32) -> ! {
        panic!("guest left with status {status}");
    }
}

/// Leaked, zeroed memory.
pub fn zeroed(bytes: usize, align: usize) -> usize {
    let layout = Layout::from_size_align(bytes, align).expect("a valid layout");
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(layout) };
    assert!(!memory.is_null());
    memory.expose_provenance()
}

/// A leaked, zeroed value.
fn leak<T>() -> *mut T {
    core::ptr::with_exposed_provenance_mut(zeroed(size_of::<T>(), align_of::<T>()))
}

/// The header and CPUs of a guest of its own.
pub struct Fixture {
    pub header: &'static Header,
    pub areas: Vec<&'static VcpuArea>,
}

impl Fixture {
    pub fn new(cpus: u32) -> Self {
        Self::with(cpus, Variant::None)
    }

    pub fn with(cpus: u32, variant: Variant) -> Self {
        let header = leak::<Header>();
        // SAFETY: zeroes are a valid header, and nobody else knows it yet.
        let header = unsafe {
            (*header).cpus = cpus;
            (*header).variant = variant as u32;
            (*header).seed = 0x5eed;
            (*header).stall_threshold_ns = 2_000;
            (*header).probe_period_ns = 10_000;
            &*header
        };
        header.phase.store(Phase::Moving as u32, Relaxed);
        let areas = (0..cpus)
            // SAFETY: zeroes are a valid area.
            .map(|_| unsafe { &*leak::<VcpuArea>() })
            .collect();
        Self { header, areas }
    }

    /// CPU `id`, with a TSC of 1 GHz.
    pub fn cpu(&self, id: usize) -> Cpu {
        Cpu {
            id,
            ops: &HostOps,
            header: self.header,
            area: self.areas[id],
            ns_per_tick_q32: 1 << 32,
        }
    }

    pub fn errors(&self) -> u64 {
        self.areas.iter().map(|a| a.errors.load(Relaxed)).sum()
    }

    pub fn count(&self, phase: RecordedPhase, metric: Metric) -> u64 {
        let set = |a: &&VcpuArea| {
            a.histograms[phase as usize][metric as usize]
                .count
                .load(Relaxed)
        };
        self.areas.iter().map(set).sum()
    }
}
