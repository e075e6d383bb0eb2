//! The local APIC in its memory-mapped form, which CPL 3 may use directly (Intel SDM 3A, ch. 12).

use core::ptr::with_exposed_provenance_mut;
use underfoot_firmware::{VECTOR_SPURIOUS, VECTOR_TIMER};

/// Where every CPU finds its own local APIC.
pub const APIC_BASE: usize = 0xfee0_0000;

const TASK_PRIORITY: usize = 0x80;
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const TIMER_INITIAL: usize = 0x380;
const TIMER_DIVIDE: usize = 0x3e0;

const ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_1: u32 = 0b1011;
const DELIVERY_PENDING: u32 = 1 << 12;
const ICR_INIT: u32 = 0x4500;
const ICR_STARTUP: u32 = 0x4600;
/// The timer of every hypervisor that this guest meets (KVM, QEMU) counts nanoseconds.
const TIMER_HZ: u32 = 1_000_000_000;

/// This CPU's local APIC, once [`APIC_BASE`] is mapped.
#[derive(Clone, Copy)]
pub struct Apic(());

impl Apic {
    /// # Safety
    /// [`APIC_BASE`] must be mapped, uncached, for as long as the value is used.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }

    fn write(self, register: usize, value: u32) {
        mmio_write(APIC_BASE + register, value);
    }

    fn read(self, register: usize) -> u32 {
        mmio_read(APIC_BASE + register)
    }

    /// Lets interrupts in and starts the periodic tick.
    pub fn start(self, tick_hz: u32) {
        self.write(TASK_PRIORITY, 0);
        self.write(LVT_LINT0, LVT_MASKED);
        self.write(LVT_LINT1, LVT_MASKED);
        self.write(SPURIOUS, ENABLE | u32::from(VECTOR_SPURIOUS));
        self.write(TIMER_DIVIDE, DIVIDE_BY_1);
        self.write(LVT_TIMER, PERIODIC | u32::from(VECTOR_TIMER));
        self.write(TIMER_INITIAL, TIMER_HZ / tick_hz);
    }

    /// Has the tick, which [`Self::start`] has begun, come every `ns` from now on; never for 0.
    pub fn set_tick_ns(self, ns: u32) {
        // The timer counts nanoseconds.
        self.write(TIMER_INITIAL, ns);
    }

    /// Ends the interrupt being handled.
    pub fn end_of_interrupt(self) {
        self.write(EOI, 0);
    }

    /// Sends `vector` to CPU `id`.
    pub fn send(self, id: usize, vector: u8) {
        self.command(id, u32::from(vector));
    }

    /// Resets CPU `id`, so that it waits for a start-up interrupt.
    pub fn init(self, id: usize) {
        self.command(id, ICR_INIT);
    }

    /// Starts CPU `id` in real mode at `address`: a page below 1 MiB.
    pub fn startup(self, id: usize, address: usize) {
        self.command(id, ICR_STARTUP | (address >> 12) as u32);
    }

    fn command(self, id: usize, low: u32) {
        self.write(ICR_HIGH, (id as u32) << 24);
        self.write(ICR_LOW, low);
        while self.read(ICR_LOW) & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
    }
}

// A hypervisor emulates these accesses, and so fetches the instructions itself: they lie with the
// trap layer, among the pages that it reaches, and touch no stack.

#[inline(never)]
#[unsafe(link_section = ".trap.text")]
fn mmio_write(address: usize, value: u32) {
    // SAFETY: mapped, by the promise made to `Apic::new`; registers are aligned 32-bit words.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) };
}

#[inline(never)]
#[unsafe(link_section = ".trap.text")]
fn mmio_read(address: usize) -> u32 {
    // SAFETY: as in `mmio_write`.
    unsafe { with_exposed_provenance_mut::<u32>(address).read_volatile() }
}
