//! Time as raw ticks of the time-stamp counter, which host and guest share.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A reading of the time-stamp counter, in ticks.
pub type Tsc = u64;

const CALIBRATION: Duration = Duration::from_millis(2);

/// The counter now. Loads before it in program order are done before it is read.
#[inline]
#[must_use]
pub fn now() -> Tsc {
    // SAFETY: both instructions exist on every x86-64 CPU and touch no memory; CR4.TSD, which would
    // make `rdtsc` fault, is not set for Linux processes unless they ask for it by prctl.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Ticks per second, measured once per process against the monotonic clock (takes 2 ms).
///
/// Good to about 0.1 %: meant for pacing. Who needs better passes the frequency that KVM states.
#[must_use]
pub fn measured_hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let (began, first) = (Instant::now(), now());
        while began.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (last, took) = (now(), began.elapsed());
        hz(last.wrapping_sub(first), took)
    })
}

fn hz(ticks: u64, took: Duration) -> u64 {
    let hz = u128::from(ticks) * 1_000_000_000 / took.as_nanos().max(1);
    u64::try_from(hz).unwrap_or(u64::MAX).max(1)
}

/// `duration` in ticks at `hz` ticks per second.
#[must_use]
pub fn ticks(duration: Duration, hz: u64) -> u64 {
    let ticks = duration.as_nanos().saturating_mul(hz.into()) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// `ticks` at `hz` ticks per second.
pub(crate) fn duration(ticks: u64, hz: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_hz_agree() {
        assert_eq!(ticks(Duration::from_micros(100), 2_600_000_000), 260_000);
        assert_eq!(hz(2_600_000, Duration::from_millis(1)), 2_600_000_000);
        assert_eq!(hz(0, Duration::ZERO), 1);
        assert_eq!(duration(2_600_000, 2_600_000_000), Duration::from_millis(1));
        assert_eq!(ticks(Duration::MAX, u64::MAX), u64::MAX);
    }
}
