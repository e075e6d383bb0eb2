//! Workloads over address spaces.

use super::{Counter, Description, LOCKDEP, OPERATIONS, Parameter, THREADS};

/// What became of page faults: what workloads over address spaces count after their operations.
pub const FAULT_OUTCOMES: [Counter; 12] = [
    Counter::new("classic", "faults handled under the address space's lock"),
    Counter::new("vma-lock", "faults handled under a VMA's lock"),
    Counter::new("speculative", "faults handled without a lock"),
    Counter::new("spurious", "faults that somebody else had handled"),
    Counter::new("no-vma", "fast paths that found no mapping"),
    Counter::new("busy", "fast paths that found the VMA's lock taken"),
    Counter::new("changed", "fast paths under which the VMA changed"),
    Counter::new("missing-table", "fast paths that found a table missing"),
    Counter::new("no-memory", "fast paths that were given no page"),
    Counter::new("reclaimed", "fast paths that made room and tried again"),
    Counter::new("refused", "faults that no mapping allows"),
    Counter::new(
        "out-of-memory",
        "faults and changes of mappings for which no page was left",
    ),
];

/// How page tables lie in pages.
const TABLES: Parameter = Parameter::choice(
    "tables",
    "page tables of half a page, two to a page, or one to a page",
    &["fragments", "whole"],
);

/// How faults are handled: under the VMA's lock unless told otherwise.
const PATH: Parameter = Parameter {
    default: 1,
    ..Parameter::choice(
        "path",
        "how page faults are handled",
        &["mmap-lock", "vma-lock", "speculative"],
    )
};

const FALLBACK: Parameter = Parameter::choice(
    "fallback",
    "what a fast path does that is given no page; ordinary: it makes room by itself, under the VMA's lock \
     (path=speculative, which has none, takes the classic path at once)",
    &["reclaim", "classic", "ordinary"],
);

const RESERVE: Parameter = Parameter::number(
    "reserve",
    "pages kept for emergencies: the watermark min",
    0,
    1 << 20,
    64,
);

/// How what is unmapped is taken away from those who may be using it.
const SHOOTDOWN: Parameter = Parameter::choice(
    "shootdown",
    "what unmapping waits for: a grace period, or that other CPUs have flushed, and how they are told to; \
     hypercall falls back to ipi at CPL 3",
    &["rcu", "ipi", "pv", "hypercall"],
);

/// What workloads over address spaces count: [`OPERATIONS`], [`FAULT_OUTCOMES`], what the tables took
/// whenever somebody looked, and their shootdowns.
const SPACE_COUNTERS: [Counter; FAULT_OUTCOMES.len() + 17] = space_counters();

const fn space_counters<const N: usize>() -> [Counter; N] {
    let mut counters = [OPERATIONS; N];
    let mut index = 0;
    while index < FAULT_OUTCOMES.len() {
        counters[1 + index] = FAULT_OUTCOMES[index];
        index += 1;
    }
    counters[TABLE_SAMPLES] = Counter::new("table-samples", "times that the tables were looked at");
    counters[TABLE_SAMPLES + 1] = Counter::new("table-pages", "pages of tables, summed over these");
    counters[TABLE_SAMPLES + 2] = Counter::new("tables", "tables in use, summed likewise");
    counters[TABLE_SAMPLES + 3] = Counter::new("pending-tables", "freed tables, summed likewise");
    counters[TABLE_SAMPLES + 4] = Counter::new("wasted-bytes", "bytes wasted, summed likewise");
    counters[CHANGES] = Counter::new("changes", "mappings made and taken away again");
    counters[TABLES_REUSED] = Counter::new("tables-reused", "tables given out from pages in use");
    counters[TABLES_REUSED + 1] = Counter::new(
        "reused-beside-pending",
        "those of them beside a freed table whose grace period was not over",
    );
    counters[SHOTS] = Counter::new("shootdowns", "shootdowns, one for each change");
    counters[SHOTS + 1] = Counter::new("shot-pages", "pages shot down by these");
    counters[SHOTS + 2] = Counter::new("asked", "answers that they waited for");
    counters[SHOTS + 3] = Counter::new("spared-lazy", "CPUs left alone: they were lazy");
    counters[SHOTS + 4] = Counter::new("spared-notes", "vCPUs left a note: they did not run");
    counters[SHOTS + 5] = Counter::new(
        "hypercalls-refused",
        "shootdowns that sent single interrupts instead: all at CPL 3, or KVM did not take it",
    );
    counters[SPLITS] = Counter::new("splits", "mappings of which a change made two");
    counters[SPLITS + 1] = Counter::new("merges", "mappings that became one with their neighbour");
    counters
}

/// The first of the counters that say what page tables took, five in all: see their texts.
pub const TABLE_SAMPLES: usize = 1 + FAULT_OUTCOMES.len();

/// The counter of changes of mappings.
pub const CHANGES: usize = TABLE_SAMPLES + 5;

/// The counters of tables that were given out from pages in use, two in all: see their texts.
pub const TABLES_REUSED: usize = CHANGES + 1;

/// The counters of shootdowns, six in all: see their texts.
pub const SHOTS: usize = TABLES_REUSED + 2;

/// The counters of mappings split and merged, two in all: see their texts.
pub const SPLITS: usize = SHOTS + 6;

/// The counter of [`WorkloadId::Mmap1`](super::WorkloadId::Mmap1) alone: regions that were moved.
pub const MOVES: usize = SPACE_COUNTERS.len();

/// As [`MOVES`]: writes that a mapping's protection refused.
pub const DENIED: usize = MOVES + 1;

const MMAP1_COUNTERS: [Counter; DENIED + 1] = {
    let mut counters: [Counter; DENIED + 1] = space_counters();
    counters[MOVES] = Counter::new(
        "moved",
        "regions moved with their pages before they were unmapped",
    );
    counters[DENIED] = Counter::new("denied", "writes refused where a read was then allowed");
    counters
};

pub(super) const MMAP1: Description = Description {
    name: "mmap1",
    about: "threads map and unmap regions while others access them, as LTP's mmap1 does",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        SHOOTDOWN,
        Parameter::number("accessors", "accessors for each mapper", 1, 16, 1),
        Parameter::number("pages", "pages of a region", 1, 1024, 16),
        Parameter::choice(
            "remap",
            "whether each region is moved, with its pages, before it is unmapped",
            &["off", "on"],
        ),
        Parameter::choice(
            "protect",
            "whether the middle of each third region is made read-only for a while, and of each third unmapped and \
             mapped again: mappings are split, and merged",
            &["off", "on"],
        ),
    ],
    counters: &MMAP1_COUNTERS,
};

pub(super) const EXIT: Description = Description {
    name: "exit",
    about: "address spaces are made, populated and torn down",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        SHOOTDOWN,
        THREADS,
        Parameter::number("regions", "regions of a space, apart", 1, 32, 4),
        Parameter::number("pages", "pages of a region, all accessed", 1, 1024, 8),
        Parameter::choice(
            "free",
            "whether tables are freed by callbacks, or an exit waits for a grace period",
            &["deferred", "wait"],
        ),
    ],
    counters: &SPACE_COUNTERS,
};

pub(super) const FAULT: Description = Description {
    name: "fault",
    about: "threads fault pages in, each in a mapping of its own of one address space",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        SHOOTDOWN,
        Parameter::number("threads", "threads in all; 0: one on each CPU", 0, 64, 0),
        Parameter::number(
            "pages",
            "pages faulted in before they are given back",
            1,
            4096,
            64,
        ),
        Parameter::number("mappers", "threads that map and unmap beside them", 0, 8, 0),
    ],
    counters: &SPACE_COUNTERS,
};

/// The first of the counters of [`WorkloadId::Pressure`](super::WorkloadId::Pressure) alone, eight in
/// all: see their texts.
pub const PRESSURE_COUNTERS: usize = SPACE_COUNTERS.len();

const PRESSURE_ALL: [Counter; PRESSURE_COUNTERS + 8] = {
    let mut counters: [Counter; PRESSURE_COUNTERS + 8] = space_counters();
    let own = [
        Counter::new("allocations", "pages that ordinary allocations gave"),
        Counter::new("stalled", "those of them that had to make room first"),
        Counter::new("rounds", "times that ordinary allocations made room"),
        Counter::new("freed", "pages that ordinary allocations made free so"),
        Counter::new("failed", "ordinary allocations for which no page was left"),
        Counter::new("wakes", "times that the background reclaimer was wanted"),
        Counter::new("background", "pages that it made free"),
        Counter::new("evicted", "pages taken away from address spaces"),
    ];
    let mut index = 0;
    while index < own.len() {
        counters[PRESSURE_COUNTERS + index] = own[index];
        index += 1;
    }
    counters
};

pub(super) const PRESSURE: Description = Description {
    name: "pressure",
    about: "page faults take the memory that ordinary allocations want, until it is reclaimed",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        SHOOTDOWN,
        Parameter::number("faulters", "threads that fault pages in", 0, 16, 2),
        Parameter::number(
            "allocators",
            "threads that allocate pages as the kernel does",
            0,
            16,
            2,
        ),
        Parameter::number(
            "demand",
            "memory that the faulters want together, in percent of what is free",
            1,
            1000,
            150,
        ),
        Parameter::number("held", "pages that each allocator holds", 1, 256, 64),
        Parameter::number(
            "burst",
            "accesses of a faulter before it rests for a tick; 0: it never does",
            0,
            1 << 20,
            0,
        ),
    ],
    counters: &PRESSURE_ALL,
};
