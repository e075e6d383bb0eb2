//! The engine's windows.

use std::sync::Arc;
use std::time::Duration;
use underfoot_benches::attached::Attached;
use underfoot_benches::ratio::median;
use underfoot_benches::samples;
use underfoot_benches::span::Span;
use underfoot_migrator::{BackendKind, Migrator, Observer, StrategyKind, Times, clock};
use underfoot_vmm::Machine;

/// A way to move pages.
#[derive(Clone, Copy)]
pub struct Way(pub StrategyKind, pub BackendKind);

/// Windows at the median, in ns: the time in which readers wait, and that in which writers do.
pub struct Windows {
    pub readers: Option<f64>,
    pub writers: Option<f64>,
}

impl Way {
    /// Moves pages of `span` for `time`, one by one.
    pub fn p50_ns(self, machine: &Machine, span: &Span, time: Duration) -> Windows {
        let builder = Migrator::builder(Arc::clone(machine.ram().memory()))
            .page_map(Arc::new(span.clone()))
            .strategy(self.0)
            .backend(self.1)
            .tsc_hz(clock::measured_hz());
        let windows = samples::Windows::new();
        let observer = Arc::clone(&windows) as Arc<dyn Observer>;
        Attached::new(builder).move_for(time, &[observer], |_| ());
        let all = windows.take();
        let p50_ns = |ticks: fn(&Times) -> u64| {
            let ticks = median(all.iter().map(|times| Some(ticks(times) as f64)))?;
            Some(ticks * 1e9 / clock::measured_hz() as f64)
        };
        Windows {
            readers: p50_ns(|times| times.mapped - times.window),
            writers: p50_ns(|times| {
                let first = if times.protect > 0 {
                    times.protect
                } else {
                    times.window
                };
                times.mapped - first
            }),
        }
    }
}
