//! How far a run is, on standard error, and only on a terminal.

use crate::experiment::Experiment;
use crate::run::{SILENCE, Stage};
use crate::units::Span;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that fills with each stage's time. Dropping it clears it, so that nothing of it is left on
/// the screen.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Draws nothing where standard error is no terminal, and starts no thread: whoever runs calls
    /// [`Progress::update`].
    #[must_use]
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{prefix:8} {bar:40} {percent:>3} %");
        bar.set_style(style.expect("a valid template"));
        Self { bar }
    }

    /// Shows that `done` of so many runs are done, and what the next is.
    pub fn count(&self, done: usize, of: usize, what: &str) {
        let style = ProgressStyle::with_template("{pos:>4}/{len} {bar:30} {wide_msg}");
        self.bar.set_style(style.expect("a valid template"));
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(what.to_owned());
    }

    /// Shows that `elapsed_ns` of `stage` have passed.
    pub fn update(&self, experiment: &Experiment, stage: Stage, elapsed_ns: u64) {
        let (name, length) = of_stage(experiment, stage);
        self.show(name, length, elapsed_ns);
    }

    /// Shows that `elapsed_ns` of `length` have passed.
    pub fn show(&self, name: &'static str, length: Span, elapsed_ns: u64) {
        self.bar.set_prefix(name);
        self.bar.set_length(length.ns().max(1));
        self.bar.set_position(elapsed_ns);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a stage is called, and how long it takes where that is known.
fn of_stage(experiment: &Experiment, stage: Stage) -> (&'static str, Span) {
    match stage {
        Stage::Boot => ("boot", Span::from_ns(0)),
        Stage::Warmup => ("warm-up", experiment.warmup),
        Stage::Control => ("control", experiment.control_span()),
        Stage::Moving => ("moving", experiment.moving_span()),
        Stage::Audit => ("audit", Span::from_ns(0)),
        // Full: then the run is ended.
        Stage::Silent => ("silent", SILENCE),
    }
}
