//! What the experiments on invalidation have in common: the DMA device, whose translations go stale.

use crate::claims::plan::Checker;
use crate::claims::runs::{Measured, Missing, Runs};
use crate::record::DmaRecord;

/// A byte that did not arrive, or an old frame that was written.
pub(super) const LOST: &[Checker] = &[
    Checker::Integrity("check words"),
    Checker::Integrity("stale writes"),
    Checker::Integrity("audit"),
];

/// What the device did in the run `name`, sound or not.
pub(super) fn device<'r>(runs: &'r Runs, name: &str) -> Result<&'r DmaRecord, Missing> {
    let dma = runs.record(name)?.dma.as_ref();
    dma.ok_or_else(|| Missing(format!("run {name} has no DMA device")))
}

/// Notes what became of the device's accesses in the run `name`.
pub(super) fn note(runs: &Runs, name: &str, measured: &mut Measured) -> Result<(), Missing> {
    let dma = device(runs, name)?;
    for (what, count) in [
        ("copies", dma.done),
        ("hits", dma.hits),
        ("misses", dma.misses),
        ("put_off", dma.put_off),
        ("retries", dma.retries),
        ("overtaken", dma.overtaken),
        ("retries_in_a_row", dma.retries_in_a_row),
        ("renewed", dma.renewed),
        ("in_midst", dma.in_midst),
    ] {
        measured.set(format!("{name}.{what}"), count);
    }
    let moved = runs.record(name)?.migration.counts.committed;
    measured.set(format!("{name}.pages_moved"), moved);
    Ok(())
}

#[cfg(test)]
pub(super) use for_tests::with_device;

#[cfg(test)]
mod for_tests {
    use crate::record::{DmaRecord, RunRecord};

    /// Gives `record` a device that did this.
    pub fn with_device(record: &mut RunRecord, change: impl FnOnce(&mut DmaRecord)) {
        let mut dma = DmaRecord {
            done: 1_000,
            misses: 10_000,
            ..DmaRecord::default()
        };
        change(&mut dma);
        record.dma = Some(dma);
    }
}
