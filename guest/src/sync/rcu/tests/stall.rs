//! What a stall's report says of the CPUs waited for.

use super::*;
use crate::{Sighting, Sightings, arch::tsc};
use underfoot_abi::{REPORT_TEXT, ReportKind};

/// CPU 0 reports a stall that waits for the CPUs in `waiting`: the words, and the text from the CPUs on.
fn reported(fixture: &Fixture, waiting: u64) -> ([u64; 4], String) {
    let stall = RcuStall {
        kind: RcuKind::Classic,
        grace_period: 7,
        age_ns: 4_002_000_000,
        waiting,
        reader: None,
    };
    RcuStall::report(&fixture.cpu(0), &stall);
    let report = *fixture.reports().last().expect("a report");
    assert_eq!(
        report.kind.load(Relaxed),
        ReportKind::RcuStall as u32,
        "its kind"
    );
    let text: Vec<u8> = report.text.iter().map(|byte| byte.load(Relaxed)).collect();
    let text = String::from_utf8_lossy(&text[..report.text_len.load(Relaxed) as usize]);
    let told = text.strip_prefix("classic: grace period 7 is 4002 ms old, waiting for CPUs ");
    let told = told.expect("the grace period").to_owned();
    (report.words.each_ref().map(|word| word.load(Relaxed)), told)
}

#[test]
fn a_cpu_that_ticks_is_told_with_where_it_was_and_not_the_reporter() {
    let fixture = Fixture::new(2);
    fixture.cpu(0).sightings.note(0, 0xbad);
    // Not before the report, however long this takes.
    fixture.sightings.note_at(1, 0x0020_1234, u64::MAX);
    let (words, told) = reported(&fixture, 0b10);
    assert_eq!(words, [7, 4_002_000_000, 0b10, 0x0020_1234]);
    assert_eq!(told, "0x2; CPU 1 was at 0x201234 0 ms ago");
}

#[test]
fn a_cpu_without_ticks_is_told_with_how_long() {
    let fixture = Fixture::new(2);
    fixture.cpu(0).sightings.note(0, 0xbad);
    let (words, told) = reported(&fixture, 0b10);
    assert_eq!(words[2..], [0b10, 0]);
    assert_eq!(told, "0x2; CPU 1 never took a tick");
    fixture
        .sightings
        .note_at(1, 0x0020_1234, tsc() - 900_000_000);
    let (words, told) = reported(&fixture, 0b10);
    assert_eq!(words[2..], [0b10, 0x0020_1234]);
    let ms = told.strip_prefix("0x2; CPU 1 took no tick for ");
    let ms = ms.and_then(|rest| rest.strip_suffix(" ms, last at 0x201234"));
    let ms: u64 = ms.and_then(|ms| ms.parse().ok()).expect(&told);
    assert!(ms >= 900, "{told}");
}

#[test]
fn the_first_of_many_cpus_are_told_one_by_one() {
    let fixture = Fixture::new(8);
    let (_, told) = reported(&fixture, 0b1111_0100);
    assert_eq!(
        told,
        "0xf4; CPU 2 never took a tick; CPU 4 never took a tick; and 3 more"
    );
    // Numbers with many digits fit too.
    let long_ago = tsc() - 100_000_000_000;
    for id in 60..64 {
        fixture.sightings.note_at(id, u32::MAX.into(), long_ago);
    }
    let (_, told) = reported(&fixture, 0xf << 60);
    assert!(told.ends_with("; and 2 more"), "{told}");
    assert!(told.len() < REPORT_TEXT);
}

#[test]
fn a_tick_is_noted_with_its_time() {
    let sightings = Sightings::new();
    assert_eq!(sightings.of(1), None);
    let before = tsc();
    sightings.note(1, 0xfeed);
    let Sighting { position, tsc: at } = sightings.of(1).expect("it ticked");
    assert_eq!((position, sightings.of(0)), (0xfeed, None));
    assert!((before..=tsc()).contains(&at));
}
