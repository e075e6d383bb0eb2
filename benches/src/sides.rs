//! The two sides of most comparisons: one mover over the same pages, bare and with the engine.

use crate::attached::Attached;
use crate::bare::Bare;
use crate::samples::Tally;
use crate::slice::Slice;
use crate::span::Span;
use std::sync::Arc;
use std::time::Duration;
use underfoot_migrator::{Migrator, Observer, clock};
use vm_memory::GuestMemoryMmap;

/// A bare loop over `span` for `time`, in windows of `batch` pages.
///
/// # Panics
/// If the kernel refuses: a benchmark has nothing to say then.
#[must_use]
pub fn bare(span: &Span, batch: u32, time: Duration) -> Slice {
    let bare = Bare::over(span.start(), span.bytes(), batch as usize);
    let mut bare = bare.expect("userfaultfd with MOVE");
    let starts = span.shuffled(batch);
    let mut starts = starts.iter().cycle();
    Slice::of(time, || {
        let start = *starts.next().expect("a span that is not empty");
        bare.migrate(start).expect("a page that can move");
        batch.into()
    })
}

/// The engine over the same pages.
///
/// # Panics
/// If the engine refuses.
#[must_use]
pub fn engine(memory: &Arc<GuestMemoryMmap>, span: &Span, batch: u32, time: Duration) -> Slice {
    let builder = Migrator::builder(Arc::clone(memory))
        .page_map(Arc::new(span.clone()))
        .batch(batch)
        .tsc_hz(clock::measured_hz());
    let tally = Tally::new(tsc_khz());
    let observer = Arc::clone(&tally) as Arc<dyn Observer>;
    Attached::new(builder).move_for(time, &[observer], |_| ());
    tally.slice()
}

/// The frequency of the time-stamp counter.
#[must_use]
pub fn tsc_khz() -> u32 {
    u32::try_from(clock::measured_hz() / 1000).unwrap_or(u32::MAX)
}
