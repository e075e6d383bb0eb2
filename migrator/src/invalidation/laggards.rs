//! Who did not acknowledge in time, and how often.

use std::sync::Arc;

use super::Laggard;
use crate::PageRange;

/// Consumers and ranges that are told apart once they have left. Who registers ever new ranges must not
/// have the list grow for ever.
pub const MAX_LAGGARDS: usize = 64;

/// By consumer and range.
#[derive(Clone, Debug, Default)]
pub(super) struct Laggards(Vec<Laggard>);

impl Laggards {
    /// Adds `times` times; where there is no room for another range, to another one of that consumer or of
    /// anybody's.
    pub(super) fn add(&mut self, consumer: Arc<str>, range: PageRange, times: u64) {
        if times == 0 {
            return;
        }
        let full = self.0.len() >= MAX_LAGGARDS;
        let same = |one: &&mut Laggard| one.consumer == consumer && (full || one.range == range);
        if let Some(one) = self.0.iter_mut().find(same) {
            one.times += times;
        } else if !full {
            self.0.push(Laggard {
                consumer,
                range,
                times,
            });
        } else if let Some(last) = self.0.last_mut() {
            last.times += times;
        }
    }
}

impl From<Laggards> for Vec<Laggard> {
    fn from(laggards: Laggards) -> Self {
        laggards.0
    }
}
