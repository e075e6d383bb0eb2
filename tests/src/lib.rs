//! Tests across crates: they drive the built `underfoot` as a user does, on real KVM and in the
//! boxes.
//!
//! Environment: `UNDERFOOT_REQUIRE_KVM=1` makes a test that cannot run fail instead of skipping;
//! `UNDERFOOT_BIN` names the program under test, which is otherwise built; `UNDERFOOT_EMULATED=1`
//! says that the processor is emulated, where quantities that depend on speed mean nothing.

mod binary;
mod command;
mod confinement;
mod experiment;
mod histogram;
mod host;
pub mod nested;
mod refusal;
mod scratch;
mod summary;

pub use binary::{build_static, underfoot, workspace};
pub use command::{Command, Finished, Running};
pub use confinement::Confinement;
pub use experiment::{attempt, run, workloads};
pub use histogram::Histogram;
pub use host::{allowed_cpus, at_least, emulated, is_root, kvm, scheduling_of, skip, turn};
pub use scratch::Scratch;
pub use summary::{Counters, Summary};
