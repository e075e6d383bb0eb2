//! Validated values: what a user may write, and nothing else.
//!
//! Each type parses from what the command line and experiment files carry, and its `Display` writes
//! the same value back so that parsing it again gives an equal one. Errors name the value, the
//! bound and the remedy ([`ValueError`]).

mod antagonists;
mod batch;
mod count;
mod decimal;
mod growth;
mod percent;
mod rate;
mod seed;
mod size;
mod span;
mod value_error;

pub use antagonists::Antagonists;
pub use batch::Batch;
pub use count::{CpuCount, MoverCount, ReplugRate, UffdCount, VcpusPerCpu};
pub use growth::Growth;
pub use percent::Percent;
pub use rate::Rate;
pub use seed::Seed;
pub use size::Size;
pub use span::Span;
pub use value_error::ValueError;
