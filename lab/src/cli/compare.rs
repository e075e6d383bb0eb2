//! The flags of `compare`.

use clap::Args;
use std::path::PathBuf;
use underfoot::compare::CompareRequest;
use underfoot::compare::format::Format;

pub(super) const COMPARE_EXAMPLES: &str = "\
Examples:
  underfoot compare runs/before runs/after       percentiles side by side, and verdicts
  underfoot compare runs/a runs/b --vary strategy    the strategy is what is compared
  underfoot compare base new --fail-above 10%    for CI: status 5 if something got 10 % slower
  underfoot compare a b c --format md            each against the first, for a pull request

Verdicts: better, worse, mixed (some percentiles lower, some higher), no difference seen, too few
samples. What differs in the control phase, in which nothing moves, is not the mover's doing.
docs/report.md says how they come about.

Exit status: 0 compared; 1 nothing could be judged (--fail-above only); 2 wrong usage, no run, or
runs that cannot be compared; 5 something got worse by more than --fail-above.";

/// The flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The run that the others are held against, and the others: run directories, or files that
    /// `run --json` wrote
    #[arg(value_name = "DIR", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Settings that may differ, with commas between them; other runs are refused unless all that
    /// matters is the same. Seeds, durations and the host's kernel always may
    #[arg(long, value_name = "KEYS")]
    vary: Vec<String>,
    /// Compare whatever differs, and runs that failed or ended early
    #[arg(long)]
    anyway: bool,
    /// Exit with status 5 if a percentile of the moving phase got worse by more, such as 10%
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    fail_above: Option<String>,
    /// Changes by less do not count, unless --fail-above is less [default: 5%]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    tolerance: Option<String>,
    /// Seed of the resampling [default: 1, so that the same runs get the same verdicts]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    /// Tell every percentile of histograms without a difference too
    #[arg(long)]
    all: bool,
    /// What is written to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: CompareFormat,
    /// Where the JSON goes as well; - is standard output. A file that exists is replaced
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How a comparison is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CompareFormat {
    /// For a terminal.
    Text,
    /// Markdown with tables.
    Md,
    /// For programs: schema underfoot.compare/1.
    Json,
}

impl CompareArgs {
    /// What was asked for, not yet understood.
    pub fn into_request(self) -> CompareRequest {
        CompareRequest {
            runs: self.runs,
            vary: self.vary,
            anyway: self.anyway,
            fail_above: self.fail_above,
            tolerance: self.tolerance,
            seed: self.seed,
            all: self.all,
            format: match self.format {
                CompareFormat::Text => Format::Text,
                CompareFormat::Md => Format::Markdown,
                CompareFormat::Json => Format::Json,
            },
            json: self.json,
        }
    }
}
