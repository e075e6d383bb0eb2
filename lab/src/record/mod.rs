//! What a run measured, as plain data: what `run` hands to the writers of results.

mod answers;
mod antagonist;
mod attribution;
mod backlog;
mod dma;
mod frames;
mod host_state;
mod page_events;
mod plug;

pub use answers::{Answers, AnswersByWait, ticks_in_waits};
pub use antagonist::AntagonistRecord;
pub use attribution::{
    AgreementRecord, Attribution, AttributionRecord, Causes, ClockRecord, PlaceboRecord, StallLine,
    TailRecord, VcpuAttribution,
};
pub use backlog::{BacklogPhase, BacklogPoint, BacklogRecord};
pub use dma::DmaRecord;
pub use frames::{FrameUserRecord, FramesRecord};
pub use host_state::{LoadRecord, Snapshot};
pub use page_events::PageEventCounts;
pub use plug::PlugRecord;

use crate::experiment::Experiment;
use crate::guest_record::{GuestCounters, GuestRecord};
use crate::histogram::Histogram;
use crate::names::{Named, Variant};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::SystemTime;
use underfoot_abi::{Cpl, PageKind};
use underfoot_migrator::StrategyKind;

/// How the host translates guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage2 {
    /// Extended page tables (Intel).
    Ept,
    /// Nested page tables (AMD).
    Npt,
    /// Shadow page tables.
    Shadow,
}

/// The host of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Host {
    /// How it translates guest physical addresses.
    pub stage2: Stage2,
    /// The KVM module in use: `kvm_intel`, `kvm_amd`, `kvm_pvm`.
    pub kvm_module: String,
    /// Whether the host is itself a guest.
    pub nested: bool,
    /// The CPU's model name.
    pub cpu: String,
    /// CPUs that are online.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// What it was set to.
    pub snapshot: Snapshot,
    /// How busy it was; `None` where the kernel does not tell, or nothing was measured.
    pub load: Option<LoadRecord>,
    /// Measures that this host cannot take, by name, each with the reason.
    pub unsupported: BTreeMap<String, String>,
}

/// Counts of migrations; `attempted` is the sum of `committed`, `aborted` and `skipped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MigrationCounts {
    /// Pages whose migration began.
    pub attempted: u64,
    /// Pages that lie in a new frame.
    pub committed: u64,
    /// Pages that are back in their old frame.
    pub aborted: u64,
    /// Pages that were left alone, because nothing was mapped there.
    pub skipped: u64,
    /// Steps that were tried again.
    pub retried: u64,
}

/// Counts of one page kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindCounts {
    /// Its migrations.
    #[serde(flatten)]
    pub counts: MigrationCounts,
    /// Committed pages whose frame number was compared and had changed. Absent where the host does
    /// not tell frame numbers (then [`Host::unsupported`] says why).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<u64>,
}

/// What moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// Over all kinds.
    pub counts: MigrationCounts,
    /// By kind: every kind that was a target, also those of which nothing moved.
    pub by_kind: BTreeMap<PageKind, KindCounts>,
    /// Of the pages aborted, how many for which reason.
    pub aborted_by: BTreeMap<&'static str, u64>,
    /// Target kinds that were left alone, and why.
    pub refused: BTreeMap<PageKind, &'static str>,
    /// Length of the moving phase, as measured.
    pub moving_ns: u64,
}

impl Migration {
    /// Pages committed per second of the moving phase, rounded; `None` before it took any time.
    #[must_use]
    pub fn pages_per_s(&self) -> Option<u64> {
        let scaled = u128::from(self.counts.committed) * 1_000_000_000;
        let half = u128::from(self.moving_ns / 2);
        let rate = (scaled + half).checked_div(u128::from(self.moving_ns))?;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// What was checked and what was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Integrity {
    /// Check words, audited objects, compared frames and old frames looked at.
    pub checked: u64,
    /// Found wrong.
    pub errors: u64,
    /// Which check found what, one line each.
    pub details: Vec<String>,
}

/// What one vCPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VcpuProgress {
    /// Which.
    pub vcpu: u32,
    /// Workload operations.
    pub operations: u64,
    /// Timer ticks taken.
    pub ticks: u64,
    /// Inter-processor interrupts taken.
    pub ipis: u64,
    /// Check words verified.
    pub checked: u64,
    /// Check words found wrong.
    pub errors: u64,
    /// Updates made to shared objects.
    pub updates: u64,
    /// The longest time without an operation that the host saw while it sampled, less the time in
    /// which its thread waited for a CPU and in which it waited for another vCPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap_ns: Option<u64>,
    /// The longest time without an operation, nothing taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_raw_gap_ns: Option<u64>,
    /// Time since its last operation when the moving phase ended, nothing taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_gap_ns: Option<u64>,
}

/// KVM's own counters over the run (`KVM_GET_STATS_FD`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvmStats {
    /// Of the VM, by KVM's names.
    pub vm: BTreeMap<String, u64>,
    /// Of each vCPU, by KVM's names.
    pub vcpus: Vec<BTreeMap<String, u64>>,
}

/// How long it took to get going. Absent parts were not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Startup {
    /// From exec to the guest's first Rust line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_entry: Option<u64>,
    /// From exec to the guest's first workload operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_operation: Option<u64>,
}

/// The guest's stalls of one phase, told one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stalls {
    /// Stall records read from the guest.
    pub total: u64,
    /// Records that the guest had to drop because the host read too slowly.
    pub dropped: u64,
    /// Of `total`, those that overlap a window of the page accessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_window: Option<u64>,
    /// Of `own_window`, by the kind of the page accessed.
    pub own_window_by_kind: BTreeMap<&'static str, u64>,
    /// Of `own_window`, by the wait policy that held for the page accessed: under `spin`, pages
    /// that the hypervisor itself reaches are waited for by `block`; where the guest moves its pages,
    /// its own handler spins (`guest-spin`).
    pub own_window_by_wait: BTreeMap<&'static str, u64>,
    /// Whether vCPUs took interrupts in them while they waited.
    pub own_window_interrupts: AnswersByWait,
}

/// How one vCPU met windows that sent it a signal instead of making it sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spins {
    /// Times that KVM_RUN said so.
    pub faults: u64,
    /// Of these, the window had closed already.
    pub closed: u64,
    /// The spin saw the window close.
    pub spun: u64,
    /// It closed while the vCPU's thread yielded its CPU.
    pub yielded: u64,
    /// The wait ended at its bound, and the vCPU tried again.
    pub bounded: u64,
    /// Somebody wanted the vCPU out of the guest.
    pub interrupted: u64,
}

/// How vCPUs waited for pages in flight, as far as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// The policy that was asked for; `guest-spin` where the guest moves its pages.
    pub policy: &'static str,
    /// Pages, by kind, that the hypervisor itself reaches. Whoever meets their window sleeps in the
    /// kernel, whatever the policy.
    pub hypervisor_pages: BTreeMap<&'static str, u64>,
    /// By vCPU; empty unless the policy is `spin` or `yield`.
    pub spins: Vec<Spins>,
    /// By vCPU; empty unless the policy is `async`.
    #[serde(rename = "async", skip_serializing_if = "Vec::is_empty")]
    pub page_events: Vec<PageEventCounts>,
}

/// What the engine itself takes, and what it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineCost {
    /// Guest pages that it manages.
    pub pages: u64,
    /// Bytes of state that it keeps for them, frame pools not counted.
    pub state_bytes: u64,
    /// One old frame in so many is filled and checked.
    pub limbo_stride: u32,
    /// Pages that the kernel moved and denied having moved; see the engine's counters.
    pub uncounted_pages: u64,
    /// Pages of no kind that moved with the slot that they lie in (`memslot`).
    pub moved_along: u64,
    /// Copies behind which the guest wrote (`transactional`).
    pub conflicts: u64,
    /// Pages of those copies.
    pub wasted_copies: u64,
    /// Migrations that copied under protection after too many conflicts.
    pub fallbacks: u64,
}

/// What the engine's watchdog found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchdogRecord {
    /// Deadlocks: cycles of those who wait for each other.
    pub cycles: u64,
    /// Their members, all together.
    pub members: u64,
    /// Of the cycles, those in which a migration was asked to give up.
    pub broken: u64,
    /// Waits that lasted long and were in no cycle.
    pub stalls: u64,
    /// The first verdicts, in words.
    pub verdicts: Vec<String>,
}

/// What was done to the run at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TormentCounts {
    /// Migrations aborted.
    pub aborts: u64,
    /// Sleeps of movers.
    pub pauses: u64,
    /// vCPUs held out of the guest.
    pub holds: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It went its whole length.
    Done,
    /// A signal ended it; the results so far are marked incomplete.
    Interrupted {
        /// Its number.
        signal: u8,
    },
    /// The guest or the engine failed.
    Failed,
    /// The watchdog ended it.
    Watchdog,
}

impl Ending {
    /// The word for it in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Interrupted { .. } => "interrupted",
            Self::Failed => "failed",
            Self::Watchdog => "watchdog",
        }
    }
}

/// How a run ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub ending: Ending,
    /// Why, where it did not go its whole length.
    pub message: Option<String>,
}

/// Histograms by their names in the results (`window`, `guest.access`, …).
pub type Histograms = BTreeMap<String, Histogram>;

/// Everything that one run measured.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// When the measured part began.
    pub started: SystemTime,
    /// What was run.
    pub experiment: Experiment,
    /// The privilege level in force; `None` if the guest never said.
    pub cpl: Option<Cpl>,
    /// Where.
    pub host: Host,
    /// How it ended.
    pub outcome: Outcome,
    /// What moved.
    pub migration: Migration,
    /// What was checked.
    pub integrity: Integrity,
    /// The moving phase.
    pub moving: Histograms,
    /// The control phase.
    pub control: Histograms,
    /// Length of the control phase, as measured.
    pub control_ns: u64,
    /// What the guest told of its workload.
    pub guest: GuestRecord,
    /// By vCPU.
    pub progress: Vec<VcpuProgress>,
    /// KVM's counters; `None` where it has none (then [`Host::unsupported`] says why).
    pub kvm_stats: Option<KvmStats>,
    /// How long it took to get going.
    pub startup_ns: Startup,
    /// The guest's stalls of the moving phase.
    pub stalls: Stalls,
    /// Who stole the time; `None` where guest and host have no clock in common.
    pub attribution: Option<Attribution>,
    /// How vCPUs waited.
    pub waits: Waits,
    /// What the engine takes; `None` if it never started.
    pub engine: Option<EngineCost>,
    /// What the watchdog found; `None` if the engine never started.
    pub watchdog: Option<WatchdogRecord>,
    /// What the pool of frames did; `None` if there is none.
    pub frames: Option<FramesRecord>,
    /// What plugging and unplugging did; `None` if nothing was asked for.
    pub plug: Option<PlugRecord>,
    /// What the DMA device did; `None` if the workload has none.
    pub dma: Option<DmaRecord>,
    /// What each antagonist took; empty if there were none.
    pub antagonists: Vec<AntagonistRecord>,
    /// What was done at random; `None` if nothing was asked for.
    pub torment: Option<TormentCounts>,
}

/// Name of the histogram of the guest's stalls.
pub const GUEST_STALL: &str = underfoot_abi::Metric::Stall.name();

/// Name of the histogram of the stalls in a window of the page accessed.
pub const OWN_WINDOW: &str = "guest.stall.own_window";

/// Name of the histogram of the times from the closing of a cycle to its detection.
pub const CYCLE_FOUND: &str = "watchdog.found";

/// Name of that of the times from there to when the old frames of a migration in it were back.
pub const CYCLE_BROKEN: &str = "watchdog.broken";

/// Name of the histogram of the times in which a vCPU's thread had lost its CPU and wanted it back.
pub const VCPU_PREEMPTED: &str = "vcpu.preempted";

/// Name of the histogram of how long these lasted after that window had closed.
pub const AFTER_WINDOW: &str = "guest.stall.after_window";

impl RunRecord {
    /// What to say of a deliberately wrong form in which nothing was found wrong.
    #[must_use]
    pub fn uncaught(&self) -> Option<String> {
        let variant = self.experiment.variant;
        (variant != Variant::None && self.is_sound()).then(|| {
            format!(
                "{} was not caught: nothing was found wrong in this run; give it longer, or a workload \
                 and parameters in which it does something",
                variant.name()
            )
        })
    }

    /// Whether the run went its whole length and nothing was found wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.outcome.ending == Ending::Done
            && self.integrity.errors == 0
            && self.deadlock().is_none()
    }

    /// The first deadlock that the watchdog found, in words, and how many there were.
    #[must_use]
    pub fn deadlock(&self) -> Option<String> {
        let found = self.watchdog.as_ref().filter(|found| found.cycles > 0)?;
        let mut said = found.verdicts.iter();
        let first = said.find(|said| said.starts_with("deadlock"))?;
        let count = crate::human::count(found.cycles);
        Some(format!(
            "{count} found by the watchdog, the first a {first}"
        ))
    }

    /// Whether anybody moves pages in the moving phase.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.experiment.strategy != StrategyKind::None
    }

    /// Stalled time of the moving phase per page committed, in ns; `None` where nothing moved or
    /// stalls were not recorded.
    #[must_use]
    pub fn stalled_ns_per_page(&self) -> Option<f64> {
        let stalled = self.moving.get(GUEST_STALL)?.sum();
        let pages = self.migration.counts.committed;
        (pages > 0).then(|| stalled as f64 / pages as f64)
    }

    /// Stalled time as a share (0 to 1) of the vCPU time of the moving phase.
    #[must_use]
    pub fn moving_stall_share(&self) -> Option<f64> {
        self.stall_share(&self.moving, self.migration.moving_ns)
    }

    /// Stalled time as a share (0 to 1) of the vCPU time of the control phase.
    #[must_use]
    pub fn control_stall_share(&self) -> Option<f64> {
        self.stall_share(&self.control, self.control_ns)
    }

    /// The workload's operations per second of the moving phase; `None` before it took any time.
    #[must_use]
    pub fn moving_operations_per_s(&self) -> Option<f64> {
        per_second(&self.guest.moving, self.migration.moving_ns)
    }

    /// The workload's operations per second of the control phase.
    #[must_use]
    pub fn control_operations_per_s(&self) -> Option<f64> {
        per_second(&self.guest.control, self.control_ns)
    }

    fn stall_share(&self, histograms: &Histograms, phase_ns: u64) -> Option<f64> {
        let stalled = histograms.get(GUEST_STALL)?.sum();
        let vcpu_ns = phase_ns as f64 * f64::from(self.experiment.cpus.get());
        (vcpu_ns > 0.0).then(|| stalled as f64 / vcpu_ns)
    }

    /// The first line of a summary: what kind of host this was, and whether its figures are those
    /// of nested paging.
    #[must_use]
    pub fn host_kind(&self) -> String {
        let (paging, caveat) = match (self.host.stage2, self.host.nested) {
            (Stage2::Ept, false) => ("EPT", ""),
            (Stage2::Npt, false) => ("NPT", ""),
            (Stage2::Ept, true) => ("EPT", ", nested: not bare-metal figures"),
            (Stage2::Npt, true) => ("NPT", ", nested: not bare-metal figures"),
            (Stage2::Shadow, _) => ("shadow paging", ": not EPT figures"),
        };
        let cpl = match self.cpl {
            Some(Cpl::Zero) => "CPL 0",
            Some(Cpl::Three) => "CPL 3",
            Some(Cpl::Auto) | None => "CPL unknown",
        };
        let module = self.host.kvm_module.replace('_', "-");
        format!("{module}, {paging}, {cpl}{caveat}")
    }
}

/// Operations per second of a phase that took `phase_ns`.
fn per_second(counters: &GuestCounters, phase_ns: u64) -> Option<f64> {
    let operations = *counters.get(underfoot_abi::OPERATIONS.name)?;
    (phase_ns > 0).then(|| operations as f64 * 1e9 / phase_ns as f64)
}
