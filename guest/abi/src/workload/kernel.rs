//! Workloads over the kernel's own structures.

use super::{Counter, Description, LOCKDEP, OPERATIONS, Parameter, THREADS};

/// How a tree's readers and objects are protected.
pub(super) const PROTECT: Parameter = Parameter::choice(
    "protect",
    "readers and locks: spinlocks with a kind of RCU, or locks that sleep",
    &[
        "classic",
        "preemptible",
        "sleepable",
        "mutex-srcu",
        "sleeping-spinlock",
    ],
);

/// Which kind of RCU a workload uses that is about it.
const KIND: Parameter = Parameter::choice(
    "kind",
    "kind of RCU",
    &["classic", "preemptible", "sleepable"],
);

/// The counters of [`WorkloadId::Lock`](super::WorkloadId::Lock) alone, two in all: see their texts.
pub const SNAPSHOTS: usize = 1;

/// The backlog of callbacks, and of what they free.
const CALLBACKS_WAITING: Counter = Counter::new(
    "callbacks_waiting_max",
    "most callbacks that waited on a CPU at one time",
);
const BYTES_WAITING: Counter = Counter::new(
    "bytes_waiting_max",
    "most bytes that waited on a CPU at one time",
);

pub(super) const WALK: Description = Description {
    name: "walk",
    about: "RCU and sequence counts over a dentry-like tree, and every kind of page",
    parameters: &[
        PROTECT,
        Parameter::number("threads", "threads on each CPU", 1, 4, 1),
        LOCKDEP,
    ],
    counters: &[OPERATIONS],
};

pub(super) const LOCK: Description = Description {
    name: "lock",
    about: "contended spinlocks whose critical sections touch pages that migrate",
    parameters: &[
        THREADS,
        Parameter::number("locks", "spinlocks to choose from", 1, 64, 4),
        Parameter::number(
            "section-ns",
            "least time in a critical section, ns",
            0,
            1_000_000,
            0,
        ),
        Parameter::number("touches", "accesses in a critical section", 0, 64, 4),
        Parameter::choice(
            "kind",
            "kind of spinlock; seqlock: critical sections are its writers', and half of the operations read beside them",
            &["ticket", "queued", "seqlock"],
        ),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("snapshots", "pages that readers beside writers found whole"),
        Counter::new("retries", "pages read again, as a writer had come"),
    ],
};

pub(super) const CHASE: Description = Description {
    name: "chase",
    about: "a pointer chase, memory bandwidth and arithmetic: the baseline",
    parameters: &[
        THREADS,
        // One block of the page allocator's, whose largest are of 2 MiB.
        Parameter::number("pages", "pages of the ring", 2, 512, 256),
        Parameter::choice(
            "ticks",
            "whether timer ticks are timed where they interrupt (guest.tick)",
            &["off", "on"],
        ),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("hops", "pages visited by the chase"),
        Counter::new("bytes", "bytes written and read back"),
    ],
};

pub(super) const DMA: Description = Description {
    name: "dma",
    about: "a device copies buffers that migrate, from threads of its own; every byte is checked",
    parameters: &[
        Parameter::number("depth", "descriptors posted at a time", 1, 64, 8),
        Parameter::number(
            "bytes",
            "bytes of each; rounded up to whole words",
            8,
            16_384,
            4096,
        ),
        Parameter::number(
            "renew",
            "descriptors after which a thread of the device registers anew; 0: never",
            0,
            1_000_000,
            1000,
        ),
        Parameter::number("cache", "translations that a thread caches", 1, 4096, 64),
        Parameter::number(
            "lookup-us",
            "time that a look-up of a page takes the device, us",
            0,
            1000,
            0,
        ),
        Parameter::number(
            "ranges",
            "ranges that a thread registers; faults of one wait for no change in another",
            1,
            16,
            16,
        ),
        Parameter::choice(
            "tracking",
            "how open invalidations are kept track of; space counts them for all ranges together",
            &["pool", "stack", "space"],
        ),
        Parameter::number("slots", "slots of the pool", 1, 64, 16),
        Parameter::choice(
            "exhausted",
            "what an invalidation does that finds no slot: counts for the space, or waits for one",
            &["space", "wait"],
        ),
        Parameter::choice(
            "renew-busy",
            "whether it also registers a range anew in which it finds a page being moved",
            &["off", "on"],
        ),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("copies", "descriptors done"),
        Counter::new("bytes", "bytes that arrived"),
        Counter::new("slept", "sleeps while the device was not done"),
    ],
};

/// Where host and device find what they are told among the parameters of `dma`, in their order.
pub const DMA_RENEW: usize = 2;
/// See [`DMA_RENEW`].
pub const DMA_CACHE: usize = 3;
/// See [`DMA_RENEW`].
pub const DMA_LOOKUP: usize = 4;
/// See [`DMA_RENEW`].
pub const DMA_RANGES: usize = 5;
/// See [`DMA_RENEW`].
pub const DMA_TRACKING: usize = 6;
/// See [`DMA_RENEW`].
pub const DMA_SLOTS: usize = 7;
/// See [`DMA_RENEW`].
pub const DMA_EXHAUSTED: usize = 8;
/// See [`DMA_RENEW`].
pub const DMA_RENEW_BUSY: usize = 9;

pub(super) const IDLE: Description = Description {
    name: "idle",
    about: "one thread that wakes ten times a second: what a guest costs that does nothing",
    parameters: &[LOCKDEP],
    counters: &[OPERATIONS],
};

pub(super) const CHURN: Description = Description {
    name: "churn",
    about: "pages are left to RCU at a chosen rate, while readers hold grace periods up",
    parameters: &[
        KIND,
        Parameter::number(
            "rate",
            "pages freed by each CPU per second; 0: as many as it can",
            0,
            1_000_000,
            10_000,
        ),
        Parameter::number("readers", "readers on each CPU", 0, 4, 1),
        Parameter::number("hold-us", "length of a read section, us", 0, 100_000, 100),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("starved", "pages that were asked for in vain"),
        Counter::new("sections", "read sections"),
        CALLBACKS_WAITING,
        BYTES_WAITING,
    ],
};

pub(super) const TORTURE: Description = Description {
    name: "rcu-torture",
    about: "readers of objects that age by a stage with each grace period: none may be old",
    parameters: &[
        KIND,
        Parameter::number("readers", "readers on each CPU", 1, 4, 2),
        Parameter::number("writers", "writers, on the CPUs by turns", 1, 16, 2),
        Parameter::choice(
            "boost",
            "whether readers that hold up an old grace period are boosted (preemptible)",
            &["off", "on"],
        ),
        Parameter::choice(
            "hogs",
            "a thread on each CPU that keeps it from readers, in bursts",
            &["off", "on"],
        ),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("removed", "sections that saw their object removed"),
        Counter::new("too_old", "sections that saw their object too old: errors"),
        Counter::new("writes", "objects replaced"),
        Counter::new("synchronize", "waits for a grace period"),
        Counter::new("expedited", "expedited waits for a grace period"),
        Counter::new("calls", "objects left to callbacks"),
        Counter::new("starved", "writes put off, no object being free"),
        Counter::new("bursts", "bursts of hogs"),
        Counter::new("overdue", "bursts that no grace period ended in"),
        Counter::new("boosts", "readers boosted in bursts"),
        CALLBACKS_WAITING,
        BYTES_WAITING,
    ],
};

pub(super) const ORDER: Description = Description {
    name: "lock-order",
    about: "mremap, reclaim and the reverse map: locks whose order the checker watches",
    parameters: &[
        Parameter::choice(
            "reader",
            "what a reader does that meets an odd sequence count",
            &["abort", "wait"],
        ),
        Parameter::number(
            "reclaim-every",
            "moves for each that reclaims",
            1,
            10_000,
            16,
        ),
    ],
    counters: &[
        OPERATIONS,
        Counter::new("reclaims", "allocations that reclaimed"),
        Counter::new("aborted", "looks given up because of a writer"),
        Counter::new("splits", "areas split under the reverse map's lock"),
        Counter::new("freed", "pages of the file that reclaims freed"),
    ],
};

pub(super) const SHOOTDOWN: Description = Description {
    name: "shootdown",
    about: "TLB shootdowns: storms of remaps and protections against readers",
    parameters: &[
        Parameter::choice(
            "way",
            "how other CPUs are made to flush; hypercall falls back to ipi at CPL 3",
            &["ipi", "pv", "hypercall"],
        ),
        Parameter::number("pages", "pages in one shootdown", 1, 64, 8),
        Parameter::number("initiators", "threads that shoot, CPU by CPU", 1, 16, 2),
        Parameter::number("readers", "threads that read, on each CPU", 1, 4, 1),
        LOCKDEP,
    ],
    counters: &[
        OPERATIONS,
        Counter::new("pages", "pages shot down"),
        Counter::new("asked", "answers waited for"),
        Counter::new("ipis", "interrupts sent"),
        Counter::new("ipis-shared", "interrupts saved: another was on its way"),
        Counter::new(
            "ipis-lazy",
            "interrupts saved: the CPU kept the space lazily",
        ),
        Counter::new(
            "notes-held",
            "interrupts saved: a note for a vCPU that the VMM held",
        ),
        Counter::new(
            "notes-preempted",
            "interrupts saved: a note for a vCPU that KVM had preempted",
        ),
        Counter::new(
            "hypercalls",
            "shootdowns whose interrupts took one hypercall",
        ),
        Counter::new(
            "hypercalls-refused",
            "shootdowns that sent single interrupts instead: all at CPL 3, or KVM did not take it",
        ),
        Counter::new("full", "shootdowns of the whole space"),
        Counter::new("reads", "reads through test pages"),
    ],
};
