//! The I/O ports that the guest uses.

/// The first serial port (16550): the guest's console.
pub const PORT_SERIAL: u16 = 0x3f8;

/// Written with any 32-bit value when [`Header::state`](crate::Header) has changed. The host may
/// turn it into an event without leaving the kernel.
pub const PORT_DOORBELL: u16 = 0x550;

/// Written with a 32-bit status when the guest is over: 0 done and sound, anything else not.
/// QEMU's isa-debug-exit at the same port leaves with status `(value << 1) | 1`.
pub const PORT_EXIT: u16 = 0xf4;
