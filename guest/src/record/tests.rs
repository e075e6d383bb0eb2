use super::*;
use crate::fixture::Fixture;
use RecordedPhase::{Control, Moving};
use underfoot_abi::ReportKind;

fn set_phase(fixture: &Fixture, phase: Phase) {
    fixture.header.phase.store(phase as u32, Relaxed);
}

#[test]
fn each_phase_records_into_its_own_set() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    for (phase, accesses) in [
        (Phase::Warmup, 5),
        (Phase::Control, 3),
        (Phase::Moving, 4),
        (Phase::Stop, 6),
    ] {
        set_phase(&fixture, phase);
        for n in 0..accesses {
            assert_eq!(access(&cpu, 0x1000, || n), n);
        }
    }
    assert_eq!(fixture.count(Control, Metric::Access), 3);
    assert_eq!(fixture.count(Moving, Metric::Access), 4);
}

#[test]
fn what_crosses_a_change_of_phase_is_recorded_in_neither() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    set_phase(&fixture, Phase::Control);
    let span = Span::start(&cpu);
    access(&cpu, 0x1000, || set_phase(&fixture, Phase::Moving));
    span.finish(&cpu, Metric::RcuRead);
    for phase in [Control, Moving] {
        assert_eq!(fixture.count(phase, Metric::Access), 0);
        assert_eq!(fixture.count(phase, Metric::RcuRead), 0);
    }
}

#[test]
fn an_access_above_the_threshold_is_a_stall_with_its_address_and_context() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    cpu.context_add(underfoot_abi::Context::LOCK_ONE);
    access(&cpu, 0xbeef_0000, || {
        let start = tsc();
        while cpu.ns(tsc() - start) <= u64::from(cpu.header.stall_threshold_ns) {}
    });
    let stall = cpu.area.stalls.pop().expect("a stall");
    let held = underfoot_abi::Context::LOCK_ONE | underfoot_abi::Context::MOVING;
    assert_eq!((stall.gva, stall.context), (0xbeef_0000, held));
    assert!(stall.end_tsc - stall.start_tsc > 2_000);
    assert_eq!(fixture.count(Moving, Metric::Stall), 1);
}

#[test]
fn what_is_accessed_is_published_while_it_is() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let told = || {
        let began = cpu.area.access_began_tsc.load(Relaxed);
        (began != 0).then(|| (cpu.area.access_gva.load(Relaxed), began))
    };
    assert_eq!(told(), None);
    access(&cpu, 0x1000, || {
        let outer = told().expect("an access");
        assert_eq!(outer.0, 0x1000);
        // As an interrupt does.
        access(&cpu, 0x2000, || {
            let inner = told().expect("another");
            assert!(inner.0 == 0x2000 && inner.1 > outer.1);
        });
        assert_eq!(told(), Some(outer));
    });
    assert_eq!(told(), None);
}

#[test]
fn the_first_error_is_kept_and_all_are_counted() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let line = line!() + 1;
    error(&cpu, 0x10, 1);
    error(&cpu, 0x20, 2);
    assert_eq!(fixture.errors(), 2);
    let first = cpu.area.first_error.each_ref().map(|w| w.load(Relaxed));
    assert_eq!(first, [0x10, 1]);
    assert_eq!(cpu.area.first_error_line.load(Relaxed), line);
    let file = cpu.area.first_error_file.each_ref();
    let file = file.map(|byte| byte.load(Relaxed));
    let end = file
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(file.len());
    assert!(file!().as_bytes().ends_with(&file[..end]) && end > 8);
}

/// Runs `probe` at `now`, with an access that ends at `end`; whether it was made.
fn run(probe: &mut Probe, cpu: &Cpu, now: u64, end: u64) -> bool {
    let mut made = false;
    probe.run_at(cpu, now, || made = true, || end);
    made
}

#[test]
fn the_probe_counts_every_missed_slot_from_when_it_should_have_begun() {
    let fixture = Fixture::new(1); // 10 us, and a TSC of 1 GHz
    let cpu = fixture.cpu(0);
    let mut probe = Probe::new(&cpu);
    assert!(
        !run(&mut probe, &cpu, 0, 0),
        "the schedule only starts here"
    );
    assert!(!run(&mut probe, &cpu, 9_999, 0));
    assert!(run(&mut probe, &cpu, 10_000, 10_100));
    assert!(!run(&mut probe, &cpu, 19_999, 0));
    // Slots at 20, 30 and 40 us end at 45 us: latencies of 25, 15 and 5 us.
    assert!(run(&mut probe, &cpu, 44_000, 45_000));
    let histogram = &cpu.area.histograms[Moving as usize][Metric::Probe as usize];
    assert_eq!(histogram.count.load(Relaxed), 4);
    assert_eq!(histogram.sum.load(Relaxed), 100 + 25_000 + 15_000 + 5_000);
    assert!(!run(&mut probe, &cpu, 49_999, 0));
    assert!(run(&mut probe, &cpu, 50_000, 50_050));
}

#[test]
fn a_long_gap_is_recorded_over_many_calls_and_whole() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let mut probe = Probe::new(&cpu);
    run(&mut probe, &cpu, 0, 0);
    // A gap of 100 ms: 10,000 slots.
    assert!(run(&mut probe, &cpu, 100_000_000, 100_000_000));
    let count = || fixture.count(Moving, Metric::Probe);
    assert!(count() < 1_000, "one call's work is bounded");
    let mut calls = 1;
    while count() < 10_000 {
        assert!(!run(&mut probe, &cpu, 100_000_001, 0));
        calls += 1;
        assert!(calls < 1_000);
    }
    run(&mut probe, &cpu, 100_000_002, 0);
    assert_eq!(count(), 10_000);
}

#[test]
fn the_probe_starts_anew_in_a_new_phase() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let mut probe = Probe::new(&cpu);
    set_phase(&fixture, Phase::Control);
    run(&mut probe, &cpu, 0, 0);
    set_phase(&fixture, Phase::Moving);
    assert!(!run(&mut probe, &cpu, 50_000, 0));
    assert!(run(&mut probe, &cpu, 60_000, 60_000));
    assert_eq!(fixture.count(Control, Metric::Probe), 0);
    assert_eq!(fixture.count(Moving, Metric::Probe), 1);
}

/// Each kind has slots of its own, and all of them are counted.
#[test]
fn many_reports_of_one_kind_hide_no_other() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let kinds = [
        vec![ReportKind::OutOfMemory; 20],
        vec![ReportKind::Fragment],
    ]
    .concat();
    for (number, kind) in kinds.into_iter().enumerate() {
        report(&cpu, kind, [number as u64; 4], format_args!("{number}"));
    }
    let found: Vec<_> = fixture
        .reports()
        .into_iter()
        .map(|report| {
            let words = [&report.kind, &report.number].map(|word| word.load(Relaxed));
            assert_eq!(report.words[3].load(Relaxed), u64::from(words[1]));
            words
        })
        .collect();
    let scarce = ReportKind::OutOfMemory as u32;
    let expected = [
        [scarce, 0],
        [scarce, 1],
        [scarce, 2],
        [scarce, 3],
        [ReportKind::Fragment as u32, 20],
    ];
    assert_eq!(found, expected);
    let made = |kind: ReportKind| fixture.header.reports[kind.index()].made.load(Relaxed);
    assert_eq!(
        [
            ReportKind::OutOfMemory,
            ReportKind::Fragment,
            ReportKind::LockCycle
        ]
        .map(made),
        [20, 1, 0]
    );
    assert_eq!(fixture.header.reports_made.load(Relaxed), 21);
}
