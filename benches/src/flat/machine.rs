//! A VMM for the flat guest: its memory, its vCPUs, and what they wrote down.

use super::{AREA, CPUS, LOG_BYTES, Log, MEMORY, PAGES, ROM_AT, ROM_BYTES, header, rom};
use crate::area::{Area, advise};
use crate::span::Span;
use kvm_bindings::{
    KVM_CAP_X86_DISABLE_EXITS, KVM_MEM_READONLY, KVM_MP_STATE_RUNNABLE, KVM_X86_DISABLE_EXITS_HLT,
    kvm_enable_cap, kvm_mp_state, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

const UP: Duration = Duration::from_secs(30);
const KICK: Duration = Duration::from_millis(1);
const ROM_SLOT: u32 = 1;
const HUGE: usize = 2 << 20;

/// A flat guest that runs. Dropped, it ends.
pub struct FlatMachine {
    memory: Arc<GuestMemoryMmap>,
    /// Its host address, at a multiple of 2 MiB.
    base: usize,
    over: Arc<AtomicBool>,
    vcpus: Vec<JoinHandle<()>>,
    // Only dropped after the vCPUs were joined.
    _rom: Area,
}

impl FlatMachine {
    /// Boots it on `cpus` vCPUs, in small pages. Once it reads, this returns. A vCPU that meets a page that is away
    /// `halts`, or its thread sleeps.
    ///
    /// # Panics
    /// If anything is refused: a benchmark has nothing to say then.
    #[must_use]
    pub fn boot(cpus: u32, halts: bool) -> Self {
        assert!((1..=CPUS).contains(&cpus), "{cpus} CPUs");
        let (memory, base) = memory();
        let area = Area::anywhere(ROM_BYTES).expect("memory for the ROM");
        let bytes = rom();
        // SAFETY: the area is as long as the ROM, and nobody else uses it yet.
        unsafe {
            area.pointer()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        register_signal_handler(SIGRTMIN(), on_kick).expect("a signal");
        let kvm = Kvm::new().expect("KVM");
        let vm = vm(&kvm, halts, base, area.address());
        let over = Arc::new(AtomicBool::new(false));
        let vcpus: Vec<VcpuFd> = (0..cpus).map(|cpu| vcpu(&kvm, &vm, cpu)).collect();
        let spawn = |vcpu| {
            let over = Arc::clone(&over);
            thread::spawn(move || run(vcpu, &over))
        };
        let machine = Self {
            memory,
            base,
            vcpus: vcpus.into_iter().map(spawn).collect(),
            over,
            _rom: area,
        };
        let deadline = Instant::now() + UP;
        while !machine.all_logs().all(|log| log.reads() > 0) {
            assert!(Instant::now() < deadline, "the guest did not come up");
            thread::sleep(KICK);
        }
        machine
    }

    /// Its memory.
    #[must_use]
    pub const fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// The pages that it reads.
    #[must_use]
    pub fn area(&self) -> Span {
        let first = AREA / PAGE_SIZE as u64;
        Span::at(self.base, first..first + PAGES)
    }

    /// What each vCPU wrote down so far. While pages of it are away, this waits.
    ///
    /// # Panics
    /// If a read found another page's content: figures of a guest that lost data are worth nothing.
    #[must_use]
    pub fn logs(&self) -> Vec<Log> {
        let logs: Vec<Log> = self.all_logs().collect();
        logs.iter().for_each(Log::check);
        logs
    }

    fn all_logs(&self) -> impl Iterator<Item = Log> {
        (0..self.vcpus.len() as u32).map(|cpu| {
            let mut bytes = vec![0; LOG_BYTES];
            let read = self
                .memory
                .read_slice(&mut bytes, GuestAddress(header(cpu)));
            read.expect("guest memory");
            Log::new(bytes)
        })
    }
}

impl Drop for FlatMachine {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for vcpu in self.vcpus.drain(..) {
            while !vcpu.is_finished() {
                // Once may be too early: before it enters KVM.
                let _ = vcpu.kill(SIGRTMIN());
                thread::sleep(KICK);
            }
            let ended = vcpu.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "a vCPU's thread panicked"
            );
        }
    }
}

/// Memory in small pages, and its host address.
fn memory() -> (Arc<GuestMemoryMmap>, usize) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]);
    let memory = Arc::new(memory.expect("memory for the guest"));
    let base = memory.get_host_address(GuestAddress(0));
    let base = base.expect("its start") as usize;
    assert!(base.is_multiple_of(HUGE), "memory that can be huge pages");
    advise(base, MEMORY as usize, libc::MADV_NOHUGEPAGE).expect("memory of our own");
    (memory, base)
}

fn vm(kvm: &Kvm, halts: bool, memory: usize, rom: usize) -> VmFd {
    let vm = kvm.create_vm().expect("a VM");
    if !halts {
        let mut cap = kvm_enable_cap {
            cap: KVM_CAP_X86_DISABLE_EXITS,
            ..Default::default()
        };
        cap.args[0] = KVM_X86_DISABLE_EXITS_HLT.into();
        vm.enable_cap(&cap).expect("HLT without exits");
    }
    // Below the ROM, for processors without unrestricted guests.
    vm.set_identity_map_address(0xfeff_c000).expect("a place");
    vm.set_tss_address(0xfeff_d000).expect("a place");
    vm.create_irq_chip().expect("interrupt controllers");
    let slots = [
        (0, 0, 0, MEMORY, memory),
        (ROM_SLOT, KVM_MEM_READONLY, ROM_AT, ROM_BYTES as u64, rom),
    ];
    for (slot, flags, guest_phys_addr, memory_size, address) in slots {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr,
            memory_size,
            userspace_addr: address as u64,
        };
        // SAFETY: the machine keeps both mappings until the vCPUs' threads have ended, and nobody takes references
        // into them.
        unsafe { vm.set_user_memory_region(region) }.expect("a memory slot");
    }
    vm
}

/// A vCPU as it comes out of reset; all of them do so together.
fn vcpu(kvm: &Kvm, vm: &VmFd, cpu: u32) -> VcpuFd {
    let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
    let mut cpuid = cpuid.expect("what KVM supports");
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.ebx = entry.ebx & 0x00ff_ffff | cpu << 24;
        }
    }
    let vcpu = vm.create_vcpu(cpu.into()).expect("a vCPU");
    vcpu.set_cpuid2(&cpuid).expect("its CPUID");
    let runnable = kvm_mp_state {
        mp_state: KVM_MP_STATE_RUNNABLE,
    };
    vcpu.set_mp_state(runnable).expect("a vCPU that starts");
    vcpu
}

fn run(mut vcpu: VcpuFd, over: &AtomicBool) {
    while !over.load(Relaxed) {
        match vcpu.run() {
            // The interrupt controllers' masks.
            Ok(VcpuExit::IoOut(..)) => {}
            Ok(other) => panic!("the guest left for {other:?}"),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(error) => panic!("KVM_RUN: {error}"),
        }
    }
}

extern "C" fn on_kick(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
