//! What happened when: stretches of time from all sources, in ticks of the host's TSC.

mod clock;
mod off_cpu;
mod page_windows;
mod span;
mod span_log;

pub use clock::ClockMap;
pub use off_cpu::OffCpu;
pub use page_windows::PageWindows;
pub use span::Span;
pub use span_log::SpanLog;

/// `ticks` of a counter that runs at `tsc_khz`, in ns.
#[must_use]
pub fn ns(ticks: u64, tsc_khz: u32) -> u64 {
    let ns = u128::from(ticks) * 1_000_000 / u128::from(tsc_khz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}
