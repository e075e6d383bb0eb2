use super::*;
use crate::fixture::{self, Fixture};
use core::sync::atomic::AtomicUsize;
use underfoot_abi::PageKind;

const DATA: PageByte = PageByte::new(PageKind::Data, false);
const LEVELS: Levels = Levels::with_reserve(100);

/// Gives back a page that the test took, each time it is asked.
struct Hoard {
    pages: &'static PageAllocator,
    held: std::sync::Mutex<Vec<usize>>,
    wakes: AtomicUsize,
    calls: AtomicUsize,
}

impl Reclaim for Hoard {
    fn wake(&self, _cpu: &Cpu) {
        self.wakes.fetch_add(1, Relaxed);
    }
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        self.calls.fetch_add(1, Relaxed);
        let mut held = self.held.lock().expect("no panic");
        let count = pages.min(held.len());
        for page in held.drain(..count) {
            // SAFETY: the test took it for nobody.
            unsafe { self.pages.free(cpu, page, 0) };
        }
        count
    }
}

/// Watermarks with `free` pages left (by the estimate), and a reclaimer that holds `held` more.
fn watermarks(cpu: &Cpu, free: usize, held: usize) -> (Watermarks, &'static Hoard) {
    let pages = fixture::allocator(cpu, 512);
    let mut taken = Vec::new();
    while pages.free_estimate() > free {
        taken.push(pages.allocate(cpu, 0, DATA).expect("memory"));
    }
    taken.truncate(held);
    let hoard = Box::leak(Box::new(Hoard {
        pages,
        held: taken.into(),
        wakes: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
    }));
    (Watermarks::new(pages, LEVELS, hoard), hoard)
}

#[test]
fn levels_keep_linux_proportions() {
    let levels = Levels::with_reserve(100);
    assert_eq!((levels.min, levels.low, levels.high), (100, 125, 150));
}

#[test]
fn each_mode_does_at_each_level_what_its_table_says() {
    use Mode::{Emergency, FastPath, Kernel};
    // Free pages, mode, whether a page is given, wakes, direct reclaims.
    let table = [
        (200, Kernel, true, 0, 0),
        (200, FastPath, true, 0, 0),
        (200, Emergency, true, 0, 0),
        (110, Kernel, true, 1, 0),
        (110, FastPath, true, 1, 0),
        (110, Emergency, true, 0, 0),
        (64, Kernel, true, 1, 2),
        (64, FastPath, false, 0, 0),
        (64, Emergency, true, 0, 0),
    ];
    for (free, mode, given, wakes, direct) in table {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let (watermarks, hoard) = watermarks(&cpu, free, 64);
        let row = format!("{free} pages free, {mode:?}");
        let got = watermarks.allocate(&cpu, DATA, mode);
        assert_eq!(got.is_ok(), given, "{row}");
        assert_eq!(hoard.wakes.load(Relaxed), wakes, "{row}");
        assert_eq!(hoard.calls.load(Relaxed), direct, "{row}");
        assert_eq!(
            watermarks.pressure.refused.load(Relaxed),
            u64::from(!given),
            "{row}"
        );
    }
}

#[test]
fn an_ordinary_allocation_fails_when_nobody_can_make_room() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let (watermarks, hoard) = watermarks(&cpu, 50, 0);
    let refused = watermarks.allocate(&cpu, DATA, Mode::Kernel);
    assert!(matches!(refused, Err(Refused::Reserve { min: 100, .. })));
    assert_eq!(hoard.calls.load(Relaxed), ATTEMPTS);
}

#[test]
fn emergencies_get_the_last_page() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 64);
    let watermarks = Watermarks::new(pages, LEVELS, &NoReclaim);
    let given = (0..)
        .take_while(|_| watermarks.allocate(&cpu, DATA, Mode::Emergency).is_ok())
        .count();
    assert_eq!(given, 64);
    assert_eq!(
        watermarks.allocate(&cpu, DATA, Mode::Emergency),
        Err(Refused::Empty)
    );
}
