//! A VMM of one vCPU whose guest's pages move while it runs: what it takes to adopt the engine.
//!
//! The guest is thirty bytes of real mode that count in the first word of 64 pages. Each page is moved
//! to other physical frames over and over, and no count is lost.
//!
//! ```text
//! cargo run --release -p underfoot-migrator --example vmm
//! ```

use std::error::Error;
use std::sync::Arc;
use std::thread;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use underfoot_migrator::{Class, Gfn, Migrator, PAGE_SIZE, PageMap, Stop};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

const ROUNDS: u16 = 2000;
const CODE_AT: u64 = 0x1000;
/// The pages that the guest counts in, and that move.
const FIRST: u64 = 0x10;
const PAGES: u64 = 64;

/// Counts `ROUNDS` times in each page, and halts.
const CODE: [u8; 26] = [
    0xb9,
    ROUNDS as u8,
    (ROUNDS >> 8) as u8, // mov cx, ROUNDS
    0xb8,
    0x00,
    0x10, // round: mov ax, 0x1000 (the first page's segment)
    0x8e,
    0xc0, // page: mov es, ax
    0x26,
    0xff,
    0x06,
    0x00,
    0x00, // inc word [es:0]
    0x05,
    0x00,
    0x01, // add ax, 0x100
    0x3d,
    0x00,
    0x50, // cmp ax, 0x5000
    0x72,
    0xf1, // jb page
    0xe2,
    0xec, // loop round
    0xf4, // hlt
    0x90,
    0x90, // nop
];

/// What the engine asks of a VMM: which pages may move, and as what.
struct Counted;

impl PageMap for Counted {
    fn class(&self, gfn: Gfn) -> Option<Class> {
        let moves = (FIRST..FIRST + PAGES).contains(&gfn.0);
        moves.then(Class::default)
    }

    fn sleeps(&self, _: Gfn) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // An ordinary VMM, so far.
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)])?);
    memory.write_slice(&CODE, GuestAddress(CODE_AT))?;
    for page in FIRST..FIRST + PAGES {
        memory.write_obj(0u16, GuestAddress(page * PAGE_SIZE as u64))?;
    }
    let vm = Kvm::new()?.create_vm()?;
    map(&vm, &memory)?;
    let vcpu = real_mode(&vm)?;

    // Its memory is put under the engine; from here on the handler must run while the guest does.
    let migrator = Migrator::builder(Arc::clone(&memory))
        .page_map(Arc::new(Counted))
        .build()?;
    let (moved, served) = (Stop::new()?, Stop::new()?);
    let handler = migrator.handler();
    let mut mover = migrator.mover()?;
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let serving = scope.spawn(|| handler.run(&served));
        let moving = scope.spawn(|| mover.run(&moved));
        let guest = scope.spawn(|| run(vcpu));
        let ended = guest.join().expect("the guest's thread");
        moved.request()?;
        moving.join().expect("the mover's thread")?;
        served.request()?;
        serving.join().expect("the handler's thread")?;
        Ok(ended?)
    })?;

    let counters = migrator.counters();
    println!(
        "{} pages moved while the guest counted, {} integrity errors",
        counters.total().committed,
        counters.integrity_errors()
    );
    for page in FIRST..FIRST + PAGES {
        let count: u16 = memory.read_obj(GuestAddress(page * PAGE_SIZE as u64))?;
        if count != ROUNDS {
            return Err(format!("page {page:#x} counts {count} of {ROUNDS}").into());
        }
    }
    println!("{PAGES} pages count {ROUNDS} each: nothing was lost");
    Ok(())
}

fn map(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), Box<dyn Error>> {
    for (slot, region) in memory.iter().enumerate() {
        let start = region.start_addr();
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(slot)?,
            flags: 0,
            guest_phys_addr: start.raw_value(),
            memory_size: region.len(),
            userspace_addr: memory.get_host_address(start)? as u64,
        };
        // SAFETY: the memory outlives the VM's vCPU thread, which `main` joins.
        unsafe { vm.set_user_memory_region(region)? };
    }
    Ok(())
}

/// A vCPU at the code, in real mode with flat segments.
fn real_mode(vm: &VmFd) -> Result<VcpuFd, kvm_ioctls::Error> {
    let vcpu = vm.create_vcpu(0)?;
    let mut special = vcpu.get_sregs()?;
    (special.cs.base, special.cs.selector) = (0, 0);
    vcpu.set_sregs(&special)?;
    let mut registers = vcpu.get_regs()?;
    (registers.rip, registers.rflags) = (CODE_AT, 2);
    vcpu.set_regs(&registers)?;
    Ok(vcpu)
}

/// Runs the guest until it halts.
fn run(mut vcpu: VcpuFd) -> Result<(), String> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::Hlt) => return Ok(()),
            Ok(other) => return Err(format!("the guest left for {other:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(format!("KVM_RUN: {error}")),
        }
    }
}

#[cfg(test)]
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn nothing_is_lost() {
    if Kvm::new().is_err() {
        let required = std::env::var("UNDERFOOT_REQUIRE_KVM").is_ok_and(|value| value == "1");
        assert!(!required, "KVM is required here");
        eprintln!("skipped: no /dev/kvm for us");
        return;
    }
    main().expect("the guest counts, and its pages move");
}
