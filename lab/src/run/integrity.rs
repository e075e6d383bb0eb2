//! What was checked, and what was found wrong.

use super::session::{Session, WORKED_AFTER_NS};
use super::{dma, frames, guest_moves, replug, results};
use crate::guest_record::{is_error, line};
use crate::names::Mover;
use crate::record::{Ending, FramesRecord, Integrity, Outcome};
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{POISON_OBJECT, POISON_PAGE};
use underfoot_migrator::{BLOCK_PAGES, Counters};
use underfoot_vmm::guest_text;

/// Gathers every check of the run.
pub fn collect(session: &Session<'_>, counters: &Counters, outcome: &Outcome) -> Integrity {
    let mut integrity = Integrity::default();
    engine(&mut integrity, counters);
    if let Some(frames) = frames::record(session) {
        pool(&mut integrity, &frames);
    }
    if let Some(plug) = replug::record(session) {
        integrity.checked += plug.unplugged * u64::from(BLOCK_PAGES);
        let detail = format!(
            "blocks: {} pages were being moved or served when their block was to be unplugged",
            plug.in_use
        );
        fault(&mut integrity, plug.in_use, detail);
    }
    if session.experiment.mover == Mover::Guest {
        guest_moves::check(&mut integrity, session);
    }
    dma::check(&mut integrity, session);
    guest(&mut integrity, session);
    reports(&mut integrity, session);
    if session.audited {
        audit(&mut integrity, session);
    }
    page_events(&mut integrity, session);
    if outcome.ending == Ending::Done {
        ticks(&mut integrity, session);
    }
    integrity
}

fn fault(integrity: &mut Integrity, errors: u64, detail: String) {
    if errors > 0 {
        integrity.errors += errors;
        integrity.details.push(detail);
    }
}

fn engine(integrity: &mut Integrity, counters: &Counters) {
    integrity.checked += counters.checked_frames;
    let same = counters.same_frames;
    fault(
        integrity,
        same,
        format!("frame numbers: {same} committed pages are in the same frame as before"),
    );
    let stale = counters.stale_writes;
    fault(
        integrity,
        stale,
        format!("limbo: {stale} stale writes reached old frames after commit"),
    );
    let lost = counters.lost_pages;
    fault(
        integrity,
        lost,
        format!("engine: {lost} pages could not be put back"),
    );
    let total = counters.total();
    if !total.add_up() {
        fault(
            integrity,
            1,
            format!("counters: they do not add up: {total:?}"),
        );
    }
}

/// What the ledger of the pool of frames found.
fn pool(integrity: &mut Integrity, frames: &FramesRecord) {
    let users = frames.users.values();
    integrity.checked += users.map(|user| user.fast + user.slow).sum::<u64>();
    for (errors, what) in [
        (
            frames.twice,
            "frames were handed out while they were another's",
        ),
        (
            frames.reserve_by_fast_path,
            "times the fast path took what it must leave",
        ),
        (
            frames.unpaid,
            "times somebody fell back and refilled nothing",
        ),
        (frames.reclaimed, "times the fast path refilled the pool"),
    ] {
        fault(integrity, errors, format!("frames: {errors} {what}"));
    }
}

fn guest(integrity: &mut Integrity, session: &Session<'_>) {
    let shared = session.machine.shared();
    for index in 0..shared.cpus() {
        let area = shared.vcpu(index);
        // The guest's word, as are all of these: a sum must not come round to what would fit.
        integrity.checked = integrity.checked.saturating_add(area.checked.load(Relaxed));
        let errors = area.errors.load(Relaxed);
        let [gva, found] = [0, 1].map(|word| area.first_error[word].load(Relaxed));
        let kind = shared
            .page_byte(gva >> 12)
            .map_or("unmapped", |byte| byte.kind().name());
        let first = match gva {
            // Nothing lies there: a rule was broken that is about no word of memory.
            0 => format!("{errors} breaches of its own rules, the first"),
            _ => format!(
                "{errors} wrong check words, the first {found:#x} at {gva:#x} ({kind}{}),",
                poison(found)
            ),
        };
        let file = guest_text(&area.first_error_file);
        let line = area.first_error_line.load(Relaxed);
        fault(
            integrity,
            errors,
            format!("guest: vCPU {index} found {first} by {file}:{line}"),
        );
    }
    let stalls = shared.header().rcu_stalls.load(Relaxed);
    fault(
        integrity,
        stalls,
        format!("guest: its RCU stall detector reported {stalls} grace periods (see the console)"),
    );
}

/// What the guest's checkers found wrong.
fn reports(integrity: &mut Integrity, session: &Session<'_>) {
    let reports = session.machine.shared().reports();
    for report in reports.iter().filter(|report| is_error(report)) {
        fault(integrity, 1, format!("guest: {}", line(report)));
    }
}

/// Says so where a value is the guest's poison of freed memory.
fn poison(found: u64) -> &'static str {
    match found {
        POISON_OBJECT => ", poison of a freed object",
        POISON_PAGE => ", poison of a freed page",
        _ => "",
    }
}

fn audit(integrity: &mut Integrity, session: &Session<'_>) {
    let shared = session.machine.shared();
    // The check words of the audit are among those of the vCPU that did it.
    let found = shared.header().audit_updates.load(Relaxed);
    let made: u64 = (0..shared.cpus())
        .map(|index| shared.vcpu(index).updates.load(Relaxed))
        .fold(0, u64::saturating_add);
    if found != made {
        let detail = format!(
            "audit: {made} updates were made and {found} found: {} lost",
            made.abs_diff(found)
        );
        fault(integrity, 1, detail);
    }
}

/// Every page of which KVM said that it is away came back, was waited for once, and has woken whom it had to.
fn page_events(integrity: &mut Integrity, session: &Session<'_>) {
    for (vcpu, counts) in results::page_events(session).enumerate() {
        integrity.checked += counts.not_present;
        if let Some(wrong) = counts.fault(session.audited) {
            fault(integrity, 1, format!("async: of vCPU {vcpu} {wrong}"));
        }
    }
}

/// Whoever worked took ticks meanwhile; an idle vCPU may have stopped its tick.
fn ticks(integrity: &mut Integrity, session: &Session<'_>) {
    if session.control_ns + session.moving_ns < WORKED_AFTER_NS {
        return;
    }
    let now = session.operations_and_ticks();
    if session.did_nothing() {
        let detail = "guest: its workload did nothing while it was measured".to_owned();
        fault(integrity, 1, detail);
    }
    for (vcpu, (before, now)) in session.begun.iter().zip(now).enumerate() {
        if now.0 > before.0 && now.1 == before.1 {
            fault(
                integrity,
                1,
                format!("guest: vCPU {vcpu} took no timer tick while it was measured"),
            );
        }
    }
}
