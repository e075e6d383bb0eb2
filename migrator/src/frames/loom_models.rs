//! Every interleaving of those who take slots and those who put them back.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::slot_set::{Form, SlotSet};

/// Slots, each with a cell that only its owner may touch: two at once fail the model.
struct World {
    set: SlotSet,
    cells: Vec<UnsafeCell<u32>>,
}

// SAFETY: loom's cells check that accesses are apart: that is the model.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn new(slots: u32, form: Form) -> Arc<Self> {
        Arc::new(Self {
            set: SlotSet::new(slots, 0..slots, form),
            cells: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// Takes and uses slots; those that it got.
    fn take(&self, slots: u32, floor: u32) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        let left = self.set.take(slots, floor, |slot| taken.push(slot))?;
        assert!(left >= floor.into(), "{left} stay of {floor} that must");
        for &slot in &taken {
            // SAFETY: whoever is here as well fails the model.
            self.cells[slot as usize].with_mut(|cell| unsafe { *cell += 1 });
        }
        Some(taken)
    }
}

/// Two that take one down to a floor of one, of three; one gives back what it got.
fn two_takers(form: Form) {
    loom::model(move || {
        let world = World::new(3, form);
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let taken = world.take(1, 1);
                if let Some(slots) = &taken {
                    world.set.put(slots.iter().copied());
                }
                taken
            })
        };
        let mine = world.take(1, 1);
        let theirs = other.join().expect("no panic");
        assert!(
            mine.is_some() && theirs.is_some(),
            "there was enough for both"
        );
        assert_eq!(world.set.count(), 2);
        let mut left = Vec::new();
        world.set.take(2, 0, |slot| left.push(slot));
        left.extend(mine.expect("looked at"));
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2], "each slot is somewhere, once");
    });
}

/// Two that want the last one above the floor: one gets it.
fn the_last_above_the_floor(form: Form) {
    loom::model(move || {
        let world = World::new(2, form);
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.take(1, 1).is_some())
        };
        let mine = world.take(1, 1).is_some();
        let theirs = other.join().expect("no panic");
        assert!(mine != theirs, "{mine} {theirs}");
        assert_eq!(world.set.count(), 1);
    });
}

#[test]
fn loom_no_slot_is_handed_out_twice() {
    two_takers(Form::Right);
}

#[test]
fn loom_the_floor_stays() {
    the_last_above_the_floor(Form::Right);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_finds_slots_that_stay_in_the_set() {
    two_takers(Form::Keeps);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_finds_a_word_that_is_overwritten() {
    two_takers(Form::Overwrites);
}

#[test]
#[should_panic = "0 stay of 1 that must"]
fn loom_finds_a_count_that_is_looked_at_first() {
    the_last_above_the_floor(Form::LooksThenTakes);
}
