//! The DMA device of a run whose workload has one.

use super::engine::Engine;
use super::session::Session;
use crate::experiment::Experiment;
use crate::record::DmaRecord;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use underfoot_abi::{DMA_CACHE, DMA_RENEW, PAGE_SIZE, WorkloadId};
use underfoot_migrator::{Gfn, PageRange};
use underfoot_vmm::Machine;
use underfoot_vmm::dma::{DmaDevice, DmaError, DmaOptions};

/// Threads of the device at most; the vCPUs' queues are theirs by turns.
const THREADS: u32 = 2;

/// Ranges that each thread registers: faults of one wait for no change in another.
const PARTS: u32 = 16;

/// What the device's threads get to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts the device, if the workload has one.
pub fn start(
    experiment: &Experiment,
    machine: &Machine,
    engine: &Engine,
) -> Result<Option<DmaDevice>, DmaError> {
    if experiment.workload != WorkloadId::Dma {
        return Ok(None);
    }
    let shared = machine.shared().clone();
    let usable = machine.ram().usable();
    let parts = PARTS.div_ceil(usable.len() as u32);
    let ranges = usable.into_iter().flat_map(|(gpa, bytes)| {
        let whole = PageRange::new(Gfn::containing(gpa), (bytes / PAGE_SIZE as u64) as u32);
        split(whole, parts)
    });
    let told = |which: usize| experiment.parameters.values()[which];
    let device = DmaDevice::start(DmaOptions {
        threads: shared.cpus().min(THREADS),
        doorbells: Arc::new(shared),
        ranges: ranges.collect(),
        invalidations: engine.invalidations(),
        translate: engine.translate(),
        cache: told(DMA_CACHE) as usize,
        renew_every: NonZeroU64::new(told(DMA_RENEW)),
    })?;
    Ok(Some(device))
}

/// `whole` in `parts` ranges or fewer.
fn split(whole: PageRange, parts: u32) -> impl Iterator<Item = PageRange> {
    let each = whole.pages.div_ceil(parts).max(1);
    (0..whole.pages).step_by(each as usize).map(move |first| {
        let start = Gfn(whole.start.0 + u64::from(first));
        PageRange::new(start, each.min(whole.pages - first))
    })
}

/// Ends it, once no vCPU runs and while faults are still served.
pub fn stop(device: Option<&mut DmaDevice>) -> Option<DmaError> {
    device.and_then(|device| device.stop(PATIENCE).err())
}

/// What it did.
pub fn record(session: &Session<'_>) -> Option<DmaRecord> {
    let counts = session.dma.as_ref()?.counts();
    Some(DmaRecord {
        done: counts.done,
        refused: counts.refused,
        bytes: counts.bytes,
        hits: counts.hits,
        misses: counts.misses,
        retries: counts.retries,
        retries_in_a_row: counts.retries_in_a_row,
        renewed: counts.renewed,
        negative: counts.negative,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        for (pages, parts, right) in [
            (1, 16, 1),
            (16, 16, 16),
            (17, 16, 9),
            (100, 16, 15),
            (7, 1, 1),
        ] {
            let whole = PageRange::new(Gfn(5), pages);
            let all: Vec<_> = split(whole, parts).collect();
            assert_eq!(all.len(), right, "{pages}");
            assert_eq!(
                (all[0].start, all[right - 1].end()),
                (whole.start, whole.end())
            );
            assert!(all.windows(2).all(|two| two[0].end() == two[1].start));
        }
    }
}
