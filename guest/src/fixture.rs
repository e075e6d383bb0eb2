//! CPUs and memory for tests on the host: threads are the CPUs.

#[cfg(not(loom))]
use crate::mm::{Frame, MAX_ORDER, PageAllocator};
use crate::sched::{Priority, Sched, ThreadId, ThreadLocal};
use crate::{Cpu, Hold, Sightings, TickPhase, arch::PrivOps};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::{
    alloc::{Layout, alloc_zeroed},
    sync::atomic::Ordering::{Acquire, Relaxed},
};
#[cfg(not(loom))]
use underfoot_abi::PAGE_SIZE;
use underfoot_abi::{Context, Header, Phase, Report, ReportKind, Variant, VcpuArea};
#[cfg(not(loom))]
use underfoot_abi::{Metric, RecordedPhase};

/// Nothing is privileged on the host. What interrupts would bring is looked for where they are opened,
/// and in waits.
#[derive(Default)]
struct HostOps {
    #[cfg(not(loom))]
    interrupt: std::sync::OnceLock<Interrupt>,
}

/// What interrupts bring.
#[cfg(not(loom))]
type Interrupt = Box<dyn Fn(&Cpu) + Send + Sync>;

impl HostOps {
    /// Takes interrupts that wait, if they are open.
    fn look(&self, cpu: &Cpu) {
        #[cfg(not(loom))]
        if let Some(interrupt) = self.interrupt.get()
            && !cpu.context().masked()
        {
            interrupt(cpu);
        }
        #[cfg(loom)]
        let _ = (self, cpu);
    }
}

impl PrivOps for HostOps {
    fn irq_save(&self, cpu: &Cpu) -> bool {
        let context = &cpu.area.context;
        context.fetch_or(Context::MASKED, Relaxed) & Context::MASKED == 0
    }
    fn irq_restore(&self, cpu: &Cpu, open: bool) {
        if open {
            cpu.area.context.fetch_and(!Context::MASKED, Relaxed);
            self.look(cpu);
        }
    }
    fn halt(&self, cpu: &Cpu) {
        self.look(cpu);
        std::thread::yield_now();
    }
    fn kick(&self, _cpu: &Cpu, _id: usize) {}
    fn flush_page(&self, _address: usize) {}
    fn flush_all(&self) {}
    unsafe fn load_page_table(&self, _root: usize) {}
    unsafe fn write_msr(&self, _msr: u32, _value: u64) {}
    fn doorbell(&self, _value: u32) {}
    fn triple_fault(&self) -> ! {
        panic!("guest triple-faulted");
    }
    fn exit(&self, status: u32) -> ! {
        panic!("guest left with status {status}");
    }
}

/// Every CPU runs one thread, of the same number: the test's, or the model's.
struct HostSched {
    locals: [ThreadLocal; 64],
    ops: &'static HostOps,
}

impl Sched for HostSched {
    fn current(&self, cpu: &Cpu) -> ThreadId {
        ThreadId(cpu.id as u32)
    }
    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal {
        self.local_of(self.current(cpu))
    }
    fn local_of(&self, thread: ThreadId) -> &ThreadLocal {
        &self.locals[thread.0 as usize]
    }
    // Parks may return early: so these do, at once.
    fn park(&self, cpu: &Cpu) {
        self.yield_now(cpu);
    }
    fn unpark(&self, _cpu: &Cpu, _thread: ThreadId) {}
    fn is_alone(&self, _cpu: &Cpu) -> bool {
        true
    }
    fn yield_now(&self, cpu: &Cpu) {
        self.ops.look(cpu);
        #[cfg(loom)]
        loom::thread::yield_now();
        #[cfg(not(loom))]
        std::thread::yield_now();
    }
    fn preempt(&self, cpu: &Cpu) {
        cpu.hold.reschedule.store(false, Relaxed);
    }
    fn bottom_halves(&self, _cpu: &Cpu) {}
    fn boost(&self, _cpu: &Cpu, _thread: ThreadId, _priority: Option<Priority>) {}
    fn sleep_ns(&self, cpu: &Cpu, _ns: u64) {
        self.yield_now(cpu);
    }
    fn begin(&self, _cpu: &'static Cpu) -> ! {
        unreachable!("nobody starts threads here")
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
pub fn leak<T>() -> *mut T {
    core::ptr::with_exposed_provenance_mut(zeroed(size_of::<T>(), align_of::<T>()))
}

/// The header and CPUs of a guest of its own.
pub struct Fixture {
    pub header: &'static Header,
    pub areas: Vec<&'static VcpuArea>,
    sched: &'static HostSched,
    pub sightings: &'static Sightings,
}

impl Fixture {
    pub fn new(cpus: u32) -> Self {
        Self::with(cpus, Variant::None)
    }

    pub fn with(cpus: u32, variant: Variant) -> Self {
        Self::told(cpus, variant, &[])
    }

    /// With a workload's parameters.
    pub fn told(cpus: u32, variant: Variant, parameters: &[u64]) -> Self {
        let header = leak::<Header>();
        // SAFETY: zeroes are a valid header, and nobody else knows it yet.
        let header = unsafe {
            (*header).cpus = cpus;
            (*header).variant = variant as u32;
            (*header).seed = 0x5eed;
            let told = &mut (&mut (*header).parameters)[..parameters.len()];
            told.copy_from_slice(parameters);
            (*header).stall_threshold_ns = 2_000;
            (*header).probe_period_ns = 10_000;
            &*header
        };
        header.phase.store(Phase::Moving as u32, Relaxed);
        let areas = (0..cpus)
            // SAFETY: zeroes are a valid area.
            .map(|_| unsafe { &*leak::<VcpuArea>() })
            .collect();
        let locals = [const { ThreadLocal::new() }; 64];
        Self {
            header,
            areas,
            sched: Box::leak(Box::new(HostSched {
                locals,
                ops: Box::leak(Box::default()),
            })),
            sightings: Box::leak(Box::default()),
        }
    }

    /// From now on `interrupt` is called wherever a CPU looks for interrupts. Once.
    #[cfg(not(loom))]
    pub fn interrupt_by(&self, interrupt: impl Fn(&Cpu) + Send + Sync + 'static) {
        let set = self.sched.ops.interrupt.set(Box::new(interrupt));
        assert!(set.is_ok(), "told twice");
    }

    /// CPU `id`, with a TSC of 1 GHz.
    pub fn cpu(&self, id: usize) -> Cpu {
        Cpu {
            id,
            ops: self.sched.ops,
            header: self.header,
            area: self.areas[id],
            ns_per_tick_q32: 1 << 32,
            sched: self.sched,
            sightings: self.sightings,
            tick_phase: TickPhase::new(4_000_000),
            console: |bytes| eprint!("{}", String::from_utf8_lossy(bytes)),
            hold: Hold::new(),
        }
    }

    /// What was reported, the first of each kind, in the order in which it was.
    pub fn reports(&self) -> Vec<&'static Report> {
        let slots = self.header.reports.iter().flat_map(|kind| &kind.first);
        let mut reports: Vec<_> = slots.filter(|it| it.kind.load(Acquire) != 0).collect();
        reports.sort_by_key(|report| report.number.load(Relaxed));
        reports
    }

    /// The kind of the first report.
    pub fn first_report(&self) -> Option<ReportKind> {
        let reports = self.reports();
        ReportKind::from_number(reports.first()?.kind.load(Relaxed))
    }

    #[cfg(not(loom))]
    pub fn errors(&self) -> u64 {
        self.areas.iter().map(|a| a.errors.load(Relaxed)).sum()
    }

    #[cfg(not(loom))]
    pub fn updates(&self) -> u64 {
        self.areas.iter().map(|a| a.updates.load(Relaxed)).sum()
    }

    #[cfg(not(loom))]
    pub fn count(&self, phase: RecordedPhase, metric: Metric) -> u64 {
        let set = |a: &&VcpuArea| {
            a.histograms[phase as usize][metric as usize]
                .count
                .load(Relaxed)
        };
        self.areas.iter().map(set).sum()
    }
}

#[cfg(not(loom))]
/// A page allocator over `pages` pages of memory of its own, rounded up to 2 MiB.
pub fn allocator(cpu: &Cpu, pages: usize) -> &'static PageAllocator {
    const LARGE: usize = PAGE_SIZE << MAX_ORDER;
    let bytes = (pages * PAGE_SIZE).next_multiple_of(LARGE);
    let base = zeroed(bytes, LARGE);
    let frames = (0..bytes / PAGE_SIZE)
        .map(|_| Frame::new())
        .collect::<Vec<_>>();
    let map = (0..frames.len())
        .map(|_| AtomicU8::new(0))
        .collect::<Vec<_>>();
    let allocator = Box::leak(Box::new(PageAllocator::new(
        base,
        frames.leak(),
        map.leak(),
    )));
    // SAFETY: leaked memory that nobody else knows.
    unsafe { allocator.add(cpu, base..base + pages * PAGE_SIZE) };
    allocator
}

#[cfg(not(loom))]
/// The word at `address`.
pub fn word(address: usize) -> &'static AtomicU64 {
    // SAFETY: tests pass addresses inside of leaked memory that is used as atomics only.
    unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(address) }
}

/// CPU `id` of one guest that all executions of a model share: what a CPU publishes is no part of
/// the models, and 100,000 executions would leak too much.
#[cfg(loom)]
pub fn shared_cpu(id: usize) -> Cpu {
    static ONCE: std::sync::OnceLock<Fixture> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let fixture = Fixture::new(3);
        // Nothing is recorded: a model has no time.
        fixture.header.phase.store(Phase::Warmup as u32, Relaxed);
        fixture
    })
    .cpu(id)
}

#[cfg(not(loom))]
/// Two words, leaked and zero.
pub fn word_pair() -> &'static [AtomicU64; 2] {
    // SAFETY: leaked and zeroed, and zeroes are valid.
    unsafe { &*leak::<[AtomicU64; 2]>() }
}
