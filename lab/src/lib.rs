//! The laboratory around the engine: experiments in, results out.
//!
//! The way of an experiment: [`settings`] (what the user wrote) → [`experiment`] (validated once)
//! → a run → [`record`] (what was measured, as plain data) → [`json`], [`summary`] and [`rundir`].
//! [`command`] holds this together; [`doctor`], [`list`] and [`guest`] are the other verbs;
//! [`sweep`] runs many experiments of one file; [`compare`] and [`report`] work on what was written, and read run directories only.

pub mod atomic_file;
pub mod attribution;
pub mod claims;
pub mod command;
pub mod compare;
mod dma_variants;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod experiment;
pub mod frame_pool;
pub mod guest;
pub mod guest_mover;
pub mod guest_record;
pub mod histogram;
pub mod hlog;
pub mod host_limits;
pub mod human;
pub mod image;
pub mod interval_json;
pub mod json;
pub mod json_target;
mod leftovers;
pub mod list;
pub mod names;
pub mod on_kvm;
pub mod output;
pub mod overcommit;
pub mod parameters;
pub mod placement;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod rundir;
pub mod settings;
mod setup_line;
mod signals;
pub mod summary;
pub mod sweep;
pub mod targets;
#[cfg(test)]
mod test_record;
pub mod timeline;
pub mod tool;
pub mod torture;
pub mod units;
mod variant_needs;
