//! Injected causes are found, and nothing is counted twice or forgotten.

use super::*;
use crate::timeline::{PageWindows, Span, SpanLog};
use proptest::prelude::*;
use underfoot_abi::{PAGE_SIZE, StallRecord};
use underfoot_migrator::{Gfn, PageRange};

/// A tick is a ns.
const KHZ: u32 = 1_000_000;
const US: u64 = 1_000;
const S: u64 = 1_000_000_000;

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end)
}

fn cut(stall: Span, evidence: &Evidence) -> Vec<(&'static str, u64)> {
    let pieces = attribute(stall, evidence, Bounds::new(KHZ));
    assert!(parts::tile(&pieces, stall), "{pieces:?}");
    let parts: Parts = pieces.iter().collect();
    let of = |cause: Cause| (cause.name(), parts.of(cause));
    let parts = Cause::ALL.map(of);
    parts.into_iter().filter(|(_, ticks)| *ticks > 0).collect()
}

#[test]
fn stalls_are_cut_by_precedence() {
    let stall = span(1_000 * US, 1_400 * US);
    let at = |start: u64, end: u64| span((1_000 + start) * US, (1_000 + end) * US);
    let before = |us: u64| (1_000 - us) * US;
    let ms = |parts: &[(&'static str, u64)]| -> Vec<(&'static str, u64)> {
        parts.iter().map(|(name, us)| (*name, us * US)).collect()
    };
    let none = Evidence::default;
    let table = [
        (none(), ms(&[("unexplained", 400)])),
        (
            Evidence {
                preempted: vec![at(100, 300)],
                ..none()
            },
            ms(&[("vcpu-preempted", 200), ("unexplained", 200)]),
        ),
        // What two sources tell is the earlier one's; what overlaps itself counts once.
        (
            Evidence {
                preempted: vec![at(100, 300), at(200, 310)],
                windows: vec![at(50, 150)],
                ..none()
            },
            ms(&[
                ("vcpu-preempted", 210),
                ("window", 50),
                ("unexplained", 140),
            ]),
        ),
        // A sleep that begins in a window, or soon behind it, is the window's; another is not.
        (
            Evidence {
                windows: vec![at(0, 10)],
                slept: vec![at(20, 390)],
                ..none()
            },
            ms(&[("window", 10), ("window-wake", 370), ("unexplained", 20)]),
        ),
        (
            Evidence {
                windows: vec![at(0, 10)],
                slept: vec![at(61, 390)],
                ..none()
            },
            ms(&[("window", 10), ("host-sleep", 329), ("unexplained", 61)]),
        ),
        (
            Evidence {
                windows: vec![at(20, 30)],
                slept: vec![at(10, 390)],
                ..none()
            },
            ms(&[("window", 10), ("host-sleep", 370), ("unexplained", 20)]),
        ),
        // An interrupt is under way before its handler is.
        (
            Evidence {
                interrupts: vec![at(150, 160)],
                ..none()
            },
            ms(&[("interrupt", 110), ("unexplained", 290)]),
        ),
        // No fault works for so long; a shorter piece may be one, from the move on.
        (
            Evidence {
                moved_tsc: Some(before(10)),
                ..none()
            },
            ms(&[("unexplained", 400)]),
        ),
        (
            Evidence {
                preempted: vec![at(100, 390)],
                moved_tsc: Some(before(10)),
                ..none()
            },
            ms(&[("vcpu-preempted", 290), ("stage2", 110)]),
        ),
        (
            Evidence {
                moved_tsc: Some((1_000 + 300) * US),
                ..none()
            },
            ms(&[("stage2", 100), ("unexplained", 300)]),
        ),
    ];
    for (evidence, expected) in table {
        assert_eq!(cut(stall, &evidence), expected, "{evidence:?}");
    }
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let one = (0..2_000u64, 0..500u64);
    let one = one.prop_map(|(start, length)| span(start * US, (start + length) * US));
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn parts_add_up_whatever_is_said(
        start in 0..2_000u64,
        length in 0..2_000u64,
        preempted in spans(),
        slept in spans(),
        interrupts in spans(),
        windows in spans(),
        moved_tsc in prop::option::of(0..3_000 * US),
    ) {
        let stall = span(start * US, (start + length) * US);
        let evidence = Evidence { preempted, slept, interrupts, windows, moved_tsc };
        let pieces = attribute(stall, &evidence, Bounds::new(KHZ));
        prop_assert!(parts::tile(&pieces, stall), "{pieces:?}");
        prop_assert!(pieces.windows(2).all(|pair| pair[0].cause != pair[1].cause), "{pieces:?}");
        prop_assert_eq!(pieces.iter().collect::<Parts>().sum(), stall.ticks());
    }
}

/// Each source on its own: what two of them tell is counted twice.
fn attribute_twice(stall: Span, evidence: &Evidence) -> Vec<Piece> {
    let sources = [
        (Cause::VcpuPreempted, &evidence.preempted),
        (Cause::Window, &evidence.windows),
    ];
    let pieces = sources.into_iter().flat_map(|(cause, spans)| {
        let shared = spans.iter().filter_map(move |span| span.and(stall));
        shared.map(move |span| Piece { cause, span })
    });
    pieces.collect()
}

#[test]
fn a_form_that_counts_twice_is_caught() {
    let stall = span(1_000 * US, 1_100 * US);
    let evidence = Evidence {
        preempted: vec![span(1_010 * US, 1_090 * US)],
        windows: vec![span(1_000 * US, 1_080 * US)],
        ..Evidence::default()
    };
    let judged = |pieces| Judged {
        vcpu: 0,
        record: StallRecord {
            start_tsc: stall.start,
            end_tsc: stall.end,
            ..StallRecord::default()
        },
        pieces,
        by_chance: None,
    };
    let mut tally = Tally::default();
    tally.add(judged(attribute(stall, &evidence, Bounds::new(KHZ))));
    assert_eq!(tally.record(KHZ).wrong, 0);
    tally.add(judged(attribute_twice(stall, &evidence)));
    assert_eq!(tally.record(KHZ).wrong, 1);
}

/// Pages of the guest that stalls here.
const FRAMES: u64 = 512;
/// Injected stalls of each cause.
const EACH: usize = 200;

/// A guest of one vCPU whose stalls have known causes, among windows of all pages at random.
struct Injector {
    random: fastrand::Rng,
    sources: Vec<(Cause, u64, u64)>,
    windows: Vec<(u64, Span)>,
    stalls: Vec<(Cause, StallRecord)>,
}

impl Injector {
    /// Every millisecond or so something happens, and windows follow one another all the time.
    fn new(seed: u64) -> Self {
        let mut injector = Self {
            random: fastrand::Rng::with_seed(seed),
            sources: Vec::new(),
            windows: Vec::new(),
            stalls: Vec::new(),
        };
        let causes = Cause::ALL.iter().cycle().take(EACH * Cause::ALL.len());
        let mut now = S;
        for cause in causes {
            now += 500 * US + injector.random.u64(0..500 * US);
            injector.inject(*cause, now);
        }
        let mut at = S;
        while at < now {
            at += 30 * US + injector.random.u64(0..20 * US);
            // Page 0 moves only where that is injected: it is touched in every stall.
            let page = injector.random.u64(16..FRAMES);
            injector.windows.push((page, span(at, at + 10 * US)));
        }
        injector.windows.sort_by_key(|(_, window)| window.end);
        injector
    }

    fn inject(&mut self, cause: Cause, start: u64) {
        let length = 20 * US + self.random.u64(0..60 * US);
        let (begun, end) = (start + 3 * US, start + length);
        let page = self.random.u64(0..16);
        let mut touched = start - 200 * US;
        match cause {
            Cause::Window => self.windows.push((page, span(start - US, end))),
            Cause::WindowWake => {
                self.windows.push((page, span(start, start + US)));
                self.sources.push((Cause::HostSleep, begun, end));
            }
            Cause::Stage2 => {
                touched = start - 2_000 * US;
                self.windows
                    .push((page, span(start - 100 * US, start - 90 * US)));
            }
            Cause::Unexplained => {}
            _ => self.sources.push((cause, begun, end)),
        }
        let record = StallRecord {
            start_tsc: start,
            end_tsc: end,
            gva: page * PAGE_SIZE as u64,
            context: 0,
            code_page: 600,
            stack_page: 601,
            touched_tsc: touched,
        };
        self.stalls.push((cause, record));
    }

    /// What the greatest part of each stall was put down to: `found[injected][cause]`.
    fn confusion(&self) -> [[usize; Cause::ALL.len()]; Cause::ALL.len()] {
        let mut windows = PageWindows::new(FRAMES, 10 * S);
        for (page, window) in &self.windows {
            let start = Gfn(*page);
            windows.add(PageRange { start, pages: 1 }, *window);
        }
        let log = |wanted: Cause| {
            let mut log = SpanLog::new(100 * S);
            let of = self.sources.iter().filter(|(cause, ..)| *cause == wanted);
            of.for_each(|(_, start, end)| log.add(span(*start, *end)));
            log
        };
        let sources = Sources {
            off_cpu: vec![crate::timeline::OffCpu::of(
                log(Cause::VcpuPreempted),
                log(Cause::HostSleep),
            )],
            interrupts: vec![log(Cause::Interrupt)],
            windows,
        };
        let mut judge = Judge::new(KHZ, 10 * S, 7);
        let mut found = [[0; Cause::ALL.len()]; Cause::ALL.len()];
        for (injected, stall) in &self.stalls {
            let judged = judge.judge(&sources, 0, *stall);
            assert!(judged.adds_up());
            let main = Cause::ALL
                .into_iter()
                .max_by_key(|cause| judged.parts().of(*cause));
            let main = main.expect("there are causes");
            found[*injected as usize][main as usize] += 1;
        }
        found
    }
}

#[test]
fn injected_causes_are_found() {
    let found = Injector::new(42).confusion();
    for injected in Cause::ALL {
        let row = found[injected as usize];
        assert_eq!(row.iter().sum::<usize>(), EACH);
        let right = row[injected as usize];
        assert!(right * 100 >= EACH * 95, "{}: {row:?}", injected.name());
    }
}

#[test]
fn windows_that_are_shifted_explain_little() {
    let mut windows = PageWindows::new(FRAMES, 10 * S);
    let mut random = fastrand::Rng::with_seed(3);
    let mut stalls = Vec::new();
    for n in 0..2_000 {
        let start = S + n * 500 * US;
        let page = random.u64(0..FRAMES);
        let range = PageRange {
            start: Gfn(page),
            pages: 1,
        };
        windows.add(range, span(start - 5 * US, start + 20 * US));
        stalls.push(StallRecord {
            start_tsc: start,
            end_tsc: start + 20 * US,
            gva: page * PAGE_SIZE as u64,
            touched_tsc: start - 50 * US,
            ..StallRecord::default()
        });
    }
    let sources = Sources {
        off_cpu: Vec::new(),
        interrupts: Vec::new(),
        windows,
    };
    let mut judge = Judge::new(KHZ, 10 * S, 11);
    judge.moving_since(S);
    let mut tally = Tally::default();
    for stall in stalls {
        tally.add(judge.judge(&sources, 0, stall));
    }
    let record = tally.record(KHZ);
    assert_eq!(record.causes[Cause::Window.name()], record.stalled_ns);
    let placebo = record.placebo.expect("stalls long after the beginning");
    assert_eq!(placebo.real_share, 1.0);
    assert!(placebo.share < 0.02, "{placebo:?}");
    assert!(placebo.stalled_ns < record.stalled_ns);
}

#[test]
fn the_longest_stalls_are_kept_and_the_others_counted() {
    let mut tally = Tally::default();
    for n in 0..5_000u64 {
        let ticks = (n * 7_919) % 5_000;
        let piece = Piece {
            cause: Cause::Unexplained,
            span: span(n, n + ticks),
        };
        tally.add(Judged {
            vcpu: 1,
            record: StallRecord {
                start_tsc: n,
                end_tsc: n + ticks,
                ..StallRecord::default()
            },
            pieces: vec![piece],
            by_chance: None,
        });
    }
    let (longest, left_out) = tally.longest();
    assert_eq!((longest.len(), left_out), (4_096, 904));
    let lengths = longest.iter().map(Judged::ticks);
    assert!(lengths.eq((904..5_000).rev()));
    let record = tally.record(KHZ);
    assert_eq!((record.stalls, record.stalled_ns), (5_000, 12_497_500));
    assert_eq!(record.by_vcpu.len(), 2);
    assert_eq!(record.by_vcpu[1].stalled_ns, record.stalled_ns);
    let tail = record.tail.expect("there were stalls");
    assert_eq!((tail.stalls, tail.from_ns), (5, 4_995));
    assert!(record.placebo.is_none());
}
