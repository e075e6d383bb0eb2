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
