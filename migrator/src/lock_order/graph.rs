//! Which classes were taken while which were held.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Class;

const COUNT: usize = Class::ALL.len();
type Place = &'static Location<'static>;

/// A set of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classes(u16);

impl Classes {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn with(self, class: Class) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    pub(crate) const fn without(self, class: Class) -> Self {
        Self(self.0 & !(1 << class as u8))
    }

    const fn has(self, class: Class) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |&class| self.has(class))
    }
}

/// Edges from each class to those that were taken while it was held. It never has a cycle: an edge that would close
/// one is told instead.
pub(crate) struct Graph {
    after: [AtomicU16; COUNT],
    /// Where each edge was seen first; edges are added under this lock.
    places: Mutex<[[Option<Place>; COUNT]; COUNT]>,
}

/// What would have closed a cycle.
#[derive(Debug)]
pub(crate) struct Cycle {
    held: Class,
    wanted: Class,
    /// From `wanted` back to `held`: each taken while the one before it was held, and where, unless that is known
    /// beforehand.
    back: Vec<(Class, Option<Place>)>,
}

impl Graph {
    pub(crate) const fn new(known: &[(Class, Class)]) -> Self {
        let mut masks = [0u16; COUNT];
        let mut nth = 0;
        while nth < known.len() {
            let (before, after) = known[nth];
            masks[before as usize] |= 1 << after as u8;
            nth += 1;
        }
        let mut after = [const { AtomicU16::new(0) }; COUNT];
        nth = 0;
        while nth < COUNT {
            after[nth] = AtomicU16::new(masks[nth]);
            nth += 1;
        }
        Self {
            after,
            places: Mutex::new([[None; COUNT]; COUNT]),
        }
    }

    fn after(&self, class: Class) -> Classes {
        // An edge that is not seen yet is looked up again under the lock.
        Classes(self.after[class as usize].load(Ordering::Relaxed))
    }

    /// Takes `wanted` with `held`.
    #[track_caller]
    pub(crate) fn take(&self, held: Classes, wanted: Class) -> Result<(), Cycle> {
        let place = Location::caller();
        held.iter()
            .filter(|&held| !self.after(held).has(wanted))
            .try_for_each(|held| self.add(held, wanted, place))
    }

    #[cold]
    fn add(&self, held: Class, wanted: Class, place: Place) -> Result<(), Cycle> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = self.path(wanted, held, Classes::NONE) {
            let steps = path.windows(2);
            let back = steps
                .map(|step| (step[1], places[step[0] as usize][step[1] as usize]))
                .collect();
            return Err(Cycle { held, wanted, back });
        }
        places[held as usize][wanted as usize] = Some(place);
        self.after[held as usize].fetch_or(1 << wanted as u8, Ordering::Relaxed);
        Ok(())
    }

    /// The classes from `from` to `to` along edges, both of them included.
    fn path(&self, from: Class, to: Class, seen: Classes) -> Option<Vec<Class>> {
        if from == to {
            return Some(vec![from]);
        }
        let seen = seen.with(from);
        let mut next = self.after(from).iter().filter(|&next| !seen.has(next));
        next.find_map(|next| {
            let mut rest = self.path(next, to, seen)?;
            rest.insert(0, from);
            Some(rest)
        })
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, wanted) = (self.held, self.wanted);
        write!(f, "lock order: {wanted:?} is wanted while {held:?} is held")?;
        let mut before = wanted;
        for (after, place) in &self.back {
            write!(f, ", {before:?} waits for {after:?}")?;
            match place {
                Some(place) => write!(f, " (seen at {place})")?,
                None => write!(f, " (by nature)")?,
            }
            before = *after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Alias, Consumers, Counters, Frames, GracePeriod, Pagemap, Range, Registrants};
    use proptest::prelude::*;

    fn held(classes: &[Class]) -> Classes {
        classes
            .iter()
            .fold(Classes::NONE, |held, &class| held.with(class))
    }

    #[test]
    fn orders_that_fit_together_are_taken() {
        let graph = Graph::new(&[]);
        for _ in 0..2 {
            graph.take(held(&[]), Range).expect("nothing is held");
            graph.take(held(&[Range]), Consumers).expect("new");
            graph.take(held(&[Range, Consumers]), Alias).expect("new");
            graph.take(held(&[Range]), Alias).expect("the same order");
        }
    }

    #[test]
    fn cycles_are_told_before_anybody_waits() {
        /// What is held, and what is wanted then.
        type Step = (&'static [Class], Class);
        type Case = (&'static [(Class, Class)], &'static [Step], &'static str);
        const CASES: &[Case] = &[
            (
                &[],
                &[(&[Alias], Alias)],
                "Alias is wanted while Alias is held",
            ),
            (
                &[],
                &[(&[Alias], Pagemap), (&[Pagemap], Alias)],
                "Alias is wanted while Pagemap is held, Alias waits for Pagemap (seen at ",
            ),
            (
                &[],
                &[
                    (&[Alias], Pagemap),
                    (&[Pagemap], Counters),
                    (&[Counters], Alias),
                ],
                "Alias waits for Pagemap (seen at ",
            ),
            (
                &Class::KNOWN,
                &[(&[Range], Frames)],
                "Frames is wanted while Range is held, Frames waits for Range (by nature)",
            ),
            (
                &Class::KNOWN,
                &[(&[Registrants], Frames), (&[Consumers, Range], Registrants)],
                "Registrants waits for Frames (seen at ",
            ),
            (
                &Class::KNOWN,
                &[(&[Range], GracePeriod)],
                "GracePeriod waits for Range (by nature)",
            ),
        ];
        for (known, steps, what) in CASES {
            let graph = Graph::new(known);
            let (last, before) = steps.split_last().expect("a step");
            for (of, wanted) in before {
                graph.take(held(of), *wanted).expect("no cycle yet");
            }
            // Told each time, and never an edge.
            for _ in 0..2 {
                let cycle = graph.take(held(last.0), last.1).expect_err(what);
                assert!(cycle.to_string().contains(what), "{cycle}");
            }
        }
    }

    proptest! {
        #[test]
        fn takers_in_one_order_are_never_stopped(
            takes in prop::collection::vec((0..1u16 << COUNT, 0..COUNT), 1..200),
        ) {
            let graph = Graph::new(&[]);
            for (mask, wanted) in takes {
                // Only what comes before it is held.
                let held = Classes(mask & ((1 << wanted) - 1));
                prop_assert!(graph.take(held, Class::ALL[wanted]).is_ok());
            }
        }

        #[test]
        fn of_two_opposite_orders_one_is_stopped(one in 0..COUNT, other in 0..COUNT) {
            let graph = Graph::new(&[]);
            let (one, other) = (Class::ALL[one], Class::ALL[other]);
            let first = graph.take(held(&[one]), other).is_ok();
            prop_assert!(!(first && graph.take(held(&[other]), one).is_ok()));
        }
    }
}
