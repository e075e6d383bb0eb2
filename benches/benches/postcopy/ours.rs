//! The guest in this process, whose pages move lazily.

use crate::guest::{self, Log};
use crate::stalls::Stalls;
use kvm_bindings::{
    KVM_CAP_X86_DISABLE_EXITS, KVM_MEM_READONLY, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::area::{Area, advise};
use underfoot_benches::attached::Attached;
use underfoot_benches::span::Span;
use underfoot_migrator::{
    BackendKind, Event, MAX_BATCH, Migrator, Observer, Served, Silent, StrategyKind, clock,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

const UP: Duration = Duration::from_secs(30);
const SLICE: Duration = Duration::from_millis(500);
/// Long enough for the guest to demand every page of a range.
const DELAY: Duration = Duration::from_millis(50);
/// A handler that looks for faults for so long before it sleeps hardly ever sleeps here.
const LINGER: Duration = Duration::from_micros(200);
const KICK: Duration = Duration::from_millis(1);
const ROM_SLOT: u32 = 1;

/// How the vCPU waits, how long the handler looks for faults before it sleeps, and how long pages are left to those who
/// demand them.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    halts: bool,
    linger: Duration,
    delay: Duration,
}

const POLLS: Duration = Duration::ZERO;
pub const WAYS: [Way; 4] = [
    Way::new("halt, handler polls", true, POLLS, DELAY),
    Way::new("block, handler polls", false, POLLS, DELAY),
    Way::new("block, handler lingers", false, LINGER, DELAY),
    Way::new(
        "block, polls, prefetch at once",
        false,
        POLLS,
        Duration::ZERO,
    ),
];

impl Way {
    const fn new(name: &'static str, halts: bool, linger: Duration, delay: Duration) -> Self {
        Self {
            name,
            halts,
            linger,
            delay,
        }
    }
}

/// One guest from reset on, whose pages move for a slice.
///
/// # Panics
/// If anything is refused, or the guest read what it did not write.
pub fn round(way: Way) -> Stalls {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), guest::MEMORY as usize)]);
    let memory = Arc::new(memory.expect("memory for the guest"));
    let base = memory.get_host_address(GuestAddress(0)).expect("its start") as usize;
    advise(base, guest::MEMORY as usize, libc::MADV_NOHUGEPAGE).expect("memory of our own");
    let rom = Area::anywhere(guest::ROM_BYTES).expect("memory for the ROM");
    let bytes = guest::rom();
    // SAFETY: the area is as long as the ROM, and nobody else uses it yet.
    unsafe {
        rom.pointer()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    };
    let vm = vm(way, base, rom.address());
    let vcpu = vcpu(&vm);
    register_signal_handler(SIGRTMIN(), on_kick).expect("a signal");
    let over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&over);
    let guest = thread::spawn(move || run(vcpu, &theirs));
    wait_until_ready(&memory);
    let since = log(&memory).cursor();
    let demanded = move_lazily(way, &memory, base);
    let log = log(&memory);
    over.store(true, Relaxed);
    while !guest.is_finished() {
        // Once may be too early: before it enters KVM.
        let _ = guest.kill(SIGRTMIN());
        thread::sleep(KICK);
    }
    guest.join().expect("no panic");
    log.check();
    Stalls::of_ticks(&log.ticks_since(since, &demanded))
}

fn wait_until_ready(memory: &GuestMemoryMmap) {
    let deadline = Instant::now() + UP;
    while !log(memory).is_ready() {
        assert!(Instant::now() < deadline, "the guest did not come up");
        thread::sleep(KICK);
    }
}

/// The pages of the area that the guest demanded.
fn move_lazily(way: Way, memory: &Arc<GuestMemoryMmap>, base: usize) -> HashSet<u64> {
    let first = guest::AREA / PAGE_SIZE as u64;
    let builder = Migrator::builder(Arc::clone(memory))
        .page_map(Arc::new(Span::at(base, first..first + guest::PAGES)))
        .strategy(StrategyKind::Lazy)
        .backend(BackendKind::Copy)
        .batch(MAX_BATCH)
        .prefetch_after(way.delay)
        .linger(way.linger)
        .tsc_hz(clock::measured_hz());
    let demands = Arc::new(Demands::default());
    Attached::watched(builder, demands.clone()).move_for(SLICE, &[Arc::new(Silent)], |_| ());
    let demanded = demands.0.lock().unwrap_or_else(PoisonError::into_inner);
    demanded.iter().map(|gfn| gfn - first).collect()
}

/// The frame number of each page that the handler brought.
#[derive(Default)]
struct Demands(Mutex<Vec<u64>>);

impl Observer for Demands {
    fn on(&self, event: &Event) {
        if let Event::Fault {
            gfn,
            served: Served::Fetched,
            ..
        } = event
        {
            // The handler's thread alone takes it.
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(gfn.0);
        }
    }
}

fn log(memory: &GuestMemoryMmap) -> Log {
    let mut bytes = vec![0; guest::LOG_BYTES];
    let read = memory.read_slice(&mut bytes, GuestAddress(guest::HEADER));
    read.expect("guest memory");
    Log::new(bytes)
}

fn vm(way: Way, memory: usize, rom: usize) -> VmFd {
    let kvm = Kvm::new().expect("KVM");
    let vm = kvm.create_vm().expect("a VM");
    if !way.halts {
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
        (0, 0, 0, guest::MEMORY, memory),
        (
            ROM_SLOT,
            KVM_MEM_READONLY,
            guest::ROM_AT,
            guest::ROM_BYTES as u64,
            rom,
        ),
    ];
    for (slot, flags, guest_phys_addr, memory_size, address) in slots {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr,
            memory_size,
            userspace_addr: address as u64,
        };
        // SAFETY: `round` keeps both mappings until the vCPU's thread has ended, and nobody takes references into them. If
        // it panics before, the guest finds its memory gone: KVM_RUN fails.
        unsafe { vm.set_user_memory_region(region) }.expect("a memory slot");
    }
    vm
}

/// A vCPU as it comes out of reset.
fn vcpu(vm: &VmFd) -> VcpuFd {
    let kvm = Kvm::new().expect("KVM");
    let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
    let vcpu = vm.create_vcpu(0).expect("a vCPU");
    vcpu.set_cpuid2(&cpuid.expect("what KVM supports"))
        .expect("its CPUID");
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
