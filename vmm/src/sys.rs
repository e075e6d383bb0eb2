//! System calls that none of our crates wraps, each behind a safe function.

use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, kvm_device_attr};
use kvm_ioctls::VcpuFd;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_ref};
use vmm_sys_util::{ioctl_io_nr, ioctl_iow_nr};

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Advises for or against transparent huge pages on all of `region`.
pub(crate) fn advise_huge_pages(region: &GuestRegionMmap, on: bool) -> io::Result<()> {
    let advice = if on {
        libc::MADV_HUGEPAGE
    } else {
        libc::MADV_NOHUGEPAGE
    };
    // SAFETY: the range is exactly the mapping that `region` owns, and neither advice changes what
    // it contains.
    let result = unsafe { libc::madvise(region.as_ptr().cast(), region.len() as usize, advice) };
    match check(result) {
        Ok(_) => Ok(()),
        // A kernel without transparent huge pages has none to turn off.
        Err(error) if !on && error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives every page of `region` a frame now (MADV_POPULATE_WRITE, madvise(2)).
pub(crate) fn populate(region: &GuestRegionMmap) -> io::Result<()> {
    let (start, bytes) = (region.as_ptr().cast(), region.len() as usize);
    // SAFETY: the range is exactly the mapping that `region` owns, and what it contains stays.
    check(unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE) })?;
    Ok(())
}

/// A file of `bytes` bytes in memory, memfd_create(2).
pub(crate) fn memfd(name: &CStr, bytes: u64) -> io::Result<File> {
    // SAFETY: the call reads the name, which ends in 0, and returns a new descriptor or -1.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    Ok(file)
}

/// The file of KVM's binary statistics of a VM or a vCPU.
///
/// For a vCPU this must come before its first `KVM_RUN`: the call takes the vCPU's mutex.
pub(crate) fn kvm_stats_file(kvm: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: KVM_GET_STATS_FD takes no argument; on any other file it fails with ENOTTY.
    let fd = check(unsafe { ioctl(kvm, KVM_GET_STATS_FD()) })?;
    // SAFETY: the kernel just made `fd` for us and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A file from which pending `signals` of this thread and process can be read. The caller blocks
/// them first.
pub(crate) fn signal_file(signals: &[libc::c_int]) -> io::Result<File> {
    let set = vmm_sys_util::signal::create_sigset(signals)
        .map_err(|errno| io::Error::from_raw_os_error(errno.errno()))?;
    // SAFETY: `set` outlives the call, which only reads it.
    let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
    // SAFETY: the kernel just made `fd` for us and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// The time-stamp counter of the CPU that this thread is on.
pub(crate) fn host_tsc() -> u64 {
    // SAFETY: RDTSC is part of baseline x86-64, and Linux leaves it enabled for user mode.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CLOCK_MONOTONIC_RAW, in ns.
pub(crate) fn raw_clock_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is there to be written. The clock exists since Linux 2.6.28, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The CPUs that the calling thread may run on, rising.
pub(crate) fn affinity() -> io::Result<Vec<u32>> {
    // SAFETY: all zeros is the empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `set`, which outlives the call.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    let all = 0..libc::CPU_SETSIZE as u32;
    // SAFETY: CPU_ISSET only reads `set`, at an index below CPU_SETSIZE.
    Ok(all
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu as usize, &set) })
        .collect())
}

/// Binds the calling thread to `cpu`, which must be below 1024.
pub(crate) fn set_affinity(cpu: u32) -> io::Result<()> {
    // SAFETY: all zeros is the empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET panics rather than write past `set`.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    // SAFETY: the kernel only reads `set`, which outlives the call.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
}

/// Sets the calling thread's scheduling policy.
pub(crate) fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the kernel only reads `parameters`, which outlives the call.
    check(unsafe { libc::sched_setscheduler(0, policy, &parameters) }).map(drop)
}

/// Sets the calling thread's nice value.
pub(crate) fn set_nice(nice: libc::c_int) -> io::Result<()> {
    // On Linux the nice value is a thread's own, and `who` takes a thread id (setpriority(2)).
    let who = thread_id().cast_unsigned();
    // SAFETY: no pointers are involved.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, who, nice) }).map(drop)
}

/// Sets the calling thread's policy, which must be SCHED_OTHER or SCHED_BATCH, with its nice value and its slice in ns
/// (sched_setattr(2); kernels before 6.12 ignore the slice).
pub(crate) fn set_slice(policy: libc::c_int, nice: libc::c_int, slice_ns: u64) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: slice_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel only reads `attributes`, of the size said in it, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The slice of the calling thread, of an ordinary policy, in ns; 0 where the kernel keeps none.
pub(crate) fn slice_ns() -> io::Result<u64> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most `size` bytes into `attributes`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result == 0 {
        Ok(attributes.sched_runtime)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn tsc_offset_attribute(value: *mut u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: value as u64,
    }
}

/// Sets what KVM adds to the host's TSC for this vCPU.
pub(crate) fn set_tsc_offset(vcpu: &VcpuFd, mut offset: u64) -> io::Result<()> {
    let attribute = tsc_offset_attribute(&raw mut offset);
    // SAFETY: KVM reads `attribute`, and through it the u64 `offset`; both outlive the call.
    check(unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) }).map(drop)
}

/// What KVM adds to the host's TSC for this vCPU.
pub(crate) fn tsc_offset(vcpu: &VcpuFd) -> io::Result<u64> {
    let mut offset = 0;
    let attribute = tsc_offset_attribute(&raw mut offset);
    // SAFETY: KVM reads `attribute` and writes one u64 to `offset`; both outlive the call.
    check(unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attribute) })?;
    Ok(offset)
}
