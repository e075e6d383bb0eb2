//! CPU time spent.

/// That of this process, in ns.
pub fn process_ns() -> u64 {
    spent_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// That of the calling thread, in ns.
pub fn thread_ns() -> u64 {
    spent_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn spent_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both clocks exist on every Linux, and `time` is there to be written.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result == 0 {
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    } else {
        0
    }
}
