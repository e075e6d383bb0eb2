//! The flags of `sweep`.

use clap::Args;
use std::path::PathBuf;
use underfoot::sweep::SweepRequest;

pub(super) const SWEEP_EXAMPLES: &str = "\
A sweep file:
  repeat = 3                                     each cell three times
  [base]                                         keys of an experiment file, for all cells
  workload = \"mmap1\"
  duration = \"5s\"
  [matrix]                                       each value with each of the others
  strategy = [\"unmap-copy\", \"protect-copy\"]
  cpus = [1, 2, 4]
  [[zip]]                                        values that go together
  batch = [1, 32]
  rate = [\"max\", \"10000\"]

Examples:
  underfoot sweep x.toml --dry-run               which runs, in which order, and how long
  underfoot sweep x.toml                         into runs/x; the same again goes on after an end
  underfoot sweep x.toml --shard 2/4             the second of four parts, for another host
  underfoot sweep --merge a b c d --out all      the parts put together
  sbatch --array=1-4 --wrap 'underfoot sweep x.toml'    parts of a Slurm array
  underfoot report runs/x                        its page: heat maps and curves

Cells run in turns, in a new order each time, so that a drift of the host meets all alike. docs/sweep.md says
more.

Exit status: 0 all runs of the shard are there and sound, or what was merged is sound; 1 some are
not, or it was interrupted; 2 wrong usage, such as a cell that is no experiment; 4 the host lacks
something that a cell wants; the others were run.";

/// The flags of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The sweep file
    #[arg(
        value_name = "FILE",
        required_unless_present = "merge",
        conflicts_with = "merge"
    )]
    file: Option<PathBuf>,
    /// Where its runs lie; the same sweep goes on where it was ended [default: runs/NAME, after the file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Do one part of several only, such as 1/4 [default: that of the task of a Slurm array, or all]
    #[arg(
        long,
        value_name = "I/N",
        conflicts_with = "merge",
        allow_hyphen_values = true
    )]
    shard: Option<String>,
    /// Do those runs again, too, that did not end well
    #[arg(long, conflicts_with = "merge")]
    again: bool,
    /// Say which runs are still to be done, and do none
    #[arg(long, conflicts_with = "merge")]
    dry_run: bool,
    /// Put the runs of these sweeps, parts of one, together in --out
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "out")]
    merge: Vec<PathBuf>,
}

impl SweepArgs {
    /// What was asked for.
    pub fn into_request(self) -> SweepRequest {
        match (self.file, self.out) {
            (Some(file), out) => SweepRequest::Run {
                file,
                out,
                shard: self.shard,
                again: self.again,
                dry_run: self.dry_run,
            },
            // clap asks for --out with --merge, and for a file without.
            (None, out) => SweepRequest::Merge {
                from: self.merge,
                out: out.unwrap_or_default(),
            },
        }
    }
}
