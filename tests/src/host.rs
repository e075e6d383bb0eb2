//! What this machine can run, and taking turns on it.

use std::env;
use std::fs::OpenOptions;
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// Whether KVM can be used. Says that the test is skipped if not.
///
/// # Panics
///
/// If it cannot and `UNDERFOOT_REQUIRE_KVM=1`.
#[must_use]
pub fn kvm() -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => true,
        Err(error) => {
            skip(&format!("/dev/kvm cannot be opened: {error}"));
            false
        }
    }
}

/// Says that a test does not run, and why.
///
/// # Panics
///
/// If `UNDERFOOT_REQUIRE_KVM=1`: then everything must run.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("UNDERFOOT_REQUIRE_KVM").is_none_or(|value| value != "1"),
        "cannot run: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// Whether the processor is emulated, so that what depends on speed means nothing.
#[must_use]
pub fn emulated() -> bool {
    env::var_os("UNDERFOOT_EMULATED").is_some_and(|value| value == "1")
}

/// A least count that a real processor reaches; an emulated one need only do the thing at all.
#[must_use]
pub fn at_least(count: u64) -> u64 {
    if emulated() { 1 } else { count }
}

/// The CPUs that the tests may run on, rising.
///
/// # Panics
///
/// If the system does not say.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all zeros is the empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `set`, which outlives the call.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(result, 0, "sched_getaffinity");
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: CPU_ISSET only reads `set`, at an index below CPU_SETSIZE.
    all.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Policy, nice value and slice in ns of the thread `id`, 0 for the calling one; the slice is 0 where the kernel keeps
/// none. `None` if there is no such thread.
#[must_use]
pub fn scheduling_of(id: libc::pid_t) -> Option<(u32, i32, u64)> {
    let size = size_of::<libc::sched_attr>();
    // SAFETY: plain numbers, for which zeros will do.
    let mut of: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes into `of`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, id, &raw mut of, size, 0) };
    (result == 0).then_some((of.sched_policy, of.sched_nice, of.sched_runtime))
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// One machine at a time: the test harness runs tests side by side, which would leave each guest
/// a share of the CPUs and make its counts depend on its neighbours.
pub fn turn() -> MutexGuard<'static, ()> {
    // A test that failed while it held the turn left nothing behind in it.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
