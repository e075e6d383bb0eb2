//! What the guest's RCU and its shootdowns have to say: lines that go where the screen is full.

use super::labelled;
use crate::histogram::Histogram;
use crate::human;
use crate::record::{BacklogPhase, RunRecord};
use crate::run::HYPERCALLS_REFUSED;
use underfoot_abi::Cpl;

/// The median and the most that waited for grace periods, callbacks and memory.
pub(super) fn backlog_line(record: &RunRecord) -> Option<String> {
    let backlog = record.guest.backlog.as_ref()?;
    let most = |set: &BacklogPhase| pair(set, Histogram::max);
    let text = format!(
        "p50 {} wait; max {} (control {})",
        pair(&backlog.moving, |histogram| histogram.percentile(5_000)),
        most(&backlog.moving),
        most(&backlog.control),
    );
    Some(labelled("callbacks", &text))
}

/// Said where a hypercall was asked for that shootdowns did not make.
pub(super) fn shootdown_line(record: &RunRecord) -> Option<String> {
    let guest = &record.guest;
    let refused = [&guest.moving, &guest.control].map(|set| set.get(HYPERCALLS_REFUSED).copied());
    let refused: u64 = refused.into_iter().flatten().sum();
    let why = match record.cpl {
        Some(Cpl::Zero) => "KVM did not take it",
        _ => "none is made at CPL 3",
    };
    (refused > 0).then(|| {
        let count = human::short_count(refused);
        let text = format!("{count} by single interrupts, not by hypercall: {why}");
        labelled("shootdown", &text)
    })
}

fn pair(set: &BacklogPhase, value: impl Fn(&Histogram) -> Option<u64>) -> String {
    match (value(&set.callbacks), value(&set.bytes)) {
        (Some(callbacks), Some(bytes)) => {
            format!("{}, {}", human::tiny_count(callbacks), human::bytes(bytes))
        }
        _ => "-".to_owned(),
    }
}
