//! How large the pool is, and its watermarks.

use std::fs;

use super::{FrameError, Placement};
use crate::PAGE_SIZE;

/// The most frames of a pool: 16 GiB.
pub const MAX_FRAMES: u32 = 1 << 22;

/// The size of the pool and its watermarks, all in frames of 4 KiB: 0 < reserve < min < low < high.
///
/// ```text
///  free   fast path                     slow path
///  ────   ─────────                     ─────────
///  high   the refiller rests
///  low    takes, and wakes it below
///  min    takes down to here            refills first, which whoever is here pays for
///  reserve                              movers take down to here, the fault path all
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameOptions {
    /// Frames in the pool: free, in limbo and about to be mapped. It never holds more for long.
    pub size: u32,
    /// What the slow path of faults alone may take.
    pub reserve: u32,
    /// What the fast path leaves.
    pub min: u32,
    /// Below this the refiller is woken.
    pub low: u32,
    /// It refills up to here.
    pub high: u32,
    /// Where frames lie.
    pub placement: Placement,
    /// How often movers try the fast path before they fall back; once is what an ordinary allocation does.
    pub tries: u32,
    /// What a fault falls back to.
    pub fallback: Fallback,
}

/// What a fault does that finds the pool below min. Movers refill it in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// It refills the pool, tries again, and may take the reserve.
    #[default]
    Refill,
    /// It leaves the pool alone: the kernel's classic path gives it a frame, under the address-space lock.
    Kernel,
}

impl FrameOptions {
    /// A pool of `size` frames, with watermarks that are shares of it: a reserve of a 64th, 32nd, 16th and 8th.
    #[must_use]
    pub const fn of(size: u32) -> Self {
        // Each above the one before it, however small the size.
        let reserve = if size >= 64 { size / 64 } else { 1 };
        Self {
            size,
            reserve,
            min: 2 * reserve,
            low: 4 * reserve,
            high: 8 * reserve,
            placement: Placement::Anywhere,
            tries: 1,
            fallback: Fallback::Refill,
        }
    }

    /// What serves windows of up to `batch` pages, with `limbo` old frames waiting.
    pub(crate) const fn fit(batch: u32, limbo: u32) -> Self {
        Self::of(1024 + 4 * batch + 2 * limbo)
    }

    /// Checks them for windows of up to `batch` pages and `limbo` old frames that wait.
    ///
    /// # Errors
    /// What is wrong with them, and what would do.
    pub fn check(&self, batch: u32, limbo: u32) -> Result<(), FrameError> {
        let Self { size, .. } = *self;
        let Self {
            reserve,
            min,
            low,
            high,
            ..
        } = *self;
        if !(0 < reserve && reserve < min && min < low && low < high) {
            return Err(FrameError::Watermarks {
                reserve,
                min,
                low,
                high,
            });
        }
        if self.tries == 0 {
            return Err(FrameError::Tries);
        }
        let least = high.saturating_add(limbo).saturating_add(2 * batch);
        if size < least {
            return Err(FrameError::TooSmall { size, least });
        }
        if size > MAX_FRAMES {
            return Err(FrameError::TooLarge {
                size,
                most: MAX_FRAMES,
            });
        }
        check_memory(size, available_bytes())
    }
}

fn check_memory(size: u32, available: Option<u64>) -> Result<(), FrameError> {
    match available {
        Some(available) if u64::from(size) * PAGE_SIZE as u64 > available => {
            Err(FrameError::Memory { size, available })
        }
        _ => Ok(()),
    }
}

/// What the kernel would give without swapping; `None` if it does not say.
fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn watermarks_of_every_size_are_in_order() {
        for size in [1, 63, 64, 100, 4096, MAX_FRAMES] {
            let FrameOptions {
                reserve,
                min,
                low,
                high,
                ..
            } = FrameOptions::of(size);
            assert!(0 < reserve && reserve < min && min < low && low < high);
        }
        for (batch, limbo) in [(1, 0), (512, 64), (512, 1 << 20)] {
            assert!(FrameOptions::fit(batch, limbo).check(batch, limbo).is_ok());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_value_bound_and_remedy() {
        let good = FrameOptions::of(4096);
        let least = good.high + 64 + 2;
        for (options, parts) in [
            (
                FrameOptions {
                    min: good.reserve,
                    ..good
                },
                ["reserve 64, min 64", "above the one before"],
            ),
            (
                FrameOptions { reserve: 0, ..good },
                ["reserve 0", "above 0"],
            ),
            (
                FrameOptions {
                    low: good.high,
                    ..good
                },
                ["low 512, high 512", "above the one before"],
            ),
            (
                FrameOptions {
                    size: least - 1,
                    ..good
                },
                ["577 frames", "take 578"],
            ),
            (
                FrameOptions::of(MAX_FRAMES + 1),
                ["4194305", "up to 4194304"],
            ),
        ] {
            let error = options.check(1, 64).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{error}: no {part:?}");
            }
        }
        assert!(
            FrameOptions {
                size: least,
                ..good
            }
            .check(1, 64)
            .is_ok()
        );
    }

    #[test]
    fn a_pool_larger_than_memory_is_refused_with_what_would_do() {
        assert!(check_memory(1024, Some(4 << 20)).is_ok());
        let error = check_memory(1025, Some(4 << 20)).expect_err("a frame too many");
        assert_eq!(
            error.to_string(),
            "a pool of 1025 frames takes 4 MiB, and the host has 4 MiB available; give at most 1024 frames"
        );
    }
}
