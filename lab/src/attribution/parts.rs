//! What a stall was made of.

use super::Cause;
use crate::timeline::Span;
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

/// A stretch of a stall, and what took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Why.
    pub cause: Cause,
    /// When, in TSC ticks.
    pub span: Span,
}

impl<'a> FromIterator<&'a Piece> for Parts {
    fn from_iter<I: IntoIterator<Item = &'a Piece>>(pieces: I) -> Self {
        let mut parts = Self::default();
        for piece in pieces {
            parts.add(piece.cause, piece.span.ticks());
        }
        parts
    }
}

/// Whether `pieces` follow each other from the begin of `stall` to its end, with nothing between them and nothing twice.
pub(super) fn tile(pieces: &[Piece], stall: Span) -> bool {
    let end = pieces.iter().try_fold(stall.start, |end, piece| {
        (piece.span.start == end).then_some(piece.span.end)
    });
    end == Some(stall.end)
}
