//! `underfoot report`: what a run directory holds, as a page that stands alone, or as text, CSV or JSON.
//!
//! The way of it: [`StoredRun`](crate::rundir::StoredRun) → `page` out of `section`s and `chart`s, `text` or
//! `table` → a file that is replaced only where it is a report (`target`). Figures are SVG in the page: nothing is
//! loaded and no script runs.

mod attribution;
mod chart;
pub mod command;
mod facts;
mod grid;
mod markup;
mod outliers;
mod page;
mod scale;
mod section;
mod several;
mod sweep;
mod table;
mod target;
mod text;
mod trace;

pub use command::{ReportFormat, ReportRequest, report_command};
