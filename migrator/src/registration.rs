//! Guest memory under userfaultfd: which pages belong to which descriptor.

use std::fs;
use std::io;
use std::ops::Range;

use crate::lock_order::{Class, Ordered};
use crate::page_word::{Lane, PageWord};
use crate::pagemap::{Entry, Pagemap};
use crate::regions::{self, Region, Regions};
use crate::uffd::{UffdError, Userfaultfd, Waiting, Watch};
use crate::{PAGE_SIZE, PageMap, PageRange};

/// Entries of /proc/self/pagemap that are read at once.
const PAGEMAP_BATCH: usize = 4096;

/// Mappings that the rest of the process may still need.
const SPARE_MAPPINGS: usize = 1024;

/// Why guest memory could not be put under userfaultfd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// userfaultfd refuses.
    #[error("guest memory cannot be put under userfaultfd")]
    Uffd(#[from] UffdError),
    /// The ranges would need more mappings than a process may have.
    #[error(
        "guest memory would take up to {ranges} mappings, one for each page that is remapped or for each \
         range of pages that wait alike; the process has {mapped} of {limit}; raise vm.max_map_count, give \
         less memory, or use the backend move and a wait policy that sleeps"
    )]
    Mappings {
        /// How many ranges.
        ranges: usize,
        /// Mappings that the process has already.
        mapped: usize,
        /// `vm.max_map_count`.
        limit: usize,
    },
    /// The guest's memory could not be given frames.
    #[error("cannot populate {len} bytes of guest memory at {hva:#x}; is there enough memory?")]
    Populate {
        /// First host address.
        hva: usize,
        /// Length in bytes.
        len: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Which pages are there is not known.
    #[error("cannot read /proc/self/pagemap; is /proc mounted?")]
    Pagemap(#[source] io::Error),
}

/// Pages that lie side by side and wait alike; those without a lane are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    hva: usize,
    pages: u32,
    lane: Option<Lane>,
}

impl Run {
    fn len(&self) -> usize {
        self.pages as usize * PAGE_SIZE
    }

    /// What is left of it without the pages of `other`.
    fn without(self, other: &Self) -> impl Iterator<Item = Self> {
        let (start, end) = (self.hva, self.hva + self.len());
        let cut = [
            (start, other.hva.min(end)),
            ((other.hva + other.len()).max(start), end),
        ];
        cut.into_iter()
            .filter(|(start, end)| start < end)
            .map(move |(hva, end)| Self {
                hva,
                pages: ((end - hva) / PAGE_SIZE) as u32,
                ..self
            })
    }
}

/// The descriptors and the ranges registered with them. Dropping it makes guest memory ordinary
/// memory again and wakes who waits.
pub(crate) struct Registration {
    /// One or more, for pages that sleep, and the host addresses at which parts of theirs begin, in order.
    blocking: Vec<Userfaultfd>,
    parts: Vec<(usize, u32)>,
    signalling: Option<Userfaultfd>,
    /// Those that are registered; locked by who plugs and unplugs. Pages are registered before they are in it, and
    /// unregistered before they are not.
    runs: Ordered<Vec<Run>>,
}

/// Why ranges were not unregistered, and whether they are registered as before.
pub(crate) struct NotUnregistered {
    pub(crate) error: UffdError,
    pub(crate) whole: bool,
}

impl Registration {
    /// Registers guest memory but for `excluded`, and makes the state words of its pages.
    ///
    /// `watch` says whether they can be write-protected, `each_a_mapping` whether each page may become
    /// a mapping of its own. With `signal`, pages that do not sleep by its word are registered to signal, and populated
    /// first, as nobody would be told of their holes.
    pub(crate) fn new(
        regions: &Regions,
        excluded: &[PageRange],
        watch: Watch,
        each_a_mapping: bool,
        signal: Option<&dyn PageMap>,
    ) -> Result<(Self, Box<[PageWord]>), RegistrationError> {
        let (runs, words) = assign(regions, excluded, signal);
        check_mappings(match each_a_mapping {
            true => regions.pages() as usize,
            false => runs.len(),
        })?;
        let registration = Self {
            blocking: (0..regions.shards())
                .map(|_| Userfaultfd::new(Waiting::Sleep))
                .collect::<Result<_, _>>()?,
            parts: regions.parts(),
            signalling: match signal {
                Some(_) => Some(Userfaultfd::new(Waiting::Signal)?),
                None => None,
            },
            runs: Ordered::new(Class::Registered, Vec::new()),
        };
        for run in &runs {
            registration.register_one(run, watch)?;
        }
        // Registered already: from here on a hole is filled by the fault handler or by nobody.
        note_holes(regions, 0..regions.pages(), &words).map_err(RegistrationError::Pagemap)?;
        Ok((registration, words))
    }

    fn register_one(&self, run: &Run, watch: Watch) -> Result<(), RegistrationError> {
        let Some(lane) = run.lane else { return Ok(()) };
        if lane == Lane::Signalling {
            populate(*run)?;
        }
        let uffd = self.uffd(lane, run.hva);
        uffd.register(run.hva, run.len(), watch)?;
        // Known only from now on, so that dropping undoes what was done and no more.
        self.runs.lock().push(*run);
        Ok(())
    }

    fn unregister_one(&self, run: &Run) -> Result<(), UffdError> {
        let Some(lane) = run.lane else { return Ok(()) };
        let uffd = self.uffd(lane, run.hva);
        uffd.unregister(run.hva, run.len())?;
        let mut runs = self.runs.lock();
        *runs = runs.drain(..).flat_map(|one| one.without(run)).collect();
        Ok(())
    }

    /// Registers all of `runs`, or none.
    pub(crate) fn register(&self, runs: &[Run], watch: Watch) -> Result<(), RegistrationError> {
        for (nth, run) in runs.iter().enumerate() {
            if let Err(error) = self.register_one(run, watch) {
                // What cannot be undone is memory that faults here with nobody to serve it but the handler, who
                // finds it unplugged and wakes nobody: it goes when the descriptor does.
                for run in &runs[..nth] {
                    let _ = self.unregister_one(run);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unregisters all of `runs`, or none; or says that neither could be done. Who waits in them is woken.
    pub(crate) fn unregister(&self, runs: &[Run], watch: Watch) -> Result<(), NotUnregistered> {
        for (nth, run) in runs.iter().enumerate() {
            if let Err(error) = self.unregister_one(run) {
                let again = |run| self.register_one(run, watch);
                let whole = runs[..nth].iter().try_for_each(again).is_ok();
                return Err(NotUnregistered { error, whole });
            }
        }
        Ok(())
    }

    /// Wakes who sleeps in any of `runs`.
    pub(crate) fn wake_runs(&self, runs: &[Run]) -> Result<(), UffdError> {
        runs.iter()
            .filter(|run| run.lane == Some(Lane::Blocking))
            .try_for_each(|run| self.wake(Lane::Blocking, run.hva, run.pages))
    }

    /// The descriptor of the pages of a lane at a host address.
    pub(crate) fn uffd(&self, lane: Lane, hva: usize) -> &Userfaultfd {
        match (lane, &self.signalling) {
            (Lane::Signalling, Some(signalling)) => signalling,
            _ => &self.blocking[self.shard(hva)],
        }
    }

    fn shard(&self, hva: usize) -> usize {
        let after = self.parts.partition_point(|&(start, _)| start <= hva);
        self.parts[after.saturating_sub(1)].1 as usize
    }

    /// The descriptors of pages that sleep.
    pub(crate) fn blocking(&self) -> &[Userfaultfd] {
        &self.blocking
    }

    /// Write-protects pages of a lane; 0 or the errno.
    pub(crate) fn protect(&self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.uffd(lane, hva)
            .protect(hva, pages as usize * PAGE_SIZE)
    }

    /// Takes that off again and wakes who waits; 0 or the errno.
    pub(crate) fn unprotect(&self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.uffd(lane, hva)
            .unprotect(hva, pages as usize * PAGE_SIZE)
    }

    /// Has pages watched whose mapping was replaced, which dropped their registration; 0 or the errno.
    pub(crate) fn watch_again(&self, lane: Lane, hva: usize, pages: u32, watch: Watch) -> i32 {
        match self
            .uffd(lane, hva)
            .register(hva, pages as usize * PAGE_SIZE, watch)
        {
            Ok(()) => 0,
            Err(UffdError::Register { source, .. }) => source.raw_os_error().unwrap_or(libc::EIO),
            Err(_) => libc::EIO,
        }
    }

    /// Wakes everybody who waits at these of the blocking descriptors; who still has to wait says so again.
    pub(crate) fn wake_all(&self, uffds: Range<usize>) -> Result<(), UffdError> {
        let runs = self.runs.lock();
        runs.iter()
            .filter(|run| run.lane == Some(Lane::Blocking) && uffds.contains(&self.shard(run.hva)))
            .try_for_each(|run| self.wake(Lane::Blocking, run.hva, run.pages))
    }

    /// Wakes who waits for pages of a lane.
    pub(crate) fn wake(&self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.uffd(lane, hva).wake(hva, pages as usize * PAGE_SIZE)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for run in self.runs.lock().iter() {
            if let Some(lane) = run.lane {
                // A range that its owner unmapped in the meantime needs no unregistering, and
                // closing the descriptor would do the same work.
                let _ = self.uffd(lane, run.hva).unregister(run.hva, run.len());
            }
        }
    }
}

/// Marks those of `pages` that nobody has touched yet, and those that somebody has. A mover would only learn that
/// nothing is there by opening a window, with every vCPU stopped if it stops the world.
pub(crate) fn note_holes(
    regions: &Regions,
    pages: Range<u32>,
    words: &[PageWord],
) -> io::Result<()> {
    let mut pagemap = Pagemap::open(PAGEMAP_BATCH as u32)?;
    let mut entries = [Entry::default(); PAGEMAP_BATCH];
    for (region, pages) in regions.within(pages) {
        let words = &words[pages.start as usize..pages.end as usize];
        for (number, words) in words.chunks(PAGEMAP_BATCH).enumerate() {
            let entries = &mut entries[..words.len()];
            let first = pages.start + (number * PAGEMAP_BATCH) as u32;
            pagemap.read(region.hva(first), entries)?;
            for (word, entry) in words.iter().zip(entries) {
                word.set_hole(entry.is_hole());
            }
        }
    }
    Ok(())
}

/// The runs of `pages`, which wait as their words say.
pub(crate) fn runs_of(regions: &Regions, pages: Range<u32>, words: &[PageWord]) -> Vec<Run> {
    let lane = |_: &Region, page: u32| {
        let word = &words[page as usize];
        (!word.is_fixed()).then(|| word.lane())
    };
    join(regions, pages, lane)
}

/// Gives each page its lane, and joins neighbours.
fn assign(
    regions: &Regions,
    excluded: &[PageRange],
    signal: Option<&dyn PageMap>,
) -> (Vec<Run>, Box<[PageWord]>) {
    let mut words = Vec::with_capacity(regions.pages() as usize);
    let runs = join(regions, 0..regions.pages(), |region, page| {
        let gfn = region.gfn(page);
        let lane = if excluded.iter().any(|range| range.contains(gfn)) {
            None
        } else if signal.is_some_and(|map| !map.sleeps(gfn)) {
            Some(Lane::Signalling)
        } else {
            Some(Lane::Blocking)
        };
        words.push(lane.map_or_else(PageWord::fixed, PageWord::new));
        lane
    });
    (runs, words.into_boxed_slice())
}

/// Asks for the lane of each of `pages`, in order, and joins neighbours of one region.
fn join(
    regions: &Regions,
    pages: Range<u32>,
    mut lane: impl FnMut(&Region, u32) -> Option<Lane>,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (region, pages) in regions.within(pages) {
        let mut current: Option<Run> = None;
        for page in pages {
            let lane = lane(region, page);
            match &mut current {
                Some(run) if run.lane == lane => run.pages += 1,
                _ => {
                    let next = Run {
                        hva: region.hva(page),
                        pages: 1,
                        lane,
                    };
                    runs.extend(current.replace(next));
                }
            }
        }
        runs.extend(current);
    }
    runs
}

/// Checks that `ranges` more mappings fit. A host whose /proc cannot be read is left to refuse by
/// itself.
fn check_mappings(ranges: usize) -> Result<(), RegistrationError> {
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok());
    let mapped = fs::read("/proc/self/maps")
        .map(|maps| maps.iter().filter(|&&byte| byte == b'\n').count())
        .ok();
    match (limit, mapped) {
        (Some(limit), Some(mapped)) if mapped + ranges + SPARE_MAPPINGS > limit => {
            Err(RegistrationError::Mappings {
                ranges,
                mapped,
                limit,
            })
        }
        _ => Ok(()),
    }
}

fn populate(run: Run) -> Result<(), RegistrationError> {
    let (hva, len) = (run.hva, run.len());
    regions::populate(hva, len).map_err(|source| RegistrationError::Populate { hva, len, source })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Class, Gfn};
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    struct Every(u64);

    impl PageMap for Every {
        fn class(&self, _: Gfn) -> Option<Class> {
            Class::new(0)
        }

        fn sleeps(&self, gfn: Gfn) -> bool {
            gfn.0.is_multiple_of(self.0)
        }
    }

    #[test]
    fn neighbours_of_one_lane_are_one_range() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0xa000)]);
        let regions = Regions::new(&memory.expect("memory"), false).expect("regions");
        let excluded = [PageRange::new(Gfn(2), 2)];
        let (runs, words) = assign(&regions, &excluded, Some(&Every(5)));
        let lanes: Vec<_> = runs.iter().map(|run| (run.pages, run.lane)).collect();
        let (signal, block) = (Some(Lane::Signalling), Some(Lane::Blocking));
        assert_eq!(
            lanes,
            [
                (1, block),
                (1, signal),
                (2, None),
                (1, signal),
                (1, block),
                (4, signal)
            ]
        );
        assert_eq!(words.len(), 10);
        assert!(!words[2].is_movable(u64::MAX, 0) && words[4].is_movable(u64::MAX, 0));
        let (runs, _) = assign(&regions, &[], None);
        assert_eq!(runs.len(), 1);
    }

    #[test]
    fn too_many_mappings_are_refused_with_the_numbers() {
        assert!(check_mappings(2).is_ok());
        let error = check_mappings(usize::MAX / 2).expect_err("too many");
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
    }
}
