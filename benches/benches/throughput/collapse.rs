//! MADV_COLLAPSE: the kernel copies small pages into a huge one.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::area::{Area, advise};
use underfoot_benches::ratio::median;

const HUGE: NonZeroUsize = NonZeroUsize::new(2 << 20).expect("not 0");
const BLOCKS: usize = 8;

/// Memory to collapse, again and again. The guest does not map it: the kernel has less to do than with
/// pages of the guest, of which KVM must be told.
pub struct Collapse {
    area: Area,
}

impl Collapse {
    pub fn new() -> Self {
        let area = Area::new(BLOCKS * HUGE.get(), HUGE).expect("memory to collapse");
        Self { area }
    }

    /// Collapses for `time`; the median over blocks of 2 MiB, per small page. None if the kernel has no
    /// huge page.
    pub fn ns_per_page(&mut self, time: Duration) -> Option<f64> {
        let mut costs = Vec::new();
        let began = Instant::now();
        while began.elapsed() < time {
            self.make_small();
            for block in 0..BLOCKS {
                let start = self.area.address() + block * HUGE.get();
                let before = Instant::now();
                let collapsed = advise(start, HUGE.get(), libc::MADV_COLLAPSE);
                let ns = before.elapsed().as_nanos() as f64;
                costs.push(
                    collapsed
                        .ok()
                        .map(|()| ns / (HUGE.get() / PAGE_SIZE) as f64),
                );
            }
        }
        median(costs)
    }

    fn make_small(&mut self) {
        for advice in [
            libc::MADV_DONTNEED,
            libc::MADV_NOHUGEPAGE,
            libc::MADV_POPULATE_WRITE,
        ] {
            self.area.advise(advice).expect("memory of our own");
        }
        // MADV_COLLAPSE refuses what is advised against huge pages.
        self.area
            .advise(libc::MADV_HUGEPAGE)
            .expect("memory of our own");
    }
}
