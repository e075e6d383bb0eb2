//! The rules of allocations, checked where they could be broken.

use crate::{Cpu, record};
use core::fmt;
use underfoot_abi::ReportKind;

/// Refusals of fast paths in a row on one CPU: more than it has threads that fault.
const UNPAID: u32 = 64;

/// Whether the caller may sleep, as who may have to reclaim must (Linux's `might_alloc`): in no read
/// section, and preemptible. If not, that is an error, which is reported; and the caller must not
/// reclaim, for it could wait for itself.
#[track_caller]
pub(super) fn may_sleep(cpu: &Cpu) -> bool {
    let depth = cpu.context().rcu_depth();
    let may = depth == 0 && cpu.hold.is_preemptible();
    if !may {
        let words = [u64::from(depth), 0, 0, 0];
        let text = format_args!(
            "an allocation that may reclaim, {depth} read sections deep or not preemptible; use Mode::FastPath there"
        );
        broken(cpu, 0, words, text);
    }
    may
}

/// Verifies that the free lists, of which an allocation that is no emergency took `page`, `kept` the
/// reserve of `min` pages; `None`: it came from the CPU's own.
pub(super) fn reserve_is_left(cpu: &Cpu, page: usize, kept: Option<usize>, min: usize) {
    let Some(kept) = kept else { return };
    record::checked(cpu, 1);
    if kept < min {
        let words = [page as u64, kept as u64, min as u64, 0];
        let text = format_args!(
            "an allocation that is no emergency left {kept} free pages of the {min} that are kept for these"
        );
        broken(cpu, 0, words, text);
    }
}

/// Verifies that fast paths which are refused pay before they try again: `refusals` came one after the
/// other on this CPU without that. As each of its threads may be refused once before any of them has
/// paid, only [`UNPAID`] are too many.
pub(super) fn somebody_pays(cpu: &Cpu, refusals: u32) {
    if refusals == UNPAID {
        record::error(cpu, 0, u64::from(refusals));
        let text = format_args!(
            "{refusals} fast-path allocations in a row were refused and none made room; \
                 reclaim after a refusal, or take the classic path"
        );
        let words = [u64::from(refusals), 0, 0, 0];
        record::report(cpu, ReportKind::Starvation, words, text);
    }
}

#[cold]
#[track_caller]
fn broken(cpu: &Cpu, address: usize, words: [u64; 4], text: fmt::Arguments<'_>) {
    record::error(cpu, address, words[1]);
    record::report(cpu, ReportKind::Allocation, words, text);
}
