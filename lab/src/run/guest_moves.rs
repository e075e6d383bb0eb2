//! What the guest says of its own moves, and what the host finds of it. Counts and times are the guest's
//! word.

use super::session::Session;
use crate::guest_mover;
use crate::histogram::Histogram;
use crate::record::{Histograms, Integrity, KindCounts, Migration, MigrationCounts};
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{MoverMetric, PageKind};
use underfoot_vmm::SharedRegion;

/// What moved, of the kinds that were to move.
pub fn migration(session: &Session<'_>) -> Migration {
    let experiment = session.experiment;
    let kinds = experiment.targets.kinds().iter();
    let by_kind = kinds.map(|kind| {
        let verified = session.compared.as_ref();
        let verified = verified.map(|compared| compared.verified.get(kind).copied().unwrap_or(0));
        let counts = counts(session.machine.shared(), *kind);
        (*kind, KindCounts { counts, verified })
    });
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
        aborted_by: std::collections::BTreeMap::new(),
        refused: guest_mover::refused(experiment).collect(),
        moving_ns: session.moving_ns,
    }
}

fn counts(shared: &SharedRegion, kind: PageKind) -> MigrationCounts {
    let counts = &shared.mover().counts[kind as usize];
    MigrationCounts {
        attempted: counts.attempted.load(Relaxed),
        committed: counts.committed.load(Relaxed),
        aborted: counts.aborted.load(Relaxed),
        skipped: counts.skipped.load(Relaxed),
        retried: 0,
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

/// What the mover's own checks found, and the host's.
pub fn check(integrity: &mut Integrity, session: &Session<'_>) {
    let (shared, audited) = (session.machine.shared(), session.audited);
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
    let compared = session.compared.clone().unwrap_or_default();
    for (errors, what) in [
        (
            compared.misplaced,
            "pages are not mapped to the frame that they moved to",
        ),
        (
            compared.shared,
            "pages share their new frame with the one that lay there",
        ),
    ] {
        fault(errors, format!("frame numbers: {errors} {what}"));
    }
    let written = compared.written;
    fault(
        written,
        format!("limbo: {written} frames that pages had left were found written at the end"),
    );
    for kind in PageKind::TARGETS {
        let counts = counts(shared, kind);
        let MigrationCounts {
            attempted,
            committed,
            aborted,
            skipped,
            ..
        } = counts;
        let name = kind.name();
        // One may be in its window still, where the guest was stopped.
        let ended = committed.saturating_add(aborted).saturating_add(skipped);
        let off = u64::from(attempted != ended && (audited || attempted != ended + 1));
        fault(off, format!("counters of {name} do not add up: {counts:?}"));
    }
    integrity.checked = integrity
        .checked
        .saturating_add(area.limbo_checked.load(Relaxed))
        .saturating_add(compared.limbo);
}
