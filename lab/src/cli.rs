//! The command line: what `--help` teaches, and nothing else.

mod compare;
mod report;
mod run;
mod sweep;

use clap::{Args, Parser, Subcommand};
use compare::{COMPARE_EXAMPLES, CompareArgs};
use report::{REPORT_EXAMPLES, ReportArgs};
use run::{RUN_EXAMPLES, RunArgs};
use std::path::PathBuf;
use sweep::{SWEEP_EXAMPLES, SweepArgs};
use underfoot::claims::command::ClaimsRequest;
use underfoot::claims::format::Format;
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
  underfoot sweep matrix.toml                    many experiments of one file, and what they come to
  underfoot report runs/X                        a page about it, runs/X/report.html
  underfoot compare runs/X runs/Y                what got better or worse from one to the other
  underfoot doctor                               what this host lacks, and the remedy

Exit status: 0 done and sound; 1 the run failed or was interrupted; 2 wrong usage;
3 the watchdog ended it; 4 the host lacks something; 5 `compare` found worse than allowed.";

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
    /// Write a page about a run: its latencies as curves, control beside moving, and how to repeat it.
    ///
    /// From the run directory alone, as one HTML file that needs neither a network nor a script; or as
    /// text for mail, CSV or JSON.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Run a matrix of experiments, and go on with it after an interruption.
    ///
    /// A file says what all share and what is varied. Runs that are done are not done again, so that a sweep goes on
    /// after an interruption; it can be run by parts on several hosts and put together. `report` draws what it came to.
    #[command(after_help = SWEEP_EXAMPLES)]
    Sweep(SweepArgs),
    /// Hold runs against the first as distributions: which of its latencies got better or worse.
    ///
    /// Puts the percentiles of every histogram that both have side by side, with 95 % bootstrap
    /// intervals for what changed, and a verdict from a permutation test, corrected for many tests.
    /// Runs of another host, workload or way of moving are refused unless that is what is compared.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
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

#[cfg(test)]
mod tests;
