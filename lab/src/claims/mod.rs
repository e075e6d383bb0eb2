//! The experiments that answer the questions of this project.
//!
//! A [`question`] has a [`plan`] where there is an experiment for it: which runs, a criterion
//! written down beforehand, and a function that holds the runs against it. [`conduct`] does the
//! runs, [`validity`] says whether they can be believed, [`answer`] puts question, plan and runs
//! together, [`mod@format`] tells people and programs. One file in [`experiments`] is one plan.

pub mod answer;
pub mod command;
pub mod conduct;
pub mod directory;
pub mod experiments;
pub mod format;
pub mod listing;
pub mod plan;
pub mod question;
pub mod runs;
pub mod validity;
