use super::*;
use crate::fixture::{self, Fixture};
use crate::sync::Rcu;
use core::sync::atomic::AtomicUsize;
use underfoot_abi::{PageKind, ReportKind};

const DATA: PageByte = PageByte::new(PageKind::Data, false);
const LEVELS: Levels = Levels::with_reserve(100);

/// Gives back a page that the test took, each time it is asked.
struct Hoard {
    pages: &'static PageAllocator,
    held: std::sync::Mutex<Vec<usize>>,
    calls: AtomicUsize,
}

impl Reclaim for Hoard {
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
        assert_eq!(watermarks.pressure.wakes.load(Relaxed), wakes, "{row}");
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
    assert_eq!(fixture.errors(), 0, "a want of memory is no error");
    let [report] = fixture.reports()[..] else {
        panic!("{:?}", fixture.reports());
    };
    let words = report.words.each_ref().map(|word| word.load(Relaxed));
    let free = watermarks.pages.free_estimate() as u64;
    assert_eq!(
        (fixture.first_report(), words),
        (Some(ReportKind::OutOfMemory), [free, 100, 0, 0])
    );
    let text = report.text.iter().map(|byte| byte.load(Relaxed)).collect();
    let text = String::from_utf8(text).expect("UTF-8");
    let who = "no page for a data page, mm/watermark/tests.rs:";
    let what = format!(
        ", by thread 0: {free} free (min 100, low 125, high 150); 4 direct reclaims freed 0; \
         0 mapped by spaces, 0 callbacks wait\0"
    );
    assert!(text.starts_with(who) && text.contains(&what), "{text}");
}

/// Once for a want, however often it is in vain, and whoever asks.
#[test]
fn a_want_of_memory_is_told_once() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let (watermarks, _) = watermarks(&cpu, 50, 0);
    let made = || fixture.header.reports_made.load(Relaxed);
    for (mode, told) in [(Mode::FastPath, 0), (Mode::Kernel, 1), (Mode::Kernel, 1)] {
        assert!(watermarks.allocate(&cpu, DATA, mode).is_err());
        assert_eq!(made(), told, "{mode:?}");
    }
    watermarks.out_of_memory(&cpu, "the same want");
    assert_eq!(made(), 1);
}

/// It ends when as many pages are free as the reclaimer makes.
#[test]
fn a_want_ends_when_there_is_enough_again() {
    for (free, over) in [(140, false), (200, true)] {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let (watermarks, _) = watermarks(&cpu, free, 0);
        assert!(watermarks.want.is_news(1, 0));
        assert!(watermarks.allocate(&cpu, DATA, Mode::FastPath).is_ok());
        assert_eq!(watermarks.want.is_news(2, 0), over, "{free} pages free");
    }
}

#[test]
fn wants_that_follow_each_other_soon_are_one() {
    let want = Want::new();
    // When it is asked, whether the want before is over, whether it is news.
    for (now, ended, news) in [
        (5, false, true),
        (6, false, false),
        (100, false, false),
        (14, true, false),
        (15, true, true),
        (24, true, false),
        (30, true, true),
    ] {
        if ended {
            want.end();
        }
        assert_eq!(want.is_news(now, 10), news, "at {now}");
    }
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

/// Allocates in `mode` until it is refused; how many pages that were.
fn exhaust(cpu: &Cpu, watermarks: &Watermarks, mode: Mode) -> usize {
    (0..)
        .take_while(|_| watermarks.allocate(cpu, DATA, mode).is_ok())
        .count()
}

#[test]
fn only_emergencies_take_the_reserve() {
    for (mode, variant, reported) in [
        (Mode::FastPath, Variant::None, None),
        (Mode::Kernel, Variant::None, Some(ReportKind::OutOfMemory)),
        (
            Mode::FastPath,
            Variant::DipsIntoReserve,
            Some(ReportKind::Allocation),
        ),
    ] {
        let fixture = Fixture::with(1, variant);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 512);
        let watermarks = Watermarks::new(pages, LEVELS, &NoReclaim);
        exhaust(&cpu, &watermarks, mode);
        let right = variant == Variant::None;
        assert_eq!(pages.free_estimate() == LEVELS.min, right, "{variant:?}");
        assert_eq!(fixture.errors() == 0, right, "{variant:?}");
        assert_eq!(fixture.first_report(), reported, "{variant:?}");
        let left = exhaust(&cpu, &watermarks, Mode::Emergency);
        assert_eq!(left >= LEVELS.min, right, "{variant:?}");
    }
}

#[test]
fn who_must_not_sleep_must_not_reclaim() {
    let rcu: &Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, |_, _| {})));
    for (section, preemptible) in [(true, true), (false, false)] {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let (watermarks, hoard) = watermarks(&cpu, 50, 64);
        let guard = section.then(|| rcu.read_lock(&cpu));
        if !preemptible {
            cpu.preempt_disable();
        }
        assert!(watermarks.allocate(&cpu, DATA, Mode::FastPath).is_err());
        assert_eq!(fixture.errors(), 0);
        assert!(watermarks.allocate(&cpu, DATA, Mode::Kernel).is_err());
        assert_eq!(fixture.first_report(), Some(ReportKind::Allocation));
        assert_eq!(watermarks.make_room(&cpu), 0);
        assert_eq!(fixture.errors(), 2);
        assert_eq!(hoard.calls.load(Relaxed), 0, "it would wait for itself");
        drop(guard);
        if !preemptible {
            cpu.preempt_enable();
        }
        assert!(watermarks.allocate(&cpu, DATA, Mode::Kernel).is_ok());
        assert_eq!(fixture.errors(), 2);
    }
}

#[test]
fn a_fast_path_that_never_pays_is_reported() {
    for pays in [true, false] {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let (watermarks, _) = watermarks(&cpu, 50, 0);
        for _ in 0..1_000 {
            assert!(watermarks.allocate(&cpu, DATA, Mode::FastPath).is_err());
            if pays {
                watermarks.make_room(&cpu);
            }
        }
        let expected = (!pays).then_some(ReportKind::Starvation);
        assert_eq!(fixture.first_report(), expected);
        assert_eq!(fixture.errors(), u64::from(!pays));
    }
}

#[test]
fn the_background_reclaimer_fills_up_to_high() {
    let fixture = Fixture::new(2);
    let cpus = [fixture.cpu(0), fixture.cpu(1)];
    let (watermarks, hoard) = watermarks(&cpus[0], 110, 128);
    std::thread::scope(|scope| {
        scope.spawn(|| watermarks.run_background(&cpus[1]));
        assert!(watermarks.allocate(&cpus[0], DATA, Mode::FastPath).is_ok());
        while watermarks.pages.free_estimate() < LEVELS.high {
            std::thread::yield_now();
        }
        watermarks.stop_background(&cpus[0]);
    });
    assert!(hoard.calls.load(Relaxed) > 0);
    assert_eq!(watermarks.pressure.direct.load(Relaxed), 0);
    assert!(watermarks.pressure.background.load(Relaxed) > 0);
}
