//! A guest that works while its memory is moved.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use underfoot::image::GUEST_IMAGE;
use underfoot_abi::{Cpl, GuestState, Phase, Variant, WorkloadId};
use underfoot_vmm::placement::Placement;
use underfoot_vmm::wait::WaitKind;
use underfoot_vmm::{
    Backing, Boot, Console, HeaderInit, Machine, MachineConfig, MemorySize, MoverInit,
};

const UP: Duration = Duration::from_secs(30);
const DOWN: Duration = Duration::from_secs(60);

/// Which guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// vCPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub bytes: u64,
    /// What it lies in.
    pub backing: Backing,
    /// What it does.
    pub workload: WorkloadId,
    /// Values of the workload's parameters that differ from their defaults.
    pub parameters: &'static [(&'static str, u64)],
    /// What a vCPU does that meets a window.
    pub wait: WaitKind,
    /// Where its vCPUs run.
    pub placement: Placement,
}

/// One vCPU, 64 MiB, the default workload.
impl Default for Guest {
    fn default() -> Self {
        Self {
            cpus: 1,
            bytes: 64 << 20,
            backing: Backing::Small,
            workload: WorkloadId::Walk,
            parameters: &[],
            wait: WaitKind::Halt,
            placement: Placement::default(),
        }
    }
}

impl Guest {
    /// A guest that chases through a ring of `RING` pages, which it never writes.
    pub const CHASE: &'static [(&'static str, u64)] = &[("threads", 1), ("pages", Self::RING)];
    /// Pages of that ring: the most that the guest has in a row.
    pub const RING: u64 = 512;

    /// Boots the embedded guest, every page of it populated, and returns once it works and records.
    ///
    /// # Panics
    /// If it does not come up: a benchmark has nothing to say then.
    #[must_use]
    pub fn boot(&self) -> Machine {
        let mut machine = Machine::new(MachineConfig {
            kvm: "/dev/kvm".into(),
            memory: MemorySize::new(self.bytes, u64::MAX).expect("a size that works"),
            backing: self.backing,
            slot_size: None,
            cpus: self.cpus,
            boot: Boot {
                image: GUEST_IMAGE,
                cmdline: "",
            },
            header: self.header(),
            console: Console::discard(),
            wait: self.wait,
            placement: self.placement.clone(),
            signals: false,
        })
        .expect("a machine (see `underfoot doctor`)");
        machine.ram().populate().expect("memory for the guest");
        machine.start();
        let deadline = Instant::now() + UP;
        while machine.shared().state() != Some(GuestState::Running) {
            machine.wait(deadline).expect("a guest that comes up");
            assert!(
                Instant::now() < deadline && machine.shared().message().is_empty(),
                "the guest did not come up: {}",
                machine.shared().message()
            );
        }
        machine.shared().set_phase(Phase::Moving);
        machine
    }

    fn header(&self) -> HeaderInit {
        let mut parameters = self.workload.defaults();
        for (name, value) in self.parameters {
            let mut described = self.workload.parameters().iter();
            let place = described.position(|parameter| parameter.name == *name);
            parameters[place.expect("a parameter of the workload")] = *value;
        }
        HeaderInit {
            seed: 1,
            tsc_khz: 0,
            cpl: Cpl::Auto,
            workload: self.workload,
            variant: Variant::None,
            stall_threshold_ns: 2_000,
            probe_period_ns: 100_000,
            parameters,
            mover: MoverInit::HOST,
        }
    }
}

/// Ends the guest, and has it audit what it holds.
///
/// # Panics
/// If anything is wrong with it: figures of a guest that lost data are worth nothing.
pub fn end(mut machine: Machine) {
    let outcome = machine.stop(DOWN);
    assert!(
        outcome.in_order,
        "the guest did not end in order: {outcome:?}"
    );
    let shared = machine.shared();
    let found: u64 = (0..shared.cpus())
        .map(|vcpu| shared.vcpu(vcpu).errors.load(Relaxed))
        .sum();
    let errors = found + shared.header().audit_errors.load(Relaxed);
    assert_eq!(errors, 0, "the guest found wrong check words");
    let checked = shared.header().audit_checked.load(Relaxed);
    assert!(checked > 0, "the guest audited nothing");
}
