//! What the guest feels of pages that it mostly reads: stalled time per page moved, and its paced probe, by
//! strategy, beside `unmap-copy`. Short runs of the whole laboratory, one after the other in one process. Then how little
//! it can be on this host.

mod floor;

use underfoot::experiment::Experiment;
use underfoot::host_limits::HostLimits;
use underfoot::image::GUEST_IMAGE;
use underfoot::record::RunRecord;
use underfoot::run::{ProcessStart, Setting, run};
use underfoot::settings::{Key, Settings};
use underfoot_abi::Metric;
use underfoot_benches::guest::Guest;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_migrator::{PageSize, StrategyKind};
use underfoot_vmm::Console;

const ROUNDS: usize = 7;
/// The first is what the others are held against.
const STRATEGIES: [StrategyKind; 3] = [
    StrategyKind::UnmapCopy,
    StrategyKind::ProtectCopy,
    StrategyKind::Transactional,
];
/// Page sizes, how many pages of 4 KiB move per second, and the bar.
const SIZES: [(PageSize, u32, f64); 2] = [
    (PageSize::Small, 20_000, 1.0),
    (PageSize::Huge, 102_400, 0.5),
];
/// p99.9 in parts of ten thousand.
const P99_9: u16 = 9_990;

/// What one run measured.
#[derive(Clone, Copy, Default)]
struct Felt {
    stalled_ns_per_page: Option<f64>,
    probe_ns: Option<f64>,
    /// Faults of the guest that KVM mended, per 4 KiB moved; the audit's are among them.
    faults_per_page: Option<f64>,
}

fn main() {
    if !noise::begin("stalls") {
        return;
    }
    noise::report("before");
    let limits = HostLimits::detect().expect("what the host has");
    println!(
        "pages that one vCPU reads all the time and never writes, {ROUNDS} interleaved runs of each; stalled ns per 4 KiB moved; probe p99.9 in ns"
    );
    println!(
        "pages  strategy       stalled  of unmap-copy           bar          probe p99.9  of unmap-copy           bar          KVM's faults"
    );
    let mut bars = Bars::default();
    for (size, rate, bar) in SIZES {
        let mut felt: [Vec<Felt>; STRATEGIES.len()] = Default::default();
        for _ in 0..ROUNDS {
            for (strategy, felt) in STRATEGIES.iter().zip(&mut felt) {
                felt.push(once(*strategy, size, rate, &limits));
            }
        }
        for (strategy, all) in STRATEGIES.iter().zip(&felt) {
            show(size, *strategy, all, &felt[0], bar, &mut bars);
        }
    }
    println!(
        "the ring moved by bare calls, {} interleaved slices; without what the host does in a slice in which nothing moves, and stalls above 1 ms",
        floor::ROUNDS
    );
    for (size, rate, _) in SIZES {
        floor::show(size, rate);
    }
    noise::report("after");
    bars.end();
}

fn show(
    size: PageSize,
    strategy: StrategyKind,
    all: &[Felt],
    base: &[Felt],
    bar: f64,
    bars: &mut Bars,
) {
    let column = |of: fn(&Felt) -> Option<f64>, bars: &mut Bars| {
        let [here, there] = [all, base].map(|felt| felt.iter().map(of).collect::<Vec<_>>());
        let ratios = Ratios::of(&here, &there);
        let verdict = match strategy == STRATEGIES[0] {
            true => String::new(),
            false => bars.hold(&ratios, bar),
        };
        (shown(median(here)), ratios, verdict)
    };
    let (stalled, stalled_ratios, stalled_verdict) = column(|felt| felt.stalled_ns_per_page, bars);
    let (probe, probe_ratios, probe_verdict) = column(|felt| felt.probe_ns, bars);
    println!(
        "{:<5}  {:<13}  {stalled:>7}  {stalled_ratios:<22}  {stalled_verdict:<11}  {probe:>11}  {probe_ratios:<22}  {probe_verdict:<11}  {:>12.3}",
        size.name(),
        strategy.name(),
        median(all.iter().map(|felt| felt.faults_per_page)).unwrap_or_default(),
    );
}

/// One run.
///
/// # Panics
/// If it is not sound.
fn once(strategy: StrategyKind, size: PageSize, rate: u32, limits: &HostLimits) -> Felt {
    let mut settings = Settings::default();
    let ring = Guest::RING;
    for (key, value) in [
        (Key::Workload, "chase"),
        (Key::Parameters, &format!("threads=1,pages={ring}")),
        (Key::Strategy, strategy.name()),
        (Key::PageSize, size.name()),
        (Key::Hugepages, &(size == PageSize::Huge).to_string()),
        (Key::Target, "data"),
        (Key::Rate, &rate.to_string()),
        (Key::Cpus, "1"),
        (Key::Warmup, "100ms"),
        (Key::Duration, "800ms"),
        (Key::Control, "10%"),
        (Key::ProbePeriod, "20us"),
        (Key::Seed, "1"),
    ] {
        settings.set_flag(key, value);
    }
    let experiment = Experiment::resolve(&settings, limits).expect("a sound experiment");
    let record = run(
        &experiment,
        Setting {
            interval: None,
            image: GUEST_IMAGE,
            console: Console::discard(),
            process_start: ProcessStart::of_later_run(),
            progress: &mut |_, _| (),
        },
    )
    .expect("a run (see `underfoot doctor`)");
    felt(&record)
}

fn felt(record: &RunRecord) -> Felt {
    let (outcome, integrity) = (&record.outcome, &record.integrity);
    assert!(record.is_sound(), "{outcome:?}, {integrity:?}");
    let probe = record.moving.get(Metric::Probe.name());
    let faults = record.kvm_stats.as_ref().map(|stats| {
        let of_vcpus = stats.vcpus.iter().filter_map(|vcpu| vcpu.get("pf_fixed"));
        of_vcpus.sum::<u64>() as f64
    });
    Felt {
        stalled_ns_per_page: record.stalled_ns_per_page(),
        probe_ns: probe
            .and_then(|probe| probe.percentile(P99_9))
            .map(|ns| ns as f64),
        faults_per_page: faults.map(|faults| faults / record.migration.counts.committed as f64),
    }
}
