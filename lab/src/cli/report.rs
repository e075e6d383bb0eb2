//! The flags of `report`.

use clap::Args;
use std::path::PathBuf;
use underfoot::report::{ReportFormat, ReportRequest};

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  underfoot report runs/X                        writes runs/X/report.html
  underfoot report runs/X runs/Y                 a page in each of them
  underfoot report runs/X runs/Y --out both.html    one page, the curves of both over each other
  underfoot report runs/X --format md            plain text for a mail, on standard output
  underfoot report runs/* --format csv --out all.csv
  underfoot report runs/X --format trace --out x.json    the longest stalls, for ui.perfetto.dev

A page is one file: it loads nothing, runs no script, and can be sent to others. A file that exists
is replaced only if it is a report. docs/report.md says how to read one.

Exit status: 0 written; 1 no room; 2 wrong usage, or no run.";

/// The flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run directories; with --out, files that `run --json` wrote will do
    #[arg(value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,
    /// What is written
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    format: FormatOfReport,
    /// One report on all of the runs goes there; - is standard output [default: a page into each
    /// directory; md, csv and json to standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is no report
    #[arg(long)]
    force: bool,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FormatOfReport {
    /// A page that stands alone.
    Html,
    /// Plain text of 72 columns, for mail; Markdown too.
    Md,
    /// A line for each histogram.
    Csv,
    /// Percentiles and curves: schema underfoot.report/1.
    Json,
    /// The longest stalls as a trace that Perfetto and chrome://tracing open.
    Trace,
}

impl ReportArgs {
    /// What was asked for.
    pub fn into_request(self) -> ReportRequest {
        ReportRequest {
            runs: self.runs,
            format: match self.format {
                FormatOfReport::Html => ReportFormat::Html,
                FormatOfReport::Md => ReportFormat::Markdown,
                FormatOfReport::Csv => ReportFormat::Csv,
                FormatOfReport::Json => ReportFormat::Json,
                FormatOfReport::Trace => ReportFormat::Trace,
            },
            out: self.out,
            force: self.force,
        }
    }
}
