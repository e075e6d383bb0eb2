//! The flags of `run`.

use super::settings;
use clap::Args;
use std::path::PathBuf;
use underfoot::command::RunRequest;
use underfoot::settings::Key;

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  underfoot run --seed 42 --out runs/mine --json -
  underfoot run --affinity vcpu=2-5,mover=6 --sched mover=fifo:10
  underfoot run --strategy stop-world --backend copy --wait block
  underfoot run --mover guest                    the guest moves its pages itself
  underfoot run --variant busted-no-unmap        must fail: proves that the check works

Times take a unit (ns, us, ms, s, m), sizes too (KiB, MiB, GiB, TiB). Names: `underfoot list`.
Flags that describe the guest, the moving, the measuring and the host are also keys of an
experiment file; flags win.";

/// The flags of `run`. Values are text here: flags and experiment files are understood in one place.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What the guest does [default: walk]
    #[arg(long, value_name = "NAME", help_heading = "Guest")]
    workload: Option<String>,
    /// What the workload is told, as NAME=VALUE with commas between, or the flag more than once; see
    /// `list`. Replaces all of those in an experiment file
    #[arg(
        long,
        visible_alias = "parameter",
        value_name = "PARAMETERS",
        help_heading = "Guest"
    )]
    parameters: Vec<String>,
    /// vCPUs, 1 to 64 [default: the host's CPUs]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Guest",
        allow_hyphen_values = true
    )]
    cpus: Option<String>,
    /// Guest memory, 16MiB or more [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Guest")]
    memory: Option<String>,
    /// Let transparent huge pages back guest memory [default: false]
    #[arg(long, value_name = "BOOL", help_heading = "Guest",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    hugepages: Option<String>,
    /// Privilege level of the guest kernel: auto, 0 or 3 [default: auto]
    #[arg(long, value_name = "LEVEL", help_heading = "Guest")]
    cpl: Option<String>,
    /// Another PVH image than the embedded one
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    kernel: Option<String>,

    /// Who moves the pages: host, guest; the guest takes only target, rate and variant of what
    /// follows [default: host]
    #[arg(long, value_name = "WHO", help_heading = "Moving")]
    mover: Option<String>,
    /// When what is copied: none, unmap-copy, stop-world, protect-copy, transactional,
    /// lazy [default: unmap-copy]
    #[arg(long, value_name = "NAME", help_heading = "Moving")]
    strategy: Option<String>,
    /// How the new frame arrives: move, copy, remap (guest memory in a memfd), kernel (its own moves, between
    /// NUMA nodes or into huge pages), memslot (whole slots of KVM's, with stop-world), auto (what suits the
    /// strategy) [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Moving")]
    backend: Option<String>,
    /// What a vCPU does that meets a window: halt, block, spin, yield, async [default: halt]
    #[arg(long, value_name = "NAME", help_heading = "Moving")]
    wait: Option<String>,
    /// Page kinds that move, with commas between them [default: all]
    #[arg(long, value_name = "KINDS", help_heading = "Moving")]
    target: Option<String>,
    /// Pages per second, or max [default: max]
    #[arg(
        long,
        value_name = "RATE",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    rate: Option<String>,
    /// Contiguous pages per window, 1 to 512 [default: 1]
    #[arg(
        long,
        value_name = "PAGES",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    batch: Option<String>,
    /// userfaultfds that guest memory is shared among, each with a thread that serves faults, 1 to 64 [default: 1]
    #[arg(
        long,
        value_name = "COUNT",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    uffds: Option<String>,
    /// How a fault keeps its block from being unplugged: region-lock, table-lock, sequence [default: region-lock]
    #[arg(long, value_name = "WAY", help_heading = "Moving")]
    fault_lock: Option<String>,
    /// Blocks of 2MiB that are unplugged from the engine and plugged again per second, 1 to 10000 [default: none]
    #[arg(
        long,
        value_name = "BLOCKS",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    replug: Option<String>,
    /// The largest slot that KVM knows guest memory by, 2MiB or more, where slots are moved (--backend memslot)
    /// [default: 16MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Moving")]
    slot_size: Option<String>,
    /// One pool of frames of 4KiB for movers and faults, as many as said (1024) or of a size (4MiB), with watermarks:
    /// FRAMES[,reserve=N][,min=N][,low=N][,high=N][,node=N] [default: no pool; shares of the size]
    #[arg(
        long,
        value_name = "FRAMES",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    frames: Option<String>,
    /// When old frames of that pool may be used again: flush, grace (once a grace period of the guest has passed as
    /// well) [default: flush]
    #[arg(long, value_name = "WHEN", help_heading = "Moving")]
    frames_after: Option<String>,
    /// When new frames are allocated: ahead, window (remap only: while the page is being moved) [default: ahead]
    #[arg(long, value_name = "WHEN", help_heading = "Moving")]
    allocate: Option<String>,
    /// How large the pages are that move: 4KiB, 2MiB (whole, with --hugepages) [default: 4KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Moving")]
    page_size: Option<String>,
    /// Threads that move pages [default: 1]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    movers: Option<String>,
    /// The longest window, 1us or more: one that is open for longer before its new frames are mapped is given
    /// up, and its pages are tried again later [default: none]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    max_window: Option<String>,
    /// How many frame numbers are compared: sample, full [default: sample]
    #[arg(long, value_name = "HOW", help_heading = "Moving")]
    verify: Option<String>,
    /// A deliberately wrong form that a checker must catch [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Moving")]
    variant: Option<String>,
    /// Abort migrations, pause movers and hold vCPUs at random, as `torture` does [default: false]
    #[arg(long, value_name = "BOOL", help_heading = "Moving",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    torment: Option<String>,

    /// Length of control and moving phase together [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    duration: Option<String>,
    /// Share of the duration in which nothing moves, 0% to 100% [default: 20%]
    #[arg(
        long,
        value_name = "SHARE",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    control: Option<String>,
    /// Time before measuring, not part of the duration [default: 500ms]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    warmup: Option<String>,
    /// Accesses that take longer are stalls [default: 2us]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    stall_threshold: Option<String>,
    /// Period of the paced probe [default: 100us]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    probe_period: Option<String>,
    /// Seed of every random choice [default: drawn and printed]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Measuring",
        allow_hyphen_values = true
    )]
    seed: Option<String>,

    /// Host CPUs by role, such as vcpu=2-5,mover=6; the role antagonist is where the vCPUs are unless this says
    /// otherwise
    #[arg(long, value_name = "ROLES", help_heading = "Host")]
    affinity: Option<String>,
    /// Scheduling by role, such as vcpu=other:0:3ms,mover=fifo:10, with a nice value and a slice or with a priority; where vCPUs and movers together are
    /// more than the CPUs, movers are at other:-10 unless this says otherwise
    #[arg(long, value_name = "ROLES", help_heading = "Host")]
    sched: Option<String>,
    /// vCPUs that share each host CPU, by affinity: vCPU i is bound to the CPU i / N of those that this process may
    /// use [default: none is bound]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Host",
        allow_hyphen_values = true
    )]
    overcommit: Option<String>,
    /// Threads that take CPU time on purpose, in control and moving phase alike: N[:DUTY[:NICE]], 1 to 64 of them, each
    /// wanting a CPU DUTY percent of the time, 1 to 100 [default: none; a duty of 100]
    #[arg(
        long,
        value_name = "ANTAGONISTS",
        help_heading = "Host",
        allow_hyphen_values = true
    )]
    antagonists: Option<String>,

    /// Take settings from an experiment file; flags win
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    experiment: Option<PathBuf>,
    /// Where the results go; must not exist [default: a new directory under runs/]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    out: Option<PathBuf>,
    /// Where the guest's console goes: to console.log in the results, and with tty to standard error
    /// as well
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "file",
        help_heading = "Results"
    )]
    serial: Serial,
    /// Where the JSON goes as well; - is standard output. A file that exists is replaced
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    json: Option<PathBuf>,
    /// Print a line of JSON on standard output so often, 100ms or more, with what happened since the last
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Results",
        allow_hyphen_values = true
    )]
    interval: Option<String>,
}

/// Where the guest's console goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Serial {
    /// Into the results.
    File,
    /// Into the results and to standard error.
    Tty,
}

impl RunArgs {
    /// Whether the guest's console is to be seen while it runs.
    pub fn shows_console(&self) -> bool {
        self.serial == Serial::Tty
    }

    /// What was asked for, not yet understood.
    pub fn into_request(self) -> RunRequest {
        let settings = settings([
            (Key::Workload, self.workload),
            (
                Key::Parameters,
                (!self.parameters.is_empty()).then(|| self.parameters.join(",")),
            ),
            (Key::Cpus, self.cpus),
            (Key::Memory, self.memory),
            (Key::Hugepages, self.hugepages),
            (Key::Cpl, self.cpl),
            (Key::Kernel, self.kernel),
            (Key::Mover, self.mover),
            (Key::Strategy, self.strategy),
            (Key::Backend, self.backend),
            (Key::Allocate, self.allocate),
            (Key::Wait, self.wait),
            (Key::Target, self.target),
            (Key::Rate, self.rate),
            (Key::Batch, self.batch),
            (Key::Frames, self.frames),
            (Key::FramesAfter, self.frames_after),
            (Key::Uffds, self.uffds),
            (Key::FaultLock, self.fault_lock),
            (Key::Replug, self.replug),
            (Key::SlotSize, self.slot_size),
            (Key::PageSize, self.page_size),
            (Key::Movers, self.movers),
            (Key::MaxWindow, self.max_window),
            (Key::Verify, self.verify),
            (Key::Variant, self.variant),
            (Key::Torment, self.torment),
            (Key::Duration, self.duration),
            (Key::Control, self.control),
            (Key::Warmup, self.warmup),
            (Key::StallThreshold, self.stall_threshold),
            (Key::ProbePeriod, self.probe_period),
            (Key::Seed, self.seed),
            (Key::Affinity, self.affinity),
            (Key::Sched, self.sched),
            (Key::Overcommit, self.overcommit),
            (Key::Antagonists, self.antagonists),
        ]);
        RunRequest {
            settings,
            experiment: self.experiment,
            out: self.out,
            json: self.json,
            interval: self.interval,
        }
    }
}
