//! The minimal KVM virtual machine monitor under underfoot, as a library.
//!
//! It takes a guest image as bytes (any ELF with a PVH note), gives it memory, vCPUs, a serial
//! port, a doorbell and a way out, and reports why it ended. Nothing here moves a page: that is
//! `underfoot-migrator`, which meets this crate in small traits only.
//!
//! The way in is [`MachineConfig`] → [`Machine::new`] → [`Machine::start`] → [`Machine::wait`] →
//! [`Machine::stop`]. Dropping a [`Machine`] stops and joins every thread that it started.
//!
//! Unsafe code lives in `sys` (calls that no crate wraps), `run_page` (the page shared with KVM),
//! `shared` (words shared with the guest), `switch_ring` (records shared with the kernel) and `dma::copy` (pages that the
//! device reaches), and nowhere else but the one registration of guest memory in `kvm` and the device's one use of an address.

mod boot;
pub mod capability;
mod clock;
mod config;
mod console;
mod cpuid;
mod crash;
mod device;
pub mod dma;
mod event_loop;
mod exit;
mod gate;
#[cfg(all(test, loom))]
mod gate_models;
mod held;
mod host;
mod kvm;
mod machine;
mod machine_error;
mod memory;
mod migration;
pub mod placement;
mod progress;
mod report;
mod run_delay;
mod run_page;
mod shared;
mod slots;
pub mod stats;
mod switch_ring;
mod sync;
mod sys;
mod thread_state;
mod vcpu;
mod vcpu_set;
pub mod wait;
mod waits;
mod walk;

pub use boot::{Boot, BootError, Entry};
pub use clock::{ClockPair, TscRelation};
pub use config::MachineConfig;
pub use console::{Capture, Console};
pub use crash::Crash;
pub use event_loop::{BlockedSignals, EventLoopError, Wake};
pub use exit::{ExitReason, ExitReport, Registers};
pub use host::{HostError, HostInfo, Stage2};
pub use machine::{Machine, StopOutcome};
pub use machine_error::MachineError;
pub use memory::{Backing, GuestRam, MemoryError, MemorySize, RamRange};
pub use migration::PageMapView;
pub use progress::{Progress, ProgressWatch};
pub use report::{GuestReport, guest_text};
pub use run_delay::RunDelay;
pub use shared::{HeaderInit, HeaderWords, MoverInit, SharedRegion};
pub use slots::VmSlots;
pub use switch_ring::{Switch, SwitchRecord, SwitchRing};
pub use thread_state::ThreadState;
pub use vcpu_set::{Held, Paused, VcpuSet};
pub use waits::{GuestWaits, PoolGrace};
