//! The command line: what `--help` teaches, and nothing else.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use underfoot::claims::command::ClaimsRequest;
use underfoot::claims::format::Format;
use underfoot::command::RunRequest;
use underfoot::settings::{Key, Settings};
use underfoot::torture::TortureRequest;

const EXAMPLES: &str = "\
Examples:
  underfoot run                                  the main job: ten seconds, with its control
  underfoot run --duration 3s --target slab      only slab pages, shorter
  underfoot run --batch 32 --rate 5000           32 pages a window, 5000 pages a second
  underfoot run --experiment runs/X/experiment.toml    the same again
  underfoot claims Q1b                           the experiment that answers a question
  underfoot torture --duration 10m               every way to move pages, with faults at random
  underfoot doctor                               what this host lacks, and the remedy

Exit status: 0 done and sound; 1 the run failed or was interrupted; 2 wrong usage;
3 the watchdog ended it; 4 the host lacks something.";

const RUN_EXAMPLES: &str = "\
Examples:
  underfoot run --seed 42 --out runs/mine --json -
  underfoot run --affinity vcpu=2-5,mover=6 --sched mover=fifo:10
  underfoot run --strategy stop-world --backend copy --wait block
  underfoot run --mover guest                    the guest moves its pages itself
  underfoot run --variant busted-no-unmap        must fail: proves that the check works

Times take a unit (ns, us, ms, s, m), sizes too (KiB, MiB, GiB, TiB). Names: `underfoot list`.
Flags that describe the guest, the moving, the measuring and the host are also keys of an
experiment file; flags win.";

const CLAIMS_EXAMPLES: &str = "\
Examples:
  underfoot claims                               the questions, and which can be answered today
  underfoot claims Q1b                           the runs of one, and what they say
  underfoot claims Q1b --format ktap             the same for a kernel's test runner

Exit status: 0 every answer is valid; 1 some are not; 2 wrong usage, such as an unknown question;
4 the host lacks something.";

const TORTURE_EXAMPLES: &str = "\
Examples:
  underfoot torture --duration 10m --cpus 4      the long walk; visits take about a second each
  underfoot torture --seed 42 --json -           the same choices again, and JSON
  underfoot torture --variant busted-no-unmap    must fail: proves that a lost update is found

A duration in which some cell had no hits fails, and the last line says what would be enough. The
choices repeat with the seed, --cpus and --memory; when threads meet does not, so that a rare error
may need more than one attempt. A visit that failed leaves a run directory, and the command that
repeats it is printed.

Exit status: 0 every cell had hits and nothing was found wrong; 1 something was, or it was
interrupted; 2 wrong usage; 3 the watchdog ended a visit; 4 the host lacks something.";

/// Moves a running guest kernel's pages behind its back and measures what it feels.
///
/// Boots a tiny SMP kernel on KVM, moves its pages (text, stacks, page tables, slab, ...) to other
/// physical frames while it runs, and checks that it never notices anything but the time.
#[derive(Debug, Parser)]
#[command(name = "underfoot", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Boot the guest, move its pages, measure, and write a run directory.
    ///
    /// First the control phase, in which nothing moves, then the moving phase; the summary puts the
    /// two side by side.
    #[command(after_help = RUN_EXAMPLES, args_override_self = true)]
    Run(Box<RunArgs>),
    /// Run the experiments that answer the project's questions; without one, list them all.
    ///
    /// Each has a control that must be clean, deliberately wrong forms that a checker must catch, and
    /// a criterion that was written down beforehand; where one of these fails, the answer is not
    /// valid.
    #[command(after_help = CLAIMS_EXAMPLES, args_override_self = true)]
    Claims(ClaimsArgs),
    /// Move pages in every sound way, with faults at random, until an update is lost.
    ///
    /// Walks through the table of sound combinations, on small and on huge pages: each visit boots a
    /// fresh VM with a workload, page kinds, a batch and movers chosen by the seed, and lets pages move
    /// while migrations abort, movers pause and vCPUs are held. Prints the pages moved in each cell of
    /// the table, and stops at the first thing found wrong.
    #[command(after_help = TORTURE_EXAMPLES, args_override_self = true)]
    Torture(TortureArgs),
    /// Say what this host can do, and how to mend what it can't.
    Doctor {
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Name workloads with their parameters, strategies, backends, wait policies, page kinds, variants and combinations.
    List {
        /// Write JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Export the embedded guest kernel for another VMM.
    ///
    /// It boots by PVH; without underfoot around it, it runs its self-test and leaves through the
    /// isa-debug-exit port 0xf4 (status 1 is a pass):
    ///
    ///   qemu-system-x86_64 -accel tcg -smp 2 -nographic -device
    ///   isa-debug-exit,iobase=0xf4,iosize=4 -kernel FILE
    #[command(verbatim_doc_comment)]
    Guest {
        /// Where to write the ELF file. A file that exists is replaced.
        #[arg(long, value_name = "FILE")]
        export: PathBuf,
    },
}

/// The flags of `claims`.
#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// The questions to answer; without one, all are listed
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Where the runs go; must not exist [default: a new directory under runs/]
    #[arg(long, value_name = "DIR", requires = "ids")]
    out: Option<PathBuf>,
    /// Where the JSON goes as well; - is standard output. A file that exists is replaced
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What is written to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormatName,
    /// Seed of every run [default: drawn for each, and in its results]
    #[arg(long, value_name = "N", requires = "ids", allow_hyphen_values = true)]
    seed: Option<String>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FormatName {
    /// For people.
    Text,
    /// For programs: schema underfoot.claims/1.
    Json,
    /// The kernel's test anything protocol.
    Ktap,
}

impl ClaimsArgs {
    /// What was asked for.
    pub fn into_request(self) -> ClaimsRequest {
        ClaimsRequest {
            ids: self.ids,
            out: self.out,
            json: self.json,
            format: match self.format {
                FormatName::Text => Format::Text,
                FormatName::Json => Format::Json,
                FormatName::Ktap => Format::Ktap,
            },
            seed: self.seed,
        }
    }
}

/// The flags of `torture`.
#[derive(Debug, Args)]
pub struct TortureArgs {
    /// How long it takes; half a minute or more visits every cell on most hosts [default: 60s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    duration: Option<String>,
    /// Seed of every random choice [default: drawn and printed]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    /// vCPUs, 1 to 64 [default: the host's CPUs]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpus: Option<String>,
    /// Guest memory, 16MiB or more [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A deliberately wrong form of the engine that must be caught [default: none]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Where the results of a visit that fails go; must not exist [default: a new directory under
    /// runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the JSON goes as well; - is standard output. A file that exists is replaced
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl TortureArgs {
    /// What was asked for, not yet understood.
    pub fn into_request(self) -> TortureRequest {
        TortureRequest {
            settings: settings([
                (Key::Duration, self.duration),
                (Key::Seed, self.seed),
                (Key::Cpus, self.cpus),
                (Key::Memory, self.memory),
                (Key::Variant, self.variant),
            ]),
            out: self.out,
            json: self.json,
        }
    }
}

/// The flags that were given.
fn settings<const N: usize>(flags: [(Key, Option<String>); N]) -> Settings {
    let mut settings = Settings::default();
    for (key, value) in flags {
        if let Some(value) = value {
            settings.set_flag(key, value);
        }
    }
    settings
}

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
    /// NUMA nodes or into huge pages), auto (what suits the strategy) [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Moving")]
    backend: Option<String>,
    /// What a vCPU does that meets a window: halt, block, spin, yield [default: halt]
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
    /// One pool of frames of 4KiB for movers and faults, as many as said (1024) or of a size (4MiB), with watermarks:
    /// FRAMES[,reserve=N][,min=N][,low=N][,high=N][,node=N] [default: no pool; shares of the size]
    #[arg(
        long,
        value_name = "FRAMES",
        help_heading = "Moving",
        allow_hyphen_values = true
    )]
    frames: Option<String>,
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

    /// Host CPUs by role, such as vcpu=2-5,mover=6
    #[arg(long, value_name = "ROLES", help_heading = "Host")]
    affinity: Option<String>,
    /// Scheduling by role, such as vcpu=other:0,mover=fifo:10; where vCPUs and movers together are
    /// more than the CPUs, movers are at other:-10 unless this says otherwise
    #[arg(long, value_name = "ROLES", help_heading = "Host")]
    sched: Option<String>,

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
            (Key::Uffds, self.uffds),
            (Key::FaultLock, self.fault_lock),
            (Key::Replug, self.replug),
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
        ]);
        RunRequest {
            settings,
            experiment: self.experiment,
            out: self.out,
            json: self.json,
        }
    }
}

#[cfg(test)]
mod tests;
