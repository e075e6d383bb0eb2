//! The laboratory around the engine: experiments in, results out.
//!
//! The way of an experiment: [`settings`] (what the user wrote) → [`experiment`] (validated once)
//! → a run → [`record`] (what was measured, as plain data) → [`json`] and [`summary`].

pub mod atomic_file;
pub mod exit;
pub mod experiment;
pub mod histogram;
pub mod hlog;
pub mod host_limits;
pub mod human;
pub mod json;
pub mod names;
pub mod placement;
pub mod record;
pub mod rundir;
pub mod settings;
pub mod summary;
pub mod targets;
#[cfg(test)]
mod test_record;
pub mod tool;
pub mod units;
