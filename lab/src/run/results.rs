//! From a session that is over to its record.

use super::engine::Engine;
use super::observer::{EventRecorder, HostMetric};
use super::session::{KvmCounters, Session, one_clock};
use super::stalls::GUEST_WAITS;
use super::{ProcessStart, dma, frames, guest_moves, integrity, replug};
use crate::guest_record::{GuestCounters, GuestRecord, combined};
use crate::histogram::Histogram;
use crate::names::Mover;
use crate::record::{
    AFTER_WINDOW, CYCLE_FOUND, Histograms, Host, KindCounts, KvmStats, Migration, MigrationCounts,
    OWN_WINDOW, Outcome, PageEventCounts, RunRecord, Spins, Stage2, Stalls, Startup, TormentCounts,
    VCPU_PREEMPTED, VcpuProgress, Waits,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Cpl, Metric, RecordedPhase};
use underfoot_migrator::{BackendKind, Counters, Counts, StrategyKind, WaitKind, can_verify};
use underfoot_vmm::SharedRegion;
use underfoot_vmm::stats::Stats;

/// The counter of shootdowns that sent single interrupts where a hypercall was asked for.
pub const HYPERCALLS_REFUSED: &str = "hypercalls-refused";

/// Puts the record together; everything that could still write has been joined.
pub fn collect(session: &Session<'_>, outcome: Outcome) -> RunRecord {
    let shared = session.machine.shared();
    let counters = session
        .engine
        .as_ref()
        .map(Engine::counters)
        .unwrap_or_default();
    let mut moving = guest_histograms(shared, RecordedPhase::Moving);
    if let Some(engine) = &session.engine {
        moving.extend(host_histograms(session, engine));
        moving.insert(CYCLE_FOUND.to_owned(), engine.cycles_found());
        moving.extend(replug::histograms(engine));
    }
    let moves = session.experiment.strategy != StrategyKind::None;
    if moves && session.experiment.mover == Mover::Guest {
        moving.extend(guest_moves::histograms(shared));
    }
    if let Some(device) = &session.dma {
        moving.extend(dma::histograms(device));
    }
    let stalls = stalls(session);
    if stalls.own_window.is_some() {
        let own = &session.own_window;
        moving.insert(OWN_WINDOW.to_owned(), own.stall.clone());
        moving.insert(AFTER_WINDOW.to_owned(), own.after.clone());
    }
    let mut control = guest_histograms(shared, RecordedPhase::Control);
    if let Some([Ok(of_control), Ok(of_moving)]) = &session.preempted {
        control.insert(VCPU_PREEMPTED.to_owned(), of_control.clone());
        moving.insert(VCPU_PREEMPTED.to_owned(), of_moving.clone());
    }
    let guest = guest(session);
    RunRecord {
        started: session.started,
        experiment: session.experiment.clone(),
        cpl: level(shared),
        host: host(session, &guest),
        migration: migration(session, &counters),
        integrity: integrity::collect(session, &counters, &outcome),
        outcome,
        moving,
        control,
        control_ns: session.control_ns,
        guest,
        progress: progress(session),
        kvm_stats: kvm_stats(session),
        startup_ns: startup(session),
        stalls,
        attribution: session.attribution.clone(),
        waits: waits(session),
        engine: session.engine.as_ref().map(Engine::cost),
        watchdog: session.engine.as_ref().map(Engine::watchdog),
        frames: frames::record(session),
        plug: replug::record(session),
        dma: dma::record(session),
        antagonists: session.antagonist_records.clone(),
        torment: session.experiment.torment.then_some(TormentCounts {
            aborts: counters.injected_aborts,
            pauses: counters.pauses,
            holds: session.holds,
        }),
    }
}

fn level(shared: &SharedRegion) -> Option<Cpl> {
    let header = shared.header();
    // Zero before the guest has said anything, and CPL 0 afterwards.
    if header.entered_tsc.load(Relaxed) == 0 {
        return None;
    }
    match header.cpl_in_force.load(Relaxed) {
        0 => Some(Cpl::Zero),
        3 => Some(Cpl::Three),
        _ => None,
    }
}

fn guest_histograms(shared: &SharedRegion, phase: RecordedPhase) -> Histograms {
    let of = |metric: &Metric| {
        (
            metric.name().to_owned(),
            guest_histogram(shared, phase, *metric),
        )
    };
    Metric::ALL.iter().map(of).collect()
}

/// What all vCPUs measured of `metric` in `phase` so far.
pub(super) fn guest_histogram(
    shared: &SharedRegion,
    phase: RecordedPhase,
    metric: Metric,
) -> Histogram {
    let mut histogram = Histogram::new();
    for index in 0..shared.cpus() {
        histogram.add_guest(&shared.vcpu(index).histograms[phase as usize][metric as usize]);
    }
    histogram
}

/// What `recorders` have of `metric` so far.
pub(super) fn merged<'a>(
    recorders: impl IntoIterator<Item = &'a Arc<EventRecorder>>,
    metric: HostMetric,
) -> Histogram {
    let mut histogram = Histogram::new();
    for recorder in recorders {
        histogram.add_guest(recorder.histogram(metric));
    }
    histogram
}

fn guest(session: &Session<'_>) -> GuestRecord {
    let shared = session.machine.shared();
    let counters = |phase: RecordedPhase| -> GuestCounters {
        let by_vcpu = (0..shared.cpus()).map(|index| {
            let counters = &shared.vcpu(index).counters[phase as usize];
            counters.each_ref().map(|counter| counter.load(Relaxed))
        });
        combined(session.experiment.workload, by_vcpu)
    };
    let reports_made = shared.header().reports_made.load(Relaxed);
    GuestRecord {
        control: counters(RecordedPhase::Control),
        moving: counters(RecordedPhase::Moving),
        last_answers: (0..shared.cpus())
            .map(|index| shared.vcpu(index).last_answers.each_ref())
            .map(|phases| phases.map(|count| count.load(Relaxed)))
            .collect(),
        reports_made,
        reports_by_kind: shared.reports_by_kind(),
        reports: shared.reports(),
        backlog: session.backlog_record.clone(),
        reports_before_end: session.reports_before_end.unwrap_or(reports_made),
    }
}

fn host_histograms(session: &Session<'_>, engine: &Engine) -> Histograms {
    let merged = |metric: HostMetric| {
        let all = engine.recorders().iter().chain(engine.fault_recorders());
        (metric.name().to_owned(), merged(all, metric))
    };
    let strategy = session.experiment.engine_strategy();
    let measured = |metric: &HostMetric| match metric {
        HostMetric::Fault | HostMetric::Broken => true,
        HostMetric::Write | HostMetric::Protect => strategy.protects(),
        HostMetric::Invalidate | HostMetric::Quiet => session.dma.is_some(),
        HostMetric::Locked => {
            strategy != StrategyKind::None
                && matches!(
                    session.experiment.backend,
                    BackendKind::Remap | BackendKind::Memslot
                )
        }
        _ => strategy != StrategyKind::None,
    };
    HostMetric::ALL
        .into_iter()
        .filter(measured)
        .map(merged)
        .collect()
}

fn host(session: &Session<'_>, guest: &GuestRecord) -> Host {
    let info = &session.host;
    let mut unsupported: BTreeMap<String, String> = info
        .unsupported
        .iter()
        .map(|(what, reason)| ((*what).to_owned(), (*reason).to_owned()))
        .collect();
    let mut lacks = |what: &str, reason: String| {
        unsupported.insert(what.to_owned(), reason);
    };
    if session.kvm_before.is_none() {
        lacks("kvm_stats", "KVM_GET_STATS_FD gives nothing here".into());
    }
    if session.windows_dropped > 0 {
        let dropped = session.windows_dropped;
        lacks(
            "stalls.own_window",
            format!("{dropped} windows came too fast to be held against stalls"),
        );
    }
    if let Some([Err(reason), _]) = &session.preempted {
        lacks(VCPU_PREEMPTED, reason.clone());
    }
    let refused = |counters: &GuestCounters| counters.get(HYPERCALLS_REFUSED).copied();
    let refused: u64 = [&guest.control, &guest.moving]
        .into_iter()
        .filter_map(refused)
        .sum();
    if refused > 0 {
        let cpl = level(session.machine.shared());
        lacks("guest.tlb.hypercall", without_hypercall(refused, cpl));
    }
    if !one_clock(&session.machine) {
        let reason = "guest and host TSC differ, so that stalls and windows cannot be compared";
        lacks("stalls.own_window", reason.into());
        lacks("attribution", reason.into());
    }
    Host {
        stage2: match info.stage2 {
            underfoot_vmm::Stage2::Ept => Stage2::Ept,
            underfoot_vmm::Stage2::Npt => Stage2::Npt,
            underfoot_vmm::Stage2::Shadow => Stage2::Shadow,
        },
        kvm_module: info.module.to_owned(),
        nested: info.nested,
        cpu: info.cpu.clone(),
        cpus: info.cpus,
        kernel: info.kernel.clone(),
        snapshot: session.snapshot.clone(),
        load: session.load,
        unsupported,
    }
}

/// Why `shootdowns` of a guest at `cpl` sent single interrupts though a hypercall was asked for.
fn without_hypercall(shootdowns: u64, cpl: Option<Cpl>) -> String {
    let why = match cpl {
        Some(Cpl::Zero) => "KVM did not take the hypercall for interrupts",
        _ => "the guest makes no hypercall for interrupts at CPL 3",
    };
    format!("{why}: {shootdowns} shootdowns sent single interrupts")
}

fn migration(session: &Session<'_>, counters: &Counters) -> Migration {
    if session.experiment.mover == Mover::Guest {
        return guest_moves::migration(session);
    }
    let frames_known = can_verify().is_ok();
    let by_kind = session.experiment.targets.kinds().iter().map(|kind| {
        let counts = counters.by_class[*kind as usize];
        let verified = frames_known.then_some(counts.verified);
        (
            *kind,
            KindCounts {
                counts: convert(counts, 0),
                verified,
            },
        )
    });
    Migration {
        counts: convert(counters.total(), counters.retried),
        by_kind: by_kind.collect(),
        aborted_by: aborted_by(session),
        refused: BTreeMap::new(),
        moving_ns: session.moving_ns,
    }
}

/// Pages aborted by the reasons that there were.
fn aborted_by(session: &Session<'_>) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    let recorders = session.engine.iter().flat_map(|engine| engine.recorders());
    for (reason, pages) in recorders.flat_map(|recorder| recorder.aborted()) {
        if pages > 0 {
            *sums.entry(reason).or_default() += pages;
        }
    }
    sums
}

fn convert(counts: Counts, retried: u64) -> MigrationCounts {
    MigrationCounts {
        attempted: counts.attempted,
        committed: counts.committed,
        aborted: counts.aborted,
        skipped: counts.skipped,
        retried,
    }
}

fn progress(session: &Session<'_>) -> Vec<VcpuProgress> {
    let shared = session.machine.shared();
    let mut gaps = session.gaps.iter();
    (0..shared.cpus())
        .map(|vcpu| {
            let area = shared.vcpu(vcpu);
            let gap = gaps.next();
            VcpuProgress {
                vcpu,
                operations: area.progress.load(Relaxed),
                ticks: area.ticks.load(Relaxed),
                ipis: area.ipis.load(Relaxed),
                checked: area.checked.load(Relaxed),
                errors: area.errors.load(Relaxed),
                updates: area.updates.load(Relaxed),
                longest_gap_ns: gap.map(|gap| gap.longest_gap_ns),
                longest_raw_gap_ns: gap.map(|gap| gap.longest_raw_gap_ns.max(gap.open_gap_ns)),
                open_gap_ns: gap.map(|gap| gap.open_gap_ns),
            }
        })
        .collect()
}

fn kvm_stats(session: &Session<'_>) -> Option<KvmStats> {
    let before = session.kvm_before.as_ref()?;
    let KvmCounters { vm, vcpus } = session.kvm_counters()?;
    let named = |after: &Stats, before: &Stats| -> BTreeMap<String, u64> {
        let change = after.since(before);
        change
            .iter()
            .filter_map(|(name, _, values)| match values {
                [value] => Some((name.to_owned(), *value)),
                _ => None,
            })
            .collect()
    };
    Some(KvmStats {
        vm: named(&vm, &before.vm),
        vcpus: vcpus
            .iter()
            .zip(&before.vcpus)
            .map(|(after, before)| named(after, before))
            .collect(),
    })
}

/// The guest's stalls; those in windows only where they can be told from the others.
fn stalls(session: &Session<'_>) -> Stalls {
    let mut stalls = session.stall_counts.clone();
    if session.windows_dropped > 0 || !one_clock(&session.machine) {
        stalls.own_window = None;
        stalls.own_window_by_kind.clear();
        stalls.own_window_by_wait.clear();
        stalls.own_window_interrupts.clear();
    } else if session.engine.is_some() {
        stalls.own_window.get_or_insert(0);
    }
    if session.experiment.backend == BackendKind::Kernel {
        // Its one call takes pages away and brings them back: nobody sees when they are certainly away.
        stalls.own_window_interrupts.clear();
    }
    stalls
}

fn waits(session: &Session<'_>) -> Waits {
    let shared = session.machine.shared();
    let mut hypervisor_pages = BTreeMap::new();
    for gfn in 0..shared.frames() {
        let byte = shared.page_byte(gfn).filter(|byte| byte.hypervisor());
        if let Some(byte) = byte {
            *hypervisor_pages.entry(byte.kind().name()).or_default() += 1;
        }
    }
    let spins = match session.experiment.wait.signals() {
        true => shared.cpus(),
        false => 0,
    };
    Waits {
        policy: match session.experiment.mover {
            Mover::Host => session.experiment.wait.name(),
            Mover::Guest => GUEST_WAITS,
        },
        hypervisor_pages,
        spins: (0..spins)
            .map(|index| {
                let counts = session.machine.vcpus().wait_counts(index);
                Spins {
                    faults: counts.faults,
                    closed: counts.closed,
                    spun: counts.spun,
                    yielded: counts.yielded,
                    bounded: counts.bounded,
                    interrupted: counts.interrupted,
                }
            })
            .collect(),
        page_events: page_events(session).collect(),
    }
}

/// By vCPU, if the guest is told of pages that are away.
pub fn page_events(session: &Session<'_>) -> impl Iterator<Item = PageEventCounts> {
    let shared = session.machine.shared();
    let told = match session.experiment.wait {
        WaitKind::Async => shared.cpus(),
        _ => 0,
    };
    (0..told).map(|index| PageEventCounts::read(&shared.vcpu(index).page_events))
}

fn startup(session: &Session<'_>) -> Startup {
    let header = session.machine.shared().header();
    let ProcessStart { tsc, spent_ns } = session.process_start;
    let khz = u128::from(session.machine.tsc_khz());
    let since = |then: u64| {
        let ticks = then.checked_sub(tsc).filter(|_| then != 0)?;
        Some(spent_ns + (u128::from(ticks) * 1_000_000 / khz) as u64)
    };
    Startup {
        guest_entry: since(header.entered_tsc.load(Relaxed)),
        first_operation: since(header.first_operation_tsc.load(Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_refuses_only_what_it_was_asked() {
        let refused = without_hypercall(133, Some(Cpl::Zero));
        let unasked = without_hypercall(133, Some(Cpl::Three));
        assert!(refused.contains("KVM did not take"), "{refused}");
        assert!(!unasked.contains("KVM"), "{unasked}");
        assert!(unasked.contains("no hypercall for interrupts at CPL 3"));
        for why in [refused, unasked] {
            assert!(why.ends_with(": 133 shootdowns sent single interrupts"));
        }
    }
}
