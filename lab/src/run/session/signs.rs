//! Whether a guest that was asked to stop still does something.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use underfoot_vmm::SharedRegion;

/// What a guest does on its way to its end shows in counters: operations that come to their end, callbacks
/// of RCU, check words, pages that the audit has looked at. Ticks are none: they come to one that hangs.
#[derive(Debug)]
pub(super) struct Signs {
    last: u64,
    changed: Instant,
}

impl Signs {
    pub(super) fn new(shared: &SharedRegion) -> Self {
        Self {
            last: sum(shared),
            changed: Instant::now(),
        }
    }

    /// Looks; for how long nothing has changed.
    pub(super) fn look(&mut self, shared: &SharedRegion) -> Duration {
        self.note(sum(shared), Instant::now())
    }

    fn note(&mut self, now: u64, at: Instant) -> Duration {
        if now != self.last {
            (self.last, self.changed) = (now, at);
        }
        at - self.changed
    }
}

/// All counters that only grow, of all vCPUs. The guest may have scribbled over them.
fn sum(shared: &SharedRegion) -> u64 {
    let of_vcpus = (0..shared.cpus()).flat_map(|vcpu| {
        let area = shared.vcpu(vcpu);
        [
            &area.progress,
            &area.checked,
            &area.updates,
            &area.callbacks[1],
        ]
    });
    of_vcpus
        .chain([shared.header().audited])
        .fold(0, |sum, word| sum.wrapping_add(word.load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_change() {
        let began = Instant::now();
        let mut signs = Signs {
            last: 7,
            changed: began,
        };
        let ms = Duration::from_millis;
        for (at, word, silent) in [
            (1, 7, 1),
            (3, 7, 3),
            (4, 8, 0),
            (9, 8, 5),
            (10, 2, 0),
            (10, 2, 0),
        ] {
            assert_eq!(
                signs.note(word, began + ms(at)),
                ms(silent),
                "after {at} ms"
            );
        }
    }
}
