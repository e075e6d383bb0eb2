//! The DMA device of a run whose workload has one.

use super::engine::Engine;
use super::session::Session;
use crate::experiment::Experiment;
use crate::histogram::Histogram;
use crate::record::{DmaRecord, Histograms, Integrity};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use underfoot_abi::{
    DMA_CACHE, DMA_EXHAUSTED, DMA_LOOKUP, DMA_RANGES, DMA_RENEW, DMA_RENEW_BUSY, DMA_SLOTS,
    DMA_TRACKING, PAGE_SIZE, PageKind, WorkloadId,
};
use underfoot_migrator::{Builder, Exhausted, Gfn, Laggard, PageRange, PoolCounts, Tracking};
use underfoot_vmm::dma::{DmaDevice, DmaError, DmaOptions, SlowLookup};
use underfoot_vmm::{Machine, SharedRegion};

/// Threads of the device at most; the vCPUs' queues are theirs by turns.
const THREADS: u32 = 2;

/// What the device's threads get to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Name of the histogram of how long accesses that were put off had to wait.
pub const PUT_OFF: &str = "dma.put_off";

/// What the engine is told for the device's sake.
pub fn configure(experiment: &Experiment, builder: Builder) -> Builder {
    if experiment.workload != WorkloadId::Dma {
        return builder;
    }
    let told = |which: usize| experiment.parameters.values()[which];
    builder
        .tracking(tracking(told(DMA_TRACKING)))
        .slots(told(DMA_SLOTS) as u32)
        .exhausted(match told(DMA_EXHAUSTED) {
            0 => Exhausted::CountSpace,
            _ => Exhausted::Wait,
        })
}

/// By the number of the parameter's choice.
fn tracking(choice: u64) -> Tracking {
    [Tracking::Pool, Tracking::Stack, Tracking::Space][choice as usize]
}

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
    let told = |which: usize| experiment.parameters.values()[which];
    let parts = (told(DMA_RANGES) as u32).div_ceil(usable.len() as u32);
    let constant = constant(&shared);
    let ranges = usable.into_iter().flat_map(|(gpa, bytes)| {
        let whole = PageRange::new(Gfn::containing(gpa), (bytes / PAGE_SIZE as u64) as u32);
        apart(whole, constant, parts)
    });
    let takes = Duration::from_micros(told(DMA_LOOKUP));
    let device = DmaDevice::start(DmaOptions {
        threads: shared.cpus().min(THREADS),
        doorbells: Arc::new(shared),
        ranges: ranges.collect(),
        invalidations: engine.invalidations(),
        translate: Arc::new(SlowLookup::new(engine.translate(), takes)),
        cache: told(DMA_CACHE) as usize,
        renew_every: NonZeroU64::new(told(DMA_RENEW)),
        renew_busy: told(DMA_RENEW_BUSY) != 0,
    })?;
    Ok(Some(device))
}

/// The pages from the first to the last of the image's text and constants, as the guest has published them.
fn constant(shared: &SharedRegion) -> Option<PageRange> {
    let is_constant = |gfn: &u64| {
        let byte = shared.page_byte(*gfn);
        byte.is_some_and(|byte| matches!(byte.kind(), PageKind::Text | PageKind::Rodata))
    };
    let mut pages = (0..shared.page_map().len() as u64).filter(is_constant);
    let first = pages.next()?;
    let last = pages.next_back().unwrap_or(first);
    Some(PageRange::new(Gfn(first), (last - first + 1) as u32))
}

/// `whole` in `parts` ranges or fewer, those that `constant` covers in one of their own where there are parts enough:
/// the device never touches them, so that what moves there must hold up no other range, wherever buffers lie.
fn apart(whole: PageRange, constant: Option<PageRange>, parts: u32) -> Vec<PageRange> {
    let inside = |range: &PageRange| whole.start < range.start && range.end() < whole.end();
    let Some(constant) = constant.filter(|range| parts > 2 && inside(range)) else {
        return split(whole, parts).collect();
    };
    let between = |start: Gfn, end: Gfn| PageRange::new(start, (end.0 - start.0) as u32);
    let before = between(whole.start, constant.start);
    let after = between(constant.end(), whole.end());
    [before, constant]
        .into_iter()
        .chain(split(after, parts - 2))
        .collect()
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

/// What the registry says when the movers have ended and the device is still registered.
#[derive(Default)]
pub struct RegistryState {
    /// Consumers whose counter of open invalidations is not 0.
    unbalanced: Vec<(Arc<str>, i64)>,
    /// Who did not acknowledge in time.
    laggards: Vec<Laggard>,
    pool: PoolCounts,
}

/// Takes it down.
pub fn look(engine: &Engine) -> RegistryState {
    let invalidations = engine.invalidations();
    RegistryState {
        unbalanced: invalidations.unbalanced(),
        laggards: invalidations.laggards(),
        pool: invalidations.pool_counts(),
    }
}

/// What it did while pages moved; what was found wrong, ever.
pub fn record(session: &Session<'_>) -> Option<DmaRecord> {
    let all = session.dma.as_ref()?.counts();
    let counts = all.since(&session.dma_before);
    let RegistryState { laggards, pool, .. } = &session.registry;
    Some(DmaRecord {
        done: counts.done,
        refused: counts.refused,
        bytes: counts.bytes,
        hits: counts.hits,
        misses: counts.misses,
        retries: counts.retries,
        overtaken: counts.overtaken,
        put_off: counts.put_off,
        retries_in_a_row: counts.retries_in_a_row,
        rows: counts.rows,
        renewed: counts.renewed,
        in_midst: counts.in_midst,
        pool_waited: pool.waited,
        pool_fell_back: pool.fell_back,
        negative: all.negative,
        laggards: laggards.iter().map(ToString::to_string).collect(),
    })
}

/// How long accesses that were put off had to wait.
pub fn histograms(device: &DmaDevice) -> Histograms {
    let mut waited = Histogram::new();
    device.waited().for_each(|one| waited.add_guest(one));
    Histograms::from([(PUT_OFF.to_owned(), waited)])
}

/// What the counters of invalidations say.
pub fn check(integrity: &mut Integrity, session: &Session<'_>) {
    let Some(device) = &session.dma else { return };
    let mut fault = |errors: u64, detail: String| {
        if errors > 0 {
            integrity.errors += errors;
            integrity.details.push(detail);
        }
    };
    let negative = device.counts().negative;
    fault(
        negative,
        format!("device: {negative} registrations saw more invalidations end than start"),
    );
    for (consumer, counter) in &session.registry.unbalanced {
        let detail = format!(
            "registry: the counter of {consumer} is at {counter} while nothing is being invalidated"
        );
        fault(1, detail);
    }
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

    #[test]
    fn what_the_device_never_touches_is_apart() {
        let whole = PageRange::new(Gfn(5), 100);
        for (start, pages, parts, own) in [
            (20, 10, 16, true),
            (20, 84, 3, true),
            (20, 10, 2, false),
            // Nothing is left before it, or after it.
            (5, 10, 16, false),
            (20, 85, 16, false),
            (300, 10, 16, false),
        ] {
            let constant = PageRange::new(Gfn(start), pages);
            let all = apart(whole, Some(constant), parts);
            assert_eq!(all.contains(&constant), own, "{start} {pages} {parts}");
            assert!(all.len() <= parts as usize);
            assert_eq!(
                (all[0].start, all[all.len() - 1].end()),
                (whole.start, whole.end())
            );
            assert!(all.windows(2).all(|two| two[0].end() == two[1].start));
        }
        assert_eq!(apart(whole, None, 16).len(), 15);
    }
}
