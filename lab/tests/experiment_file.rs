//! Experiments: defaults, files, flags over files, and files that repeat a run.

use std::path::Path;
use underfoot::experiment::Experiment;
use underfoot::host_limits::HostLimits;
use underfoot::settings::{ExperimentError, Key, Settings};
use underfoot::units::{Seed, Size, Span};
use underfoot_abi::PageKind;
use underfoot_migrator::{BackendKind, StrategyKind, WaitKind};

fn limits() -> HostLimits {
    HostLimits {
        cpus: "0-3".parse().expect("a list"),
        memory: Size::from_mib(4096),
    }
}

fn resolve(flags: &[(Key, &str)], file: &str) -> Result<Experiment, ExperimentError> {
    let mut settings = Settings::default();
    for (key, value) in flags {
        settings.set_flag(*key, *value);
    }
    settings.read_toml(Path::new("x.toml"), file)?;
    Experiment::resolve(&settings, &limits())
}

#[test]
fn defaults_are_those_of_the_design() {
    let experiment = resolve(&[], "").expect("defaults");
    assert_eq!(experiment.strategy, StrategyKind::UnmapCopy);
    assert_eq!(experiment.backend, BackendKind::Move);
    assert_eq!(experiment.wait, WaitKind::Halt);
    assert_eq!(experiment.targets.kinds(), PageKind::TARGETS);
    assert_eq!((experiment.batch.get(), experiment.cpus.get()), (1, 4));
    assert_eq!(experiment.rate.pages_per_second(), None);
    assert_eq!(experiment.memory, Size::from_mib(64));
    assert_eq!(experiment.control_span(), Span::from_ms(2_000));
    assert_eq!(experiment.moving_span(), Span::from_ms(8_000));
    assert_eq!(experiment.warmup, Span::from_ms(500));
    assert_eq!(experiment.stall_threshold, Span::from_ns(2_000));
    assert!(!experiment.hugepages && experiment.kernel.is_none());
}

#[test]
fn flags_win_over_the_file() {
    let file = "batch = 32\nduration = '2s'\ntarget = ['slab', 'text']\nhugepages = true";
    let experiment = resolve(&[(Key::Batch, "7")], file).expect("valid");
    assert_eq!(experiment.batch.get(), 7);
    assert_eq!(experiment.duration, Span::from_ms(2_000));
    assert_eq!(experiment.targets.kinds(), [PageKind::Text, PageKind::Slab]);
    assert!(experiment.hugepages);
}

#[test]
fn what_a_flag_overrides_need_not_be_right() {
    assert!(resolve(&[(Key::Batch, "7")], "batch = 513").is_ok());
    assert!(resolve(&[], "batch = 513").is_err());
}

#[test]
fn the_file_of_a_run_repeats_it() {
    let flags = [
        (Key::Seed, "18446744073709551615"),
        (Key::Strategy, "stop-world"),
        (Key::Backend, "copy"),
        (Key::Wait, "block"),
        (Key::Target, "free,slab"),
        (Key::Rate, "5000"),
        (Key::Batch, "512"),
        (Key::Movers, "2"),
        (Key::Cpus, "3"),
        (Key::Memory, "1.5GiB"),
        (Key::Hugepages, "true"),
        (Key::Duration, "1.5s"),
        (Key::Control, "12.5%"),
        (Key::Warmup, "0s"),
        (Key::Cpl, "3"),
        (Key::Affinity, "vcpu=0-1,3,mover=2"),
        (Key::Sched, "vcpu=other:5:3ms,mover=fifo:10"),
        (Key::Antagonists, "2:50:-5"),
        (Key::Verify, "full"),
        (Key::Torment, "true"),
        (Key::StallThreshold, "3us"),
        (Key::ProbePeriod, "1ms"),
    ];
    let first = resolve(&flags, "").expect("valid");
    assert_eq!(first.seed, Seed(u64::MAX));
    let file = first.to_toml();
    assert_eq!(resolve(&[], &file).expect("what it wrote"), first, "{file}");
    assert!(
        file.contains("[tool]") && file.contains("version = "),
        "{file}"
    );
    let drawn = resolve(&[], "").expect("defaults");
    assert_eq!(
        resolve(&[], &drawn.to_toml()).expect("what it wrote"),
        drawn
    );
}

#[test]
fn overcommitted_vcpus_need_host_cpus() {
    let first = resolve(&[], "overcommit = 2\ncpus = 7\nantagonists = 3").expect("four CPUs");
    let cpus = first.overcommit.as_ref().map(|over| over.cpus.to_string());
    assert_eq!(cpus.as_deref(), Some("0-3"));
    assert_eq!(
        resolve(&[], &first.to_toml()).expect("what it wrote"),
        first
    );
    let error = resolve(&[], "overcommit = 2\ncpus = 9").expect_err("five CPUs");
    let error = underfoot::error::chain(&error);
    for part in ["5 host CPUs", "0-3", "--overcommit 3", "--cpus 8"] {
        assert!(error.contains(part), "{part} not in {error}");
    }
}

#[test]
fn many_vcpus_need_more_than_the_least_memory() {
    let flags = [(Key::Cpus, "64"), (Key::Memory, "16MiB")];
    let error = resolve(&flags, "").expect_err("too little");
    let error = underfoot::error::chain(&error);
    assert!(
        error.contains("64 vCPUs need") && error.contains("16MiB"),
        "{error}"
    );
    assert!(resolve(&[(Key::Cpus, "64"), (Key::Memory, "64MiB")], "").is_ok());
}

#[test]
fn a_host_too_small_for_the_default_says_so() {
    let small = HostLimits {
        memory: Size::from_mib(32),
        ..limits()
    };
    let error = Experiment::resolve(&Settings::default(), &small).expect_err("too small");
    let error = underfoot::error::chain(&error);
    assert!(
        error.contains("--memory") && error.contains("32MiB"),
        "{error}"
    );
}

#[test]
fn unsound_combinations_are_refused_with_the_reason() {
    let flags = [
        (Key::Strategy, "none"),
        (Key::Variant, "busted-stale-frame"),
    ];
    let error = resolve(&flags, "")
        .expect_err("nothing to spoil")
        .to_string();
    assert!(
        error.contains("busted-stale-frame") && error.contains("use "),
        "{error}"
    );
}
