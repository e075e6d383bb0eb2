//! What one vCPU waits for, as one thread says it.

use crate::sync::{AtomicU64, Ordering};
use underfoot_migrator::clock::Tsc;
use underfoot_migrator::{Gfn, Holder};

/// How a vCPU waits for a page, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Its thread sleeps.
    Asleep,
    /// It does not get on in the access that began then, by the guest's word, which names it.
    Access(Tsc),
    /// It is out of the guest, in the midst of what nobody has published: as long as it is.
    Out,
}

impl How {
    const fn word(self) -> u64 {
        match self {
            Self::Asleep => 0,
            Self::Out => 1,
            Self::Access(began) => began,
        }
    }

    const fn from_word(word: u64) -> Self {
        match word {
            0 => Self::Asleep,
            1 => Self::Out,
            began => Self::Access(began),
        }
    }
}

/// A page that a vCPU met in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) gfn: Gfn,
    /// The window.
    pub(super) holder: Holder,
    pub(super) how: How,
    /// When the wait began, or before.
    pub(super) since: Tsc,
}

/// The last page that a vCPU met, with one writer at a time.
///
/// Nobody takes it back: it holds until its window is closed, or the access is another.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Odd while the others are written; 0 if they never were.
    version: AtomicU64,
    words: [AtomicU64; 5],
}

impl Slot {
    /// Says that the vCPU met this.
    pub(super) fn publish(&self, met: Met) {
        let same = |(_, last): (u64, Met)| {
            Met {
                since: met.since,
                ..last
            } == met
        };
        if self.read().is_some_and(same) {
            // Said already: whoever looks at it is not to see another wait.
            return;
        }
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        let values = [
            met.gfn.0,
            met.holder.mover.into(),
            met.holder.sequence,
            met.how.word(),
            met.since,
        ];
        for (word, value) in self.words.iter().zip(values) {
            // Pairs with the acquire in `read`: who sees this sees the version odd, or later.
            word.store(value, Ordering::Release);
        }
        // Pairs with the acquire in `read`: who sees this version sees all of the words.
        self.version.store(version + 2, Ordering::Release);
    }

    /// What was said last, and a number that is another each time; `None` if nothing was, or if it is being
    /// said now.
    pub(super) fn read(&self) -> Option<(u64, Met)> {
        let version = self.version.load(Ordering::Acquire);
        let [gfn, mover, sequence, how, since] = self
            .words
            .each_ref()
            .map(|word| word.load(Ordering::Acquire));
        let same = self.version.load(Ordering::Relaxed) == version;
        let met = Met {
            gfn: Gfn(gfn),
            holder: Holder {
                mover: mover as u16,
                sequence,
            },
            how: How::from_word(how),
            since,
        };
        (version != 0 && version.is_multiple_of(2) && same).then_some((version, met))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read() {
        let slot = Slot::default();
        assert_eq!(slot.read(), None);
        let mut versions = Vec::new();
        for (gfn, how) in [
            (7, How::Asleep),
            (8, How::Access(99)),
            (8, How::Access(99)),
            (8, How::Out),
        ] {
            let met = Met {
                gfn: Gfn(gfn),
                holder: Holder {
                    mover: 3,
                    sequence: 5,
                },
                how,
                since: 42,
            };
            slot.publish(met);
            let (version, read) = slot.read().expect("said");
            assert_eq!(read, met);
            versions.push(version);
        }
        assert_eq!(versions, [2, 4, 4, 6]);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    fn met(number: u64) -> Met {
        Met {
            gfn: Gfn(number),
            holder: Holder {
                mover: number as u16,
                sequence: number,
            },
            how: How::Access(number + 1),
            since: number,
        }
    }

    /// Two are said one after the other; whatever `read` reads is one of them.
    fn said_twice(read: fn(&Slot) -> Option<Met>) {
        let mut model = loom::model::Builder::new();
        // Each has seven steps; what is wrong with them shows by one preemption of each.
        model.preemption_bound = Some(3);
        model.check(move || {
            let slot = Arc::new(Slot::default());
            slot.publish(met(1));
            let reader = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    if let Some(read) = read(&slot) {
                        assert!([met(1), met(2)].contains(&read), "half of each");
                    }
                })
            };
            slot.publish(met(2));
            reader.join().expect("no panic");
        });
    }

    #[test]
    fn loom_what_a_vcpu_met_is_read_whole() {
        said_twice(|slot| slot.read().map(|(_, met)| met));
    }

    #[test]
    #[should_panic = "half of each"]
    fn loom_catches_one_who_looks_at_the_version_once() {
        said_twice(|slot| {
            let version = slot.version.load(Ordering::Acquire);
            let words = slot
                .words
                .each_ref()
                .map(|word| word.load(Ordering::Acquire));
            (version != 0 && version % 2 == 0).then(|| Met {
                gfn: Gfn(words[0]),
                holder: Holder {
                    mover: words[1] as u16,
                    sequence: words[2],
                },
                how: How::from_word(words[3]),
                since: words[4],
            })
        });
    }
}
