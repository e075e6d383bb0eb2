//! The serial console, on whichever CPU and at whichever level this is.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use underfoot_abi::{Cpl, PAGE_SIZE};
use underfoot_firmware::kernel_cpl;
use underfoot_guest::arch::{Ring0, console_from_ring3};

const ROOM: usize = 512;
/// Long enough for any other CPU to finish its line, unless it died in the middle of it.
const PATIENCE: u32 = 10_000_000;

/// What string I/O reads is fetched by the hypervisor, so that it must not lie on a stack that may
/// wait for a page by a signal: the buffer is among the pages that the hypervisor reaches.
#[repr(align(4096))]
struct Buffer(UnsafeCell<[u8; ROOM]>);

// SAFETY: used by the holder of `BUSY` only, or after a holder was given up for dead.
unsafe impl Sync for Buffer {}

#[unsafe(link_section = ".header")]
static BUFFER: Buffer = Buffer(UnsafeCell::new([0; ROOM]));
static BUSY: AtomicBool = AtomicBool::new(false);

/// Writes `text`; other CPUs' writes come before or after it.
pub fn write(text: &[u8]) {
    let mut patience = PATIENCE;
    while BUSY.swap(true, Ordering::Acquire) && patience > 0 {
        patience -= 1;
        core::hint::spin_loop();
    }
    for part in text.chunks(ROOM) {
        // SAFETY: we hold `BUSY`, or its holder is dead; at worst two lines mix, bytes are bytes.
        let buffer = unsafe { &mut *BUFFER.0.get() };
        let bytes = &mut buffer[..part.len()];
        bytes.copy_from_slice(part);
        match kernel_cpl() {
            Cpl::Zero => Ring0.console(bytes),
            Cpl::Three | Cpl::Auto => console_from_ring3(bytes),
        }
    }
    BUSY.store(false, Ordering::Release);
}

/// Address of the page that holds the buffer.
pub fn buffer_page() -> usize {
    BUFFER.0.get() as usize & !(PAGE_SIZE - 1)
}
