//! What the guest says of its own moves. All of it is the guest's word.

use crate::experiment::Experiment;
use crate::guest_mover;
use crate::histogram::Histogram;
use crate::record::{Histograms, Integrity, KindCounts, Migration, MigrationCounts};
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{MoverMetric, PageKind};
use underfoot_vmm::SharedRegion;

/// What moved, of the kinds that were to move, in a moving phase that took `moving_ns`.
pub fn migration(experiment: &Experiment, shared: &SharedRegion, moving_ns: u64) -> Migration {
    let kinds = experiment.targets.kinds().iter();
    let by_kind = kinds.map(|kind| (*kind, counts(shared, *kind)));
    let by_kind: std::collections::BTreeMap<_, _> = by_kind.collect();
    let mut total = MigrationCounts::default();
    for KindCounts { counts, .. } in by_kind.values() {
        for (sum, count) in [
            (&mut total.attempted, counts.attempted),
            (&mut total.committed, counts.committed),
            (&mut total.aborted, counts.aborted),
            (&mut total.skipped, counts.skipped),
        ] {
            *sum = sum.saturating_add(count);
        }
    }
    Migration {
        counts: total,
        by_kind,
        refused: guest_mover::refused(experiment).collect(),
        moving_ns,
    }
}

fn counts(shared: &SharedRegion, kind: PageKind) -> KindCounts {
    let counts = &shared.mover().counts[kind as usize];
    KindCounts {
        counts: MigrationCounts {
            attempted: counts.attempted.load(Relaxed),
            committed: counts.committed.load(Relaxed),
            aborted: counts.aborted.load(Relaxed),
            skipped: counts.skipped.load(Relaxed),
            retried: 0,
        },
        verified: Some(counts.verified.load(Relaxed)),
    }
}

/// Its times, by the names of those of the host's movers.
pub fn histograms(shared: &SharedRegion) -> Histograms {
    let read = |metric: MoverMetric| {
        let mut histogram = Histogram::new();
        histogram.add_guest(&shared.mover().histograms[metric as usize]);
        (metric.name().to_owned(), histogram)
    };
    MoverMetric::ALL.into_iter().map(read).collect()
}

/// What the mover's own checks found. `audited` says whether the guest came to look at the end.
pub fn check(integrity: &mut Integrity, shared: &SharedRegion, audited: bool) {
    let area = shared.mover();
    let mut fault = |errors: u64, detail: String| {
        if errors > 0 {
            integrity.errors = integrity.errors.saturating_add(errors);
            integrity.details.push(detail);
        }
    };
    let stale = area.stale_writes.load(Relaxed);
    fault(
        stale,
        format!("limbo: {stale} frames were written after the guest had moved their pages"),
    );
    if audited {
        let misplaced = area.misplaced.load(Relaxed);
        fault(
            misplaced,
            format!("audit: {misplaced} pages are not in the frame that is theirs"),
        );
    }
    for kind in PageKind::TARGETS {
        let counts = counts(shared, kind);
        let MigrationCounts {
            attempted,
            committed,
            aborted,
            skipped,
            ..
        } = counts.counts;
        let name = kind.name();
        let elsewhere = committed.saturating_sub(counts.verified.unwrap_or(0));
        fault(
            elsewhere,
            format!("frame numbers: {elsewhere} committed {name} pages are not in their new frame"),
        );
        // One may be in its window still, where the guest was stopped.
        let ended = committed.saturating_add(aborted).saturating_add(skipped);
        let off = u64::from(attempted != ended && (audited || attempted != ended + 1));
        fault(
            off,
            format!("counters of {name} do not add up: {:?}", counts.counts),
        );
    }
    integrity.checked = integrity
        .checked
        .saturating_add(area.limbo_checked.load(Relaxed));
}
