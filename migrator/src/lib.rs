//! Moves pages of guest memory to other physical frames while the guest runs.
//!
//! For any VMM on rust-vmm's `vm-memory`: it knows userfaultfd, but neither KVM nor the guest. The
//! embedder says what pages hold ([`PageMap`]), how to stop the vCPUs ([`Vcpus`]) and who is told
//! what happens ([`Observer`]), and runs one [`Handler`] and any number of [`Mover`]s on threads of
//! its own.
//!
//! A page is unmapped by `UFFDIO_MOVE` into *limbo*, copied, and its new frame is mapped. Whoever
//! touches it meanwhile waits. The old frame stays in limbo for a while, filled with a pattern that
//! is checked before the frame is used again, so that a write that reached it is seen ([`Verify`]
//! says how many are). From every phase before the new frame is mapped there is a way back
//! ([`Phase`]).
//!
//! Any process can have its memory moved, by a page map that says what may, a handler and a mover:
//!
//! ```
//! use std::sync::Arc;
//! use std::thread;
//! use underfoot_migrator::{Class, Gfn, Migrator, PageMap, Stop, probe};
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//!
//! struct Everything;
//!
//! impl PageMap for Everything {
//!     fn class(&self, _: Gfn) -> Option<Class> {
//!         Some(Class::default())
//!     }
//!
//!     fn sleeps(&self, _: Gfn) -> bool {
//!         true
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if let Err(lack) = probe() {
//!     eprintln!("{lack}");
//!     return Ok(());
//! }
//! let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)])?);
//! memory.write_slice(&[7; 1 << 16], GuestAddress(0))?;
//! let migrator = Migrator::builder(Arc::clone(&memory))
//!     .page_map(Arc::new(Everything))
//!     .build()?;
//! let (enough, end) = (Stop::new()?, Stop::new()?);
//! let handler = migrator.handler();
//! let mut mover = migrator.mover()?;
//! thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
//!     let serving = scope.spawn(|| handler.run(&end));
//!     let moving = scope.spawn(|| mover.run(&enough));
//!     // The memory stays usable; who meets a page that is away waits for it.
//!     while migrator.counters().total().committed < 100 {
//!         let mut page = [0; 4096];
//!         memory.read_slice(&mut page, GuestAddress(0x3000))?;
//!         assert_eq!(page, [7; 4096]);
//!     }
//!     enough.request()?;
//!     moving.join().expect("no panic")?;
//!     end.request()?;
//!     Ok(serving.join().expect("no panic")?)
//! })?;
//! assert_eq!(migrator.counters().integrity_errors(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! A VMM does the same with its guest's memory: `examples/vmm.rs` is one of less than two hundred
//! lines.
//!
//! Needs Linux 6.8 (`UFFD_FEATURE_MOVE`) on x86-64, and a userfaultfd that serves the kernel's own
//! faults ([`probe`]).

mod address;
mod alias;
mod allocate;
mod arena;
mod backend;
mod batch;
mod builder;
mod class;
pub mod clock;
mod counters;
mod engine;
mod event;
mod frames;
mod grace;
mod handler;
mod huge;
mod inject;
mod invalidation;
mod lock_order;
#[cfg(all(test, loom))]
mod loom_models;
mod memory_slots;
mod migrator;
mod mover;
mod names;
mod numa;
mod page_map;
mod page_size;
mod page_word;
mod pagemap;
mod pattern;
mod phase;
mod places;
mod plan;
mod plug;
mod prng;
mod rate;
mod regions;
mod registration;
mod ring;
mod sample;
mod stop;
mod strategy;
mod sync;
mod table;
mod torment;
mod transaction;
mod translate;
mod uffd;
mod variant;
mod vcpus;
mod verify;
mod wait;
mod watchdog;
mod windows;

pub use address::{Gfn, PAGE_SIZE, PageRange};
pub use allocate::Allocate;
pub use arena::ArenaError;
pub use backend::BackendKind;
pub use builder::{BuildError, Builder, DEFAULT_LIMBO, DEFAULT_REST, MAX_LIMBO, MAX_UFFDS};
pub use class::{Class, ClassSet};
pub use counters::{Counters, Counts};
pub use event::{AbortReason, Event, Observer, Served, Silent, SkipReason, Times};
pub use frames::{
    Fallback, FrameCounters, FrameCounts, FrameError, FrameOptions, FrameUser, FrameViolations,
    Grace, MAX_FRAMES, Placement, Refiller, RefillerError,
};
pub use grace::GracePeriods;
pub use handler::{Handler, HandlerError};
pub use inject::{Inject, InjectAction};
pub use invalidation::{
    CacheView, Consumer, Exhausted, InvalidationOptions, Invalidations, Laggard, MAX_LAGGARDS,
    MAX_SLOTS, MAX_SUBSCRIPTIONS, OpenRange, PoolCounts, Refused, RegisterError, Sharing, Snapshot,
    Subscription, Tracking, TranslationCache, Unacknowledged,
};
pub use memory_slots::{MAX_SLOT_PAGES, MemorySlots, SlotError};
pub use migrator::Migrator;
pub use mover::{Mover, MoverError, NewMoverError};
pub use names::UnknownName;
pub use numa::numa_nodes;
pub use page_map::PageMap;
pub use page_size::PageSize;
pub use phase::Phase;
pub use plug::{BLOCK_PAGES, FaultLock, FaultLockCounts, PlugCounters, PlugError};
pub use rate::{Rate, RateError};
pub use regions::RegionError;
pub use registration::RegistrationError;
pub use stop::Stop;
pub use strategy::StrategyKind;
pub use table::Combination;
pub use torment::Torment;
pub use translate::Translate;
pub use uffd::{UffdError, WaitingFaults, probe};
pub use variant::Variant;
pub use vcpus::{Paused, Vcpus};
pub use verify::{Verify, can_verify};
pub use wait::WaitKind;
pub use watchdog::{
    About, Cycle, Edge, Members, Node, Stall, Stalls, Verdict, Verdicts, Wait, WaitGraph,
    WaitSource, Waiter, WaiterError, Watchdog,
};
pub use windows::{Holder, Windows};

/// Pages of 4 KiB in one window at most.
pub const MAX_BATCH: u32 = 512;
