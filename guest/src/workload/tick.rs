//! What a timer tick takes from a thread, seen from the thread: delivery and return included, which
//! no handler can time.

use crate::{Cpu, arch::tsc, record};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::Metric;

/// How long each look is. A look that is shorter than a tick's period meets its share of them.
const LOOK_NS: u64 = 50_000;

/// Reads this CPU's count of ticks and the TSC over and over. Where the count changed, a tick lay
/// between the TSC before the last and the one to come, and that time is recorded as
/// [`Metric::Tick`]: a turn of this loop too much, and never a tick too little.
pub(super) fn look(cpu: &Cpu) {
    let Some(phase) = record::phase(cpu) else {
        return;
    };
    // Another thread's turn is no part of the tick.
    cpu.preempt_disable();
    let begun_tsc = tsc();
    let mut before = cpu.area.ticks.load(Relaxed);
    let (mut first_tsc, mut second_tsc) = (begun_tsc, begun_tsc);
    while cpu.ns(second_tsc.saturating_sub(begun_tsc)) < LOOK_NS {
        let ticks = cpu.area.ticks.load(Relaxed);
        let now_tsc = tsc();
        if ticks != before {
            let ns = cpu.ns(now_tsc.saturating_sub(first_tsc));
            record::record(cpu, phase, Metric::Tick, ns);
        }
        before = ticks;
        (first_tsc, second_tsc) = (second_tsc, now_tsc);
    }
    cpu.preempt_enable();
}
