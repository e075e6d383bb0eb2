//! What each CPU keeps for shootdowns.

use super::{
    request::{Order, Request, What},
    soft::SoftTlb,
    space::Space,
};
use crate::{
    Cpu,
    sync::atomic::{
        AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
        const_fn,
    },
};

/// Index into [`PerCpu::flushed`]: the kernel's own translations.
const KERNEL: usize = 0;
/// The space that is loaded.
const LOADED: usize = 1;

/// One CPU's part. Aligned, so that what others write does not slow down its neighbours.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct PerCpu {
    /// What this CPU asks of others.
    pub request: Request,
    /// The CPUs that have a request for this one, a bit each.
    pub asked: AtomicU64,
    /// [`Space::address`] of the space whose tables are loaded; 0 for the kernel's own.
    loaded: AtomicUsize,
    /// The processor has the loaded space's tables: not the kernel's own.
    hardware: AtomicU32,
    /// The loaded space is kept without being used.
    lazy: AtomicU32,
    /// Up to which generation this CPU has flushed, by space. May lag behind, never run ahead.
    flushed: [AtomicU64; 2],
    pub soft: SoftTlb,
}

impl PerCpu {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                request: Request::new(),
                asked: AtomicU64::new(0),
                loaded: AtomicUsize::new(0),
                hardware: AtomicU32::new(0),
                lazy: AtomicU32::new(0),
                flushed: [AtomicU64::new(0), AtomicU64::new(0)],
                soft: SoftTlb::new(),
            }
        }
    }

    /// Whether the CPU keeps its space without using it. Acquire: its accesses by that space came
    /// before.
    pub(super) fn is_lazy(&self) -> bool {
        self.lazy.load(Acquire) != 0
    }

    pub(super) fn be_lazy(&self) {
        self.lazy.store(1, Release);
    }

    pub(super) fn has_loaded(&self, space: &Space) -> bool {
        self.loaded.load(Relaxed) == space.address()
    }

    /// Uses the loaded space `space` again. Interrupts are masked.
    pub(super) fn resume(&self, cpu: &Cpu, space: &Space) {
        if self.lazy.load(Relaxed) == 0 {
            // It was in use all the time: whoever changed it has asked.
            return;
        }
        self.lazy.store(0, Relaxed);
        // The fence in there stands between the store and the load: an initiator that still found
        // this CPU lazy has left its generation.
        let now = space.catch_up();
        if self.flushed[LOADED].load(Relaxed) < now {
            self.flush_all(cpu, LOADED);
            self.flushed[LOADED].store(now, Relaxed);
        }
    }

    /// Loads the tables of `space` instead of those that are loaded. Interrupts are masked: a
    /// request in between would find neither space loaded.
    pub(super) fn load(&self, cpu: &Cpu, kernel: &Space, space: &Space) {
        self.lazy.store(0, Relaxed);
        space.enter(cpu.id);
        let now = space.catch_up();
        match space.root() {
            Some(root) => {
                // SAFETY: `Space::new` was promised that its table maps what the kernel uses.
                unsafe { cpu.ops.load_page_table(root) };
                self.hardware.store(1, Relaxed);
            }
            None => self.load_kernel(cpu, kernel),
        }
        self.soft.flush_all();
        self.loaded.store(space.address(), Relaxed);
        self.flushed[LOADED].store(now, Relaxed);
    }

    /// Goes back to the kernel's own tables. Interrupts are masked.
    pub(super) fn unload(&self, cpu: &Cpu, kernel: &Space) {
        self.load_kernel(cpu, kernel);
        self.soft.flush_all();
        self.loaded.store(0, Relaxed);
        self.lazy.store(0, Relaxed);
    }

    /// Has the processor use the kernel's tables.
    fn load_kernel(&self, cpu: &Cpu, kernel: &Space) {
        if let (1.., Some(root)) = (self.hardware.swap(0, Relaxed), kernel.root()) {
            // SAFETY: the kernel's tables.
            unsafe { cpu.ops.load_page_table(root) };
        }
    }

    /// Does what `order` says, unless this CPU has done so already. Interrupts are masked.
    pub(super) fn obey(&self, cpu: &Cpu, kernel: &Space, order: &Order) {
        let which = if order.space == kernel.address() {
            KERNEL
        } else if order.space == self.loaded.load(Relaxed) {
            LOADED
        } else {
            // The space was left since, and all its translations with it.
            return;
        };
        let flushed = self.flushed[which].load(Relaxed);
        match order.what {
            What::Leave => return self.unload(cpu, kernel),
            // A full flush for a later change came first, and did this too.
            _ if flushed >= order.generation => return,
            // Changes in between are not known here, so they need everything too.
            What::Ranges(ranges) if flushed + 1 == order.generation => {
                for range in ranges.iter().take_while(|range| range.pages != 0) {
                    if self.is_hardware(which) {
                        cpu.ops.flush_range(range.address, range.pages);
                    }
                    self.soft.flush(*range);
                }
            }
            What::Ranges(_) | What::All => self.flush_all(cpu, which),
        }
        self.flushed[which].store(order.generation, Relaxed);
    }

    /// Whether the processor itself has translations of that space.
    fn is_hardware(&self, which: usize) -> bool {
        which == KERNEL || self.hardware.load(Relaxed) != 0
    }

    fn flush_all(&self, cpu: &Cpu, which: usize) {
        if self.is_hardware(which) {
            cpu.ops.flush_all();
        }
        self.soft.flush_all();
    }
}
