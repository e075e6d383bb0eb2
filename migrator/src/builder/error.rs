//! Why there is no migrator to be had.

use crate::frames::FrameError;
use crate::regions::RegionError;
use crate::registration::RegistrationError;
use crate::{BackendKind, MAX_BATCH, MAX_SLOTS, SlotError, StrategyKind, Variant};

use super::{MAX_LIMBO, MAX_UFFDS};

/// A migrator that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The size of a batch.
    #[error("a batch of {batch} pages: 1 to {MAX_BATCH} can be moved in one window")]
    Batch {
        /// What was asked for.
        batch: u32,
    },
    /// Several huge pages in one window.
    #[error("a batch of {batch} pages of 2MiB: one is moved in one window; use a batch of 1")]
    HugeBatch {
        /// What was asked for.
        batch: u32,
    },
    /// A batch, or several userfaultfds, where slots are moved.
    #[error(
        "a batch of {batch} pages, {uffds} userfaultfds, backend memslot: a slot is moved whole, by one userfaultfd; leave \
         both out"
    )]
    SlotParts {
        /// The batch that was asked for.
        batch: u32,
        /// The userfaultfds that were asked for.
        uffds: u32,
    },
    /// The slots.
    #[error("guest memory cannot be moved by slots")]
    Slot(#[from] SlotError),
    /// The number of userfaultfds.
    #[error("{uffds} userfaultfds: 1 to {MAX_UFFDS} can be served")]
    Uffds {
        /// What was asked for.
        uffds: u32,
    },
    /// The length of limbo.
    #[error("limbo of {limbo} frames: it holds up to {MAX_LIMBO}")]
    Limbo {
        /// What was asked for.
        limbo: u32,
    },
    /// Frames that are staged before the window, or that the kernel always allocates in it.
    #[error(
        "frames allocated in the window, backend {backend}: only remap has a choice; use that, or leave it out"
    )]
    Allocate {
        /// The backend.
        backend: BackendKind,
    },
    /// The slots for open invalidations.
    #[error("a pool of {slots} slots for open invalidations: it has 1 to {MAX_SLOTS}")]
    Slots {
        /// What was asked for.
        slots: u32,
    },
    /// No window is that short.
    #[error("a window of 0 at most: none is that short; give more, or no bound at all")]
    MaxWindow,
    /// No page could ever be moved.
    #[error("the set of target classes is empty; name at least one class")]
    NoTargets,
    /// The combination is not sound.
    #[error("strategy {strategy}, backend {backend}, variant {variant}: {reason}")]
    Unsound {
        /// The strategy.
        strategy: StrategyKind,
        /// The backend.
        backend: BackendKind,
        /// The variant.
        variant: Variant,
        /// Why not, and what to use instead.
        reason: &'static str,
    },
    /// Nowhere to move to.
    #[error(
        "the backend kernel moves pages of 4KiB between NUMA nodes, and one node has memory here; use \
         the page size 2MiB, or another backend"
    )]
    OneNode,
    /// The kernel does not let small pages become huge ones.
    #[error(
        "madvise(MADV_HUGEPAGE) on guest memory; does this kernel have transparent huge pages?"
    )]
    NotCollapsible(#[source] std::io::Error),
    /// The page map is missing.
    #[error("no page map was given; Builder::page_map says what pages hold")]
    NoPageMap,
    /// The vCPUs are missing.
    #[error("the strategy stop-world stops the vCPUs, and none were given by Builder::vcpus")]
    NoVcpus,
    /// The grace periods are missing.
    #[error(
        "the variant {} waits for grace periods, and none were given by Builder::grace_periods",
        Variant::WindowWaitsGracePeriod
    )]
    NoGracePeriods,
    /// What would catch a variant is not in this build.
    #[error(
        "only the checker of lock orders catches {}, and this build has none; build with the feature lock-order",
        Variant::FramesInWindow
    )]
    NoLockOrder,
    /// The pool of frames.
    #[error("there is no pool of frames to be had")]
    Frames(#[from] FrameError),
    /// The guest's memory.
    #[error("this guest memory cannot be moved")]
    Region(#[from] RegionError),
    /// Its registration.
    #[error("guest memory cannot be watched for faults")]
    Registration(#[from] RegistrationError),
}
