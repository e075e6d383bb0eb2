//! Which page is moved next.

use crate::prng::Prng;
use crate::{Class, ClassSet};

/// Known pages of one class at most; classes with more are found by trying pages at random.
const SAMPLE: usize = 256;
/// Pages tried at random for a class before the sample is used.
const TRIES: u32 = 8;
/// A class has at least the share of one in so many, whatever its size: the few pages of text, stacks
/// and tables are those that every access needs, and whose windows are met.
const FLOOR_DIVISOR: u64 = 4;

/// Pages of each class found by one pass over the map.
struct Sample {
    counts: [u32; Class::COUNT],
    pages: [Vec<u32>; Class::COUNT],
}

impl Sample {
    fn new() -> Self {
        Self {
            counts: [0; Class::COUNT],
            pages: [const { Vec::new() }; Class::COUNT],
        }
    }

    /// Reservoir sampling (Vitter's algorithm R): every page of a class is kept with equal chance.
    fn add(&mut self, page: u32, class: Class, prng: &mut Prng) {
        let (count, pages) = (
            &mut self.counts[class.index()],
            &mut self.pages[class.index()],
        );
        *count += 1;
        if pages.len() < SAMPLE {
            pages.push(page);
        } else {
            let slot = prng.below((*count).into()) as usize;
            if slot < SAMPLE {
                pages[slot] = page;
            }
        }
    }

    fn clear(&mut self) {
        self.counts = [0; Class::COUNT];
        self.pages.iter_mut().for_each(Vec::clear);
    }

    /// The weight of a class: its pages, but no less than a share of all.
    fn weight(&self, class: usize, total: u64) -> u64 {
        match self.counts[class] {
            0 => 0,
            pages => u64::from(pages).max(total / FLOOR_DIVISOR),
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().map(|&pages| u64::from(pages)).sum()
    }
}

/// Picks pages at random, by class, from a map that changes.
///
/// A pass over the map goes on a few pages at a time; what the last whole pass found is picked
/// from. So a pick costs the same whatever the size of the memory.
pub(crate) struct Plan {
    targets: ClassSet,
    prng: Prng,
    pages: u32,
    cursor: u32,
    known: Sample,
    coming: Sample,
}

impl Plan {
    /// A plan over the pages `0..pages`.
    pub(crate) fn new(targets: ClassSet, seed: u64, pages: u32) -> Self {
        Self {
            targets,
            prng: Prng::new(seed),
            pages,
            cursor: 0,
            known: Sample::new(),
            coming: Sample::new(),
        }
    }

    /// Reads the map on by up to `budget` pages. `class` says what a page may be moved as.
    pub(crate) fn scan(&mut self, budget: u32, class: impl Fn(u32) -> Option<Class>) {
        let end = self.cursor.saturating_add(budget).min(self.pages);
        for page in self.cursor..end {
            if let Some(class) = class(page).filter(|&class| self.targets.contains(class)) {
                self.coming.add(page, class, &mut self.prng);
            }
        }
        self.cursor = end;
        if end == self.pages {
            std::mem::swap(&mut self.known, &mut self.coming);
            self.coming.clear();
            self.cursor = 0;
        }
    }

    /// A page of a target class, or `None` if the last pass knew none or the guess was stale.
    pub(crate) fn pick(&mut self, class: impl Fn(u32) -> Option<Class>) -> Option<u32> {
        let wanted = self.pick_class()?;
        let candidates = self.known.pages[wanted.index()].len() as u64;
        if self.known.counts[wanted.index()] as usize > SAMPLE {
            for _ in 0..TRIES {
                let page = self.prng.below(self.pages.into()) as u32;
                if class(page) == Some(wanted) {
                    return Some(page);
                }
            }
        }
        let page = self.known.pages[wanted.index()][self.prng.below(candidates) as usize];
        (class(page) == Some(wanted)).then_some(page)
    }

    fn pick_class(&mut self) -> Option<Class> {
        let total = self.known.total();
        let sum = (0..Class::COUNT)
            .map(|class| self.known.weight(class, total))
            .sum();
        if sum == 0 {
            return None;
        }
        let mut ticket = self.prng.below(sum);
        for class in 0..Class::COUNT {
            let weight = self.known.weight(class, total);
            if ticket < weight {
                return Class::new(class as u8);
            }
            ticket -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(number: u8) -> Class {
        Class::new(number).expect("below the count")
    }

    #[test]
    fn a_small_class_has_its_floor_share() {
        // Page 77 alone is of class 1; 16383 pages are of class 0.
        let map = |page| Some(class(u8::from(page == 77)));
        let mut plan = Plan::new(ClassSet::ALL, 1, 16384);
        plan.scan(u32::MAX, map);
        let picks = 65_000;
        let small = (0..picks).filter(|_| plan.pick(map) == Some(77)).count();
        // 4096 of 20479: 13000 expected, and a standard deviation of 102.
        assert!((12_500..13_500).contains(&small), "{small}");
    }

    #[test]
    fn changes_of_the_map_are_found_by_the_next_pass() {
        let mut plan = Plan::new(ClassSet::EMPTY.with(class(3)), 1, 1000);
        plan.scan(u32::MAX, |_| Some(class(2)));
        assert_eq!(plan.pick(|_| Some(class(2))), None, "not a target");
        let map = |page| Some(class(if page == 5 { 3 } else { 2 }));
        for _ in 0..9 {
            plan.scan(100, map);
            assert_eq!(plan.pick(map), None, "the pass is not over");
        }
        plan.scan(100, map);
        assert_eq!(plan.pick(map), Some(5));
        assert_eq!(plan.pick(|_| None), None, "stale");
    }

    proptest! {
        #[test]
        fn picks_are_of_target_classes_and_repeat_with_the_seed(
            map in prop::collection::vec(prop::option::of(0u8..4), 1..200),
            targets in 0u32..16,
            seed: u64,
        ) {
            let class_of = |page: u32| map[page as usize].map(class);
            let make = || {
                let mut plan = Plan::new(ClassSet(targets), seed, map.len() as u32);
                plan.scan(u32::MAX, class_of);
                (0..50).map(|_| plan.pick(class_of)).collect::<Vec<_>>()
            };
            let picks = make();
            prop_assert_eq!(&picks, &make());
            let any = map.iter().flatten().any(|&number| targets & 1 << number != 0);
            for pick in picks {
                prop_assert_eq!(pick.is_some(), any);
                if let Some(page) = pick {
                    prop_assert!(class_of(page).is_some_and(|c| ClassSet(targets).contains(c)));
                }
            }
        }
    }
}
