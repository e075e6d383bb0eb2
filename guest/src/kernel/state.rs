//! The kernel's statics, each filled once by the boot CPU.

use super::once::Once;
use super::shared::Shared;
use core::sync::atomic::AtomicU8;
use underfoot_abi::{Header, MAX_CPUS, VcpuArea};
use underfoot_guest::Cpu;
use underfoot_guest::arch::Ring3;

static SHARED: Once<Shared> = Once::new();
static CPUS: [Once<Cpu>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static RING3: [Once<Ring3>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// Publishes the shared region to the rest of the kernel.
pub fn set_shared(shared: Shared) -> &'static Shared {
    SHARED.set(shared)
}

/// The shared region's header, once it is known.
pub fn header() -> Option<&'static Header> {
    SHARED.get().map(|shared| shared.header)
}
