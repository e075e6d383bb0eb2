//! A guest that runs the default workload while its memory is moved.

use std::time::{Duration, Instant};
use underfoot::image::GUEST_IMAGE;
use underfoot_abi::{Cpl, GuestState, Phase, Variant, WorkloadId};
use underfoot_vmm::placement::Placement;
use underfoot_vmm::wait::WaitKind;
use underfoot_vmm::{
    Backing, Boot, Console, HeaderInit, Machine, MachineConfig, MemorySize, MoverInit, RamRange,
};

const UP: Duration = Duration::from_secs(30);

/// Boots the embedded guest with `cpus` vCPUs and `bytes` of memory, every page of it populated, and
/// returns once it works and records.
///
/// # Panics
/// If it does not come up: a benchmark has nothing to say then.
#[must_use]
pub fn boot(cpus: u32, bytes: u64) -> Machine {
    let mut machine = Machine::new(MachineConfig {
        kvm: "/dev/kvm".into(),
        memory: MemorySize::new(bytes, u64::MAX).expect("a size that works"),
        backing: Backing::Small,
        cpus,
        boot: Boot {
            image: GUEST_IMAGE,
            cmdline: "",
        },
        header: HeaderInit {
            seed: 1,
            tsc_khz: 0,
            cpl: Cpl::Auto,
            workload: WorkloadId::Walk,
            variant: Variant::None,
            stall_threshold_ns: 2_000,
            probe_period_ns: 100_000,
            parameters: [0; underfoot_abi::MAX_PARAMETERS],
            mover: MoverInit::HOST,
        },
        console: Console::discard(),
        wait: WaitKind::Halt,
        placement: Placement::default(),
        signals: false,
    })
    .expect("a machine (see `underfoot doctor`)");
    for range in machine.ram().ranges() {
        populate(range);
    }
    machine.start();
    let deadline = Instant::now() + UP;
    while machine.shared().state() != Some(GuestState::Running) {
        machine.wait(deadline).expect("a guest that comes up");
        assert!(
            Instant::now() < deadline,
            "the guest did not come up: {}",
            machine.shared().message()
        );
    }
    machine.shared().set_phase(Phase::Moving);
    machine
}

fn populate(range: RamRange) {
    // SAFETY: guest memory that is mapped and not yet used; its contents stay.
    let result = unsafe {
        libc::madvise(
            range.hva as *mut libc::c_void,
            range.len as usize,
            libc::MADV_POPULATE_WRITE,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
