//! A run as it might have been, for tests of what is written about one.

use crate::experiment::Experiment;
use crate::guest_record::{GuestCounters, GuestRecord};
use crate::histogram::Histogram;
use crate::host_limits::HostLimits;
use crate::names::Named;
use crate::record::{
    Attribution, AttributionRecord, BacklogPoint, BacklogRecord, Ending, EngineCost, Histograms,
    Host, Integrity, KindCounts, Migration, MigrationCounts, Outcome, PlaceboRecord, RunRecord,
    Snapshot, Stage2, Stalls, Startup, TailRecord, VcpuProgress, Waits,
};
use crate::settings::{Key, Settings};
use crate::units::Size;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};
use underfoot_abi::{Cpl, Metric, PageKind, ReportKind};
use underfoot_vmm::GuestReport;

/// `count` values from `least_ns` on, each a little longer than the one before.
fn spread(count: u64, least_ns: u64) -> Histogram {
    let mut histogram = Histogram::new();
    for index in 0..count {
        histogram.record(least_ns + least_ns * index * index / (count * count / 8).max(1));
    }
    histogram
}

fn guest_histograms(counts: u64) -> Histograms {
    [
        (Metric::Access, counts, 40),
        (Metric::Stall, counts / 10, 2_000),
        (Metric::Probe, counts / 2, 60),
        (Metric::GracePeriod, counts / 100, 1_000_000),
    ]
    .into_iter()
    .map(|(metric, count, least)| (metric.name().to_owned(), spread(count, least)))
    .collect()
}

fn attributed(causes: &[(&'static str, u64)]) -> AttributionRecord {
    AttributionRecord {
        stalled_ns: causes.iter().map(|(_, ns)| ns).sum(),
        stalls: 1_000,
        causes: causes.iter().copied().collect(),
        ..AttributionRecord::default()
    }
}

fn attribution() -> Attribution {
    let moving = [
        ("vcpu-preempted", 5_000_000),
        ("window", 1_000_000),
        ("window-wake", 2_100_000),
        ("interrupt", 150_000),
        ("stage2", 1_800_000),
        ("unexplained", 50_000),
    ];
    Attribution {
        moving: AttributionRecord {
            placebo: Some(PlaceboRecord {
                stalled_ns: 9_000_000,
                share: 0.012,
                real_share: 0.48,
                ..PlaceboRecord::default()
            }),
            tail: Some(TailRecord {
                from_ns: 640_000,
                stalls: 1,
                stalled_ns: 700_000,
                causes: BTreeMap::from([("vcpu-preempted", 650_000), ("window-wake", 50_000)]),
            }),
            ..attributed(&moving)
        },
        control: attributed(&[("interrupt", 90_000), ("unexplained", 10_000)]),
        ..Attribution::default()
    }
}

fn backlog() -> BacklogRecord {
    let mut record = BacklogRecord::default();
    for index in 0..8 {
        let (callbacks, bytes) = (100 * index, 204_800 * index);
        let set = if index < 2 {
            &mut record.control
        } else {
            &mut record.moving
        };
        set.callbacks.record(callbacks);
        set.bytes.record(bytes);
        record.push(BacklogPoint {
            at_ns: 10_000_000 * index,
            callbacks,
            bytes,
        });
    }
    record
}

fn experiment() -> Experiment {
    let mut settings = Settings::default();
    settings.set_flag(Key::Seed, "42");
    let limits = HostLimits {
        cpus: "0-1".parse().expect("a list"),
        memory: Size::from_mib(4096),
    };
    Experiment::resolve(&settings, &limits).expect("defaults fit")
}

fn host() -> Host {
    Host {
        stage2: Stage2::Shadow,
        kvm_module: "kvm_pvm".into(),
        nested: true,
        cpu: "A CPU".into(),
        cpus: 2,
        kernel: "6.18.0".into(),
        snapshot: Snapshot::default(),
        load: None,
        unsupported: BTreeMap::new(),
    }
}

fn migration() -> Migration {
    let counts = MigrationCounts {
        attempted: 31_245,
        committed: 31_234,
        aborted: 1,
        skipped: 10,
        retried: 2,
    };
    let by_kind = PageKind::ALL.iter().map(|kind| {
        (
            *kind,
            KindCounts {
                counts,
                verified: Some(31),
            },
        )
    });
    Migration {
        counts: MigrationCounts {
            attempted: 312_450,
            committed: 312_340,
            aborted: 10,
            skipped: 100,
            retried: 20,
        },
        by_kind: by_kind.collect(),
        aborted_by: BTreeMap::new(),
        refused: BTreeMap::new(),
        moving_ns: 8_000_000_000,
    }
}

/// What a checker might have said, in this slot.
pub(crate) fn test_report(number: u32, kind: ReportKind) -> GuestReport {
    GuestReport {
        number,
        kind: Ok(kind),
        cpu: 1,
        tsc: 1_000,
        words: [1, 2, 3, 4],
        text: "tree -> list -> tree".into(),
    }
}

/// A sound run of the defaults, with seed 42, that moved 31,234 pages of each kind.
pub(crate) fn test_record() -> RunRecord {
    let mut moving = guest_histograms(10_000);
    moving.insert("window".into(), spread(9_000, 5_000));
    moving.insert("migration".into(), spread(9_000, 7_000));
    RunRecord {
        started: UNIX_EPOCH + Duration::from_secs(1_795_235_321),
        experiment: experiment(),
        cpl: Some(Cpl::Three),
        host: host(),
        outcome: Outcome {
            ending: Ending::Done,
            message: None,
        },
        migration: migration(),
        integrity: Integrity {
            checked: 1_234_567,
            errors: 0,
            details: Vec::new(),
        },
        moving,
        control: guest_histograms(2_000),
        control_ns: 2_000_000_000,
        guest: GuestRecord {
            control: GuestCounters::from([("operations", 2_600_000)]),
            moving: GuestCounters::from([("operations", 9_872_000)]),
            backlog: Some(backlog()),
            ..GuestRecord::default()
        },
        progress: vec![VcpuProgress {
            operations: 7,
            ..VcpuProgress::default()
        }],
        kvm_stats: None,
        startup_ns: Startup {
            guest_entry: Some(9_000_000),
            first_operation: Some(12_300_000),
        },
        stalls: Stalls {
            total: 1_000,
            dropped: 0,
            own_window: Some(990),
            own_window_by_kind: BTreeMap::from([("data", 990)]),
            own_window_by_wait: BTreeMap::from([("halt", 990)]),
            own_window_interrupts: BTreeMap::new(),
        },
        attribution: Some(attribution()),
        waits: Waits {
            policy: "halt",
            hypervisor_pages: BTreeMap::from([("descriptor", 3)]),
            spins: Vec::new(),
            page_events: Vec::new(),
        },
        engine: Some(EngineCost {
            pages: 16_384,
            state_bytes: 131_072,
            limbo_stride: 1,
            uncounted_pages: 0,
            moved_along: 0,
            conflicts: 0,
            wasted_copies: 0,
            fallbacks: 0,
        }),
        watchdog: None,
        frames: None,
        plug: None,
        dma: None,
        antagonists: Vec::new(),
        torment: None,
    }
}
