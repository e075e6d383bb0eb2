//! What a stall was made of.

use super::Cause;
use std::ops::AddAssign;

/// Ticks by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts([u64; Cause::ALL.len()]);

impl Parts {
    /// Of `cause`.
    #[must_use]
    pub const fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }

    /// `ticks` more of `cause`.
    pub fn add(&mut self, cause: Cause, ticks: u64) {
        let part = &mut self.0[cause as usize];
        *part = part.saturating_add(ticks);
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl AddAssign for Parts {
    fn add_assign(&mut self, other: Self) {
        for cause in Cause::ALL {
            self.add(cause, other.of(cause));
        }
    }
}
