//! What a vCPU does at a page that is not there, by wait policy.

use crate::common::{COUNTER, Code, config, elf, exit, have_kvm, until, word};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use underfoot_vmm::wait::{WaitKind, Window};
use underfoot_vmm::{ExitReason, GuestRam, HostInfo, Machine, MachineConfig, MachineError};

const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const FEATURE_SIGBUS: u64 = 1 << 7;
const PAGE: u64 = 4096;

/// A page of the guest that is missing until it is filled.
struct MissingPage {
    uffd: File,
    address: u64,
}

impl MissingPage {
    fn new(ram: &GuestRam, sigbus: bool) -> io::Result<Self> {
        // SAFETY: userfaultfd takes flags and no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made the descriptor for us.
        let uffd = unsafe { File::from_raw_fd(fd as i32) };
        let address = ram.ranges()[0].hva + u64::from(COUNTER);
        let page = Self { uffd, address };
        page.ioctl(
            UFFDIO_API,
            [0xaa, if sigbus { FEATURE_SIGBUS } else { 0 }, 0, 0],
        )?;
        page.ioctl(UFFDIO_REGISTER, [address, PAGE, 1, 0])?;
        Ok(page)
    }

    fn ioctl(&self, request: libc::c_ulong, mut words: [u64; 4]) -> io::Result<()> {
        // SAFETY: each request reads and writes at most 32 bytes at its argument, which outlives
        // the call.
        match unsafe { libc::ioctl(self.uffd.as_raw_fd(), request as _, words.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn fill(&self) {
        self.ioctl(UFFDIO_ZEROPAGE, [self.address, PAGE, 0, 0])
            .unwrap();
    }
}

/// Open until told otherwise.
#[derive(Default)]
struct Manual(AtomicU64);

impl Window for Manual {
    fn is_open(&self) -> bool {
        self.closed() == 0
    }

    fn closed(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

fn guest() -> Vec<u8> {
    elf(&Code::default().store32(COUNTER + 8, 7).exit(0))
}

/// Whether KVM makes the accesses of ring 0 itself, so that no guest of these few instructions
/// touches memory natively.
fn ring0_is_emulated() -> bool {
    HostInfo::detect(Path::new("/")).unwrap().module == "kvm_pvm"
}

/// A machine whose first store meets a missing page; `None` where the host cannot.
fn machine(image: &[u8], wait: WaitKind) -> Option<(Machine, MissingPage)> {
    let machine = match Machine::new(MachineConfig {
        wait,
        ..config(image, 2)
    }) {
        Err(MachineError::WaitPolicy { .. }) => return None,
        made => made.unwrap(),
    };
    match MissingPage::new(machine.ram(), wait.signals()) {
        Ok(page) => Some((machine, page)),
        Err(error) => {
            crate::common::skip(&format!("userfaultfd: {error}"));
            None
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_vcpu_that_waits_in_the_kernel_goes_on_when_the_page_is_there() {
    if !have_kvm() {
        return;
    }
    for wait in [WaitKind::Halt, WaitKind::Block] {
        let image = guest();
        let Some((mut machine, page)) = machine(&image, wait) else {
            continue;
        };
        machine.start();
        until("the entry", || machine.vcpus().entries(0) > 0);
        page.fill();
        assert!(exit(&mut machine).is_sound(), "{wait}");
        assert_eq!(word(&machine, COUNTER + 8), 7);
        assert_eq!(machine.vcpus().wait_counts(0).faults, 0);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_spinning_vcpu_can_be_held_and_goes_on_when_the_window_closes() {
    if !have_kvm() {
        return;
    }
    if ring0_is_emulated() {
        eprintln!("skipped: ring 0 is emulated, so KVM meets the missing page, not the guest");
        return;
    }
    let image = guest();
    let Some((mut machine, page)) = machine(&image, WaitKind::Spin) else {
        return;
    };
    let window = Arc::new(Manual::default());
    machine.set_window(window.clone());
    machine.start();
    let counts = |machine: &Machine| machine.vcpus().wait_counts(0);
    until("a spin to its bound", || counts(&machine).bounded > 0);
    let held = machine.vcpus().hold(0);
    let before = counts(&machine);
    std::thread::yield_now();
    assert_eq!(counts(&machine), before);
    drop(held);
    until("another fault", || counts(&machine).faults > before.faults);
    page.fill();
    window.0.store(1, Ordering::Release);
    assert!(exit(&mut machine).is_sound());
    assert_eq!(word(&machine, COUNTER + 8), 7);
    let counts = counts(&machine);
    assert_eq!(
        counts.faults,
        counts.closed + counts.spun + counts.yielded + counts.bounded + counts.interrupted
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_fault_that_nobody_expects_ends_the_guest() {
    if !have_kvm() {
        return;
    }
    let image = guest();
    let Some((mut machine, _page)) = machine(&image, WaitKind::Spin) else {
        return;
    };
    machine.start();
    let expected = if ring0_is_emulated() {
        let gpa = u64::from(COUNTER) + 8;
        ExitReason::Unreachable {
            gpa,
            len: 4,
            write: true,
        }
    } else {
        ExitReason::Fault
    };
    assert_eq!(exit(&mut machine).reason, expected);
}
