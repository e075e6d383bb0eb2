//! A disk that has no room for the results. One test, because the limit holds for the process.

use std::time::UNIX_EPOCH;
use underfoot::atomic_file::{AtomicFile, WriteError};
use underfoot::experiment::Experiment;
use underfoot::host_limits::HostLimits;
use underfoot::record::{
    Ending, Histograms, Host, Integrity, Migration, Outcome, RunRecord, Snapshot, Stage2, Stalls,
    Startup,
};
use underfoot::rundir::RunDir;
use underfoot::settings::Settings;
use underfoot::units::{Seed, Size};

fn record() -> RunRecord {
    let limits = HostLimits {
        cpus: "0-1".parse().expect("a list"),
        memory: Size::from_mib(4096),
    };
    RunRecord {
        started: UNIX_EPOCH,
        experiment: Experiment::resolve(&Settings::default(), &limits).expect("defaults fit"),
        cpl: None,
        host: Host {
            stage2: Stage2::Ept,
            kvm_module: "kvm_intel".into(),
            nested: false,
            cpu: "A CPU".into(),
            cpus: 2,
            kernel: "6.12.0".into(),
            snapshot: Snapshot::default(),
            load: None,
            unsupported: Default::default(),
        },
        outcome: Outcome {
            ending: Ending::Done,
            message: None,
        },
        migration: Migration::default(),
        integrity: Integrity::default(),
        moving: Histograms::new(),
        control: Histograms::new(),
        control_ns: 0,
        guest: Default::default(),
        progress: Vec::new(),
        kvm_stats: None,
        startup_ns: Startup::default(),
        stalls: Stalls::default(),
        attribution: None,
        waits: Default::default(),
        engine: None,
        watchdog: None,
        frames: None,
        plug: None,
        dma: None,
        antagonists: Vec::new(),
        torment: None,
    }
}

/// Files of this process may have at most `bytes` from now on; longer ones give EFBIG.
fn limit_file_size(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: ignoring a signal installs no handler; `limit` is a valid rlimit for the whole call,
    // which only reads it.
    let result = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    assert_eq!(result, 0);
}

fn assert_no_room<T: std::fmt::Debug>(result: Result<T, WriteError>) {
    let error = result.expect_err("no room");
    assert!(matches!(error, WriteError::NoRoom { .. }), "{error:?}");
    assert!(
        !error.is_usage() && error.to_string().contains("free some space"),
        "{error}"
    );
}

#[test]
fn no_room_is_said_and_leaves_nothing() {
    let record = record();
    let base = tempfile::tempdir().expect("a directory");
    let begin = || RunDir::begin(None, base.path(), UNIX_EPOCH, Seed(7)).expect("a place");
    for limit in [0, 16, 1_000] {
        let (run, file) = (begin(), AtomicFile::prepare(&base.path().join("run.json")));
        limit_file_size(limit);
        let (run, file) = (
            run.commit(&record),
            file.expect("a place").commit(&[b'x'; 2_000]),
        );
        limit_file_size(libc::RLIM_INFINITY);
        assert_no_room(run);
        assert_no_room(file);
        assert_eq!(
            base.path().read_dir().expect("readable").count(),
            0,
            "{limit}"
        );
    }
    let place = begin().commit(&record).expect("room again");
    assert!(place.join("run.json").is_file());
}
