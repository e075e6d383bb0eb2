//! Bare primitives on the same pages.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::area::{Area, advise};
use underfoot_benches::bare::Bare;
use underfoot_benches::ratio::median;
use underfoot_benches::span::Span;
use underfoot_benches::uffd::{Uffd, Watch};
use underfoot_migrator::clock;

/// What is measured of each page, in turn. None of them loses what the page holds: the guest never writes
/// it, and what is unmapped is put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// MADV_DONTNEED of an anonymous page. UFFDIO_COPY brings it back, and ends the wait of the guest.
    Unmap {
        /// It was write-protected before.
        protected: bool,
    },
    /// MADV_DONTNEED of a write-protected page of a file, which keeps it.
    UnmapFile,
    /// Both moves of a write-protected page, which was copied before.
    ProtectedMove,
    /// Both moves of a page, and between them the comparison with its copy.
    ComparedMove,
}

impl Floor {
    /// Does it to pages of `span`, one after the other, for `time`: how long it takes at the median.
    pub fn p50_ns(self, span: &Span, time: Duration) -> Option<f64> {
        let uffd = Arc::new(Uffd::new().expect("userfaultfd"));
        uffd.register(span.start(), span.bytes(), Watch::MissingAndWrites)
            .expect("memory that can be watched");
        let mut bench = Bench {
            spare: Area::anywhere(PAGE_SIZE).expect("a page"),
            bare: Bare::new(Arc::clone(&uffd), 1).expect("userfaultfd with MOVE"),
            uffd,
        };
        let mut ticks = Vec::new();
        let began = Instant::now();
        for page in span.shuffled(1).into_iter().cycle() {
            let taken = bench.once(self, page).expect("a page that can be unmapped");
            ticks.push(Some(taken as f64));
            if began.elapsed() >= time {
                break;
            }
        }
        Some(median(ticks)? * 1e9 / clock::measured_hz() as f64)
    }
}

struct Bench {
    uffd: Arc<Uffd>,
    bare: Bare,
    spare: Area,
}

impl Bench {
    /// Does it to `page`; how many ticks what is measured took.
    fn once(&mut self, floor: Floor, page: usize) -> io::Result<u64> {
        match floor {
            Floor::Unmap { protected } => {
                if protected {
                    self.uffd.protect(page, PAGE_SIZE)?;
                }
                // SAFETY: both are mapped; the guest reads the page and does not write it.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        page as *const u8,
                        self.spare.pointer(),
                        PAGE_SIZE,
                    );
                }
                let taken = timed(|| advise(page, PAGE_SIZE, libc::MADV_DONTNEED));
                self.uffd.copy(page, self.spare.address(), PAGE_SIZE)?;
                taken
            }
            Floor::UnmapFile => {
                self.uffd.protect(page, PAGE_SIZE)?;
                let taken = timed(|| advise(page, PAGE_SIZE, libc::MADV_DONTNEED));
                self.uffd.unprotect(page, PAGE_SIZE)?;
                taken
            }
            Floor::ProtectedMove => {
                self.uffd.protect(page, PAGE_SIZE)?;
                self.bare.copy_from(page);
                timed(|| {
                    self.bare.unmap(page)?;
                    self.bare.map(page)
                })
            }
            Floor::ComparedMove => {
                self.bare.copy_from(page);
                timed(|| {
                    self.bare.unmap(page)?;
                    assert!(
                        self.bare.is_copied(),
                        "the guest wrote a page that it only reads"
                    );
                    self.bare.map(page)
                })
            }
        }
    }
}

fn timed(step: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let before = clock::now();
    step()?;
    Ok(clock::now() - before)
}
