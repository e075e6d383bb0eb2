//! What the guest can run, what each workload can be told, and what it counts.

/// The most parameters that a workload has.
pub const MAX_PARAMETERS: usize = 16;
/// The most counters that a workload has.
pub const MAX_COUNTERS: usize = 40;

/// A number or a choice that a workload can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What the user writes.
    pub name: &'static str,
    /// What it is, in one line, with the unit.
    pub about: &'static str,
    /// Least value allowed.
    pub least: u64,
    /// Greatest value allowed.
    pub most: u64,
    /// Value if the user says nothing.
    pub default: u64,
    /// Names of the values 0, 1, …; empty where the user writes a number.
    pub choices: &'static [&'static str],
}

impl Parameter {
    /// A number.
    #[must_use]
    pub const fn number(
        name: &'static str,
        about: &'static str,
        least: u64,
        most: u64,
        default: u64,
    ) -> Self {
        Self {
            name,
            about,
            least,
            most,
            default,
            choices: &[],
        }
    }

    /// One of `choices`; the first is the default.
    #[must_use]
    pub const fn choice(
        name: &'static str,
        about: &'static str,
        choices: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            about,
            least: 0,
            most: choices.len() as u64 - 1,
            default: 0,
            choices,
        }
    }
}

/// Something that a workload counts, in each recorded phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name in the results.
    pub name: &'static str,
    /// What is counted, in one line.
    pub about: &'static str,
}

impl Counter {
    /// A counter.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about }
    }
}

/// What every workload counts first: index 0 of its counters.
pub const OPERATIONS: Counter = Counter::new("operations", "operations done");

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
    Counter::new("out-of-memory", "faults for which no page was left"),
];

/// What most workloads can be told first.
const THREADS: Parameter = Parameter::number("threads", "threads on each CPU", 1, 4, 2);

/// Which workload the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WorkloadId {
    /// RCU and sequence counts over a dentry-like tree, and touches of every kind of page.
    Walk = 0,
    /// Contended spinlocks.
    Lock = 1,
    /// A pointer chase, bandwidth and arithmetic: the baseline.
    Chase = 2,
    /// Next to nothing.
    Idle = 3,
    /// Pages left to RCU at a chosen rate.
    Churn = 5,
    /// A self-test of RCU.
    Torture = 10,
    /// The locks of the cycle that speculative page faults ran into.
    Order = 11,
    /// Remap and protect storms against readers.
    Shootdown = 4,
    /// Mappers and accessors of the same regions.
    Mmap1 = 20,
    /// Address spaces that come and go.
    Exit = 21,
    /// Page faults of many threads in one address space.
    Fault = 22,
}

/// One workload, described.
struct Description {
    name: &'static str,
    about: &'static str,
    parameters: &'static [Parameter],
    counters: &'static [Counter],
}

const SHOOTDOWN: Description = Description {
    name: "shootdown",
    about: "TLB shootdowns: storms of remaps and protections against readers",
    parameters: &[
        Parameter::choice(
            "way",
            "how other CPUs are made to flush",
            &["ipi", "pv", "hypercall"],
        ),
        Parameter::number("pages", "pages in one shootdown", 1, 64, 8),
        Parameter::number("initiators", "threads that shoot, CPU by CPU", 1, 16, 2),
        Parameter::number("readers", "threads that read, on each CPU", 1, 4, 1),
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
            "shootdowns whose hypercall the host did not take",
        ),
        Counter::new("full", "shootdowns of the whole space"),
        Counter::new("reads", "reads through test pages"),
    ],
};

impl WorkloadId {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Walk,
        Self::Lock,
        Self::Chase,
        Self::Idle,
        Self::Churn,
        Self::Torture,
        Self::Order,
        Self::Shootdown,
        Self::Mmap1,
        Self::Exit,
        Self::Fault,
    ];

    /// The workload with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| *id as u32 == number)
    }

    /// What the user writes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// What it does, in one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        self.description().about
    }

    /// What it can be told, at most [`MAX_PARAMETERS`]; the order is that of
    /// [`Header::parameters`](crate::Header::parameters).
    #[must_use]
    pub const fn parameters(self) -> &'static [Parameter] {
        self.description().parameters
    }

    /// What it counts, at most [`MAX_COUNTERS`]; the first is [`OPERATIONS`]. The order is that of
    /// [`VcpuArea::counters`](crate::VcpuArea::counters).
    #[must_use]
    pub const fn counters(self) -> &'static [Counter] {
        self.description().counters
    }

    const fn description(self) -> Description {
        match self {
            Self::Walk => WALK,
            Self::Lock => LOCK,
            Self::Chase => CHASE,
            Self::Idle => IDLE,
            Self::Churn => CHURN,
            Self::Torture => TORTURE,
            Self::Order => ORDER,
            Self::Shootdown => SHOOTDOWN,
            Self::Mmap1 => MMAP1,
            Self::Exit => EXIT,
            Self::Fault => FAULT,
        }
    }
}

const WALK: Description = Description {
    name: "walk",
    about: "RCU and sequence counts over a dentry-like tree, and every kind of page",
    parameters: &[],
    counters: &[OPERATIONS],
};

const LOCK: Description = Description {
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
    ],
    counters: &[OPERATIONS],
};

const CHASE: Description = Description {
    name: "chase",
    about: "a pointer chase, memory bandwidth and arithmetic: the baseline",
    parameters: &[
        THREADS,
        Parameter::number("pages", "pages of the ring", 2, 1 << 20, 256),
    ],
    counters: &[
        OPERATIONS,
        Counter::new("hops", "pages visited by the chase"),
        Counter::new("bytes", "bytes written and read back"),
    ],
};

const IDLE: Description = Description {
    name: "idle",
    about: "one thread that wakes ten times a second: what a guest costs that does nothing",
    parameters: &[],
    counters: &[OPERATIONS],
};

const CHURN: Description = Description {
    name: "churn",
    about: "pages are left to RCU at a chosen rate, while readers hold grace periods up",
    parameters: &[
        Parameter::choice(
            "kind",
            "kind of RCU",
            &["classic", "preemptible", "sleepable"],
        ),
        Parameter::number(
            "rate",
            "pages freed by each CPU per second; 0: as many as it can",
            0,
            1_000_000,
            10_000,
        ),
        Parameter::number("readers", "readers on each CPU", 0, 4, 1),
        Parameter::number("hold-us", "length of a read section, us", 0, 100_000, 100),
    ],
    counters: &[
        OPERATIONS,
        Counter::new("starved", "pages that were asked for in vain"),
        Counter::new("sections", "read sections"),
        Counter::new(
            "callbacks_waiting_max",
            "most callbacks that waited on a CPU at one time",
        ),
        Counter::new(
            "bytes_waiting_max",
            "most bytes that waited on a CPU at one time",
        ),
    ],
};

const TORTURE: Description = Description {
    name: "rcu-torture",
    about: "readers of objects that age by a stage with each grace period: none may be old",
    parameters: &[
        Parameter::choice(
            "kind",
            "kind of RCU",
            &["classic", "preemptible", "sleepable"],
        ),
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
        Counter::new(
            "callbacks_waiting_max",
            "most callbacks that waited on a CPU at one time",
        ),
        Counter::new(
            "bytes_waiting_max",
            "most bytes that waited on a CPU at one time",
        ),
    ],
};

const ORDER: Description = Description {
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
    ],
};

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
    "what a fast path does that is given no page",
    &["reclaim", "classic"],
);

const RESERVE: Parameter = Parameter::number(
    "reserve",
    "pages kept for emergencies: the watermark min",
    0,
    1 << 20,
    64,
);

const LOCKDEP: Parameter = Parameter::choice(
    "lockdep",
    "whether the lock-order checker watches",
    &["off", "on"],
);

/// What workloads over address spaces count: [`OPERATIONS`], [`FAULT_OUTCOMES`], and what the tables
/// took whenever somebody looked.
const SPACE_COUNTERS: [Counter; FAULT_OUTCOMES.len() + 9] = {
    let mut counters = [OPERATIONS; FAULT_OUTCOMES.len() + 9];
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
    counters
};

/// The first of the counters that say what page tables took, five in all: see their texts.
pub const TABLE_SAMPLES: usize = 1 + FAULT_OUTCOMES.len();

/// The counter of changes of mappings.
pub const CHANGES: usize = TABLE_SAMPLES + 5;

/// The counters of tables that were given out from pages in use, two in all: see their texts.
pub const TABLES_REUSED: usize = CHANGES + 1;

const MMAP1: Description = Description {
    name: "mmap1",
    about: "threads map and unmap regions while others access them, as LTP's mmap1 does",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        Parameter::number("accessors", "accessors for each mapper", 1, 16, 1),
        Parameter::number("pages", "pages of a region", 1, 1024, 16),
    ],
    counters: &SPACE_COUNTERS,
};

const EXIT: Description = Description {
    name: "exit",
    about: "address spaces are made, populated and torn down",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
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

const FAULT: Description = Description {
    name: "fault",
    about: "threads fault pages in, each in a mapping of its own of one address space",
    parameters: &[
        TABLES,
        PATH,
        FALLBACK,
        RESERVE,
        LOCKDEP,
        Parameter::number("threads", "threads in all; 0: one on each CPU", 0, 52, 0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_fit_the_contract() {
        for id in WorkloadId::ALL {
            assert_eq!(WorkloadId::from_number(*id as u32), Some(*id));
            assert!(id.parameters().len() <= MAX_PARAMETERS, "{}", id.name());
            assert!(id.counters().len() <= MAX_COUNTERS, "{}", id.name());
            assert_eq!(id.counters()[0], OPERATIONS, "{}", id.name());
            for parameter in id.parameters() {
                let range = parameter.least..=parameter.most;
                assert!(range.contains(&parameter.default), "{}", parameter.name);
                assert!(
                    parameter.choices.is_empty()
                        || parameter.choices.len() as u64 == parameter.most + 1
                );
            }
        }
    }
}
