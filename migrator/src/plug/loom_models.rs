//! Every interleaving of a fault or a window with a block that is unplugged and plugged again.

use std::convert::Infallible;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::block::{Block, Reader};
use super::change::Refusal;
use super::hold::Hold;
use super::{Blocks, FaultCells, FaultLock};
use crate::page_word::{Lane, PageWord, serve};
use crate::{Served, Variant};

/// One block of one page, and what the kernel knows of it.
struct Model {
    blocks: Blocks,
    words: [PageWord; 1],
    /// Whether it is registered. Whoever reads it must be kept apart from who changes it: loom sees to that.
    registered: UnsafeCell<bool>,
    /// Somebody waits in the kernel, once the page was touched while it was registered.
    asleep: Mutex<bool>,
}

// SAFETY: loom's cell checks that the locks keep the accesses to it apart: that is the model.
unsafe impl Sync for Model {}

impl Model {
    fn new(lock: FaultLock, variant: Variant) -> Arc<Self> {
        Arc::new(Self {
            blocks: Blocks::of_one_page(lock, variant),
            words: [PageWord::new(Lane::Blocking)],
            registered: UnsafeCell::new(true),
            asleep: Mutex::new(false),
        })
    }

    fn wake(&self) {
        *self.asleep.lock().expect("no panic") = false;
    }

    fn is_asleep(&self) -> bool {
        *self.asleep.lock().expect("no panic")
    }

    fn set_registered(&self, registered: bool) {
        // SAFETY: nobody is in the block; loom fails the model otherwise.
        self.registered
            .with_mut(|cell| unsafe { *cell = registered });
    }

    /// A step that the kernel takes only where memory is registered.
    fn use_registration(&self) {
        // SAFETY: whoever is in the block keeps it; loom fails the model otherwise.
        let registered = self.registered.with(|cell| unsafe { *cell });
        assert!(registered, "a page of a block that is not plugged");
    }

    fn unplug(&self) {
        let unplugged = self.blocks.unplug(0..1, &self.words, Duration::MAX, || {
            self.set_registered(false);
            self.wake();
            Ok::<_, Refusal<()>>(())
        });
        unplugged.expect("plugged");
    }

    fn plug(&self) {
        let plugged = self.blocks.plug(0..1, &self.words, || {
            self.set_registered(true);
            self.words[0].set_hole(true);
            Ok::<_, Infallible>(())
        });
        plugged.expect("unplugged").expect("registered");
        self.wake();
    }

    /// A fault whose event was read.
    fn handle(&self, looks_again: bool) {
        let counts = FaultCells::default();
        let Some(hold) = self.blocks.enter_fault(0, &counts) else {
            return;
        };
        let _ = serve(
            &self.words[0],
            |_| match hold.is_current() || !looks_again {
                true => {
                    self.use_registration();
                    self.wake();
                    Ok(Served::Hole)
                }
                false => Err(()),
            },
            || {
                self.wake();
                Ok(())
            },
        );
    }

    fn window(&self) {
        if let Some(_hold) = self.blocks.enter_window(0)
            && self.words[0].try_claim(u64::MAX, 0)
        {
            self.use_registration();
            let _ = self.words[0].leave(crate::page_word::Leave::Untouched);
        }
    }
}

/// `other` against a block that is unplugged, and plugged again if so chosen.
fn against_change(model: fn() -> Arc<Model>, again: bool, other: fn(&Model)) {
    loom::model(move || {
        let model = model();
        let theirs = {
            let model = Arc::clone(&model);
            thread::spawn(move || other(&model))
        };
        model.unplug();
        if again {
            model.plug();
        }
        theirs.join().expect("no panic");
        assert_eq!(model.blocks.is_plugged(0), again);
        assert!(!model.is_asleep(), "who touched the page sleeps for ever");
        let word = &model.words[0];
        assert!(!word.is_moving() && !word.is_populating(), "let go of");
        let in_use = model.blocks.counters().in_use;
        assert_eq!(in_use, 0, "found by the one who unplugs");
    });
}

fn region() -> Arc<Model> {
    Model::new(FaultLock::Region, Variant::None)
}

fn table() -> Arc<Model> {
    Model::new(FaultLock::Table, Variant::None)
}

fn sequence() -> Arc<Model> {
    Model::new(FaultLock::Sequence, Variant::None)
}

#[test]
fn loom_faults_keep_their_block() {
    for model in [region, table, sequence] {
        for again in [false, true] {
            against_change(model, again, |model| model.handle(true));
        }
    }
}

#[test]
fn loom_windows_keep_their_block() {
    for again in [false, true] {
        against_change(region, again, Model::window);
    }
}

#[test]
fn loom_a_fault_and_a_window_and_a_change() {
    against_change(region, false, |model| {
        model.window();
        model.handle(true);
    });
}

/// Memory that is touched while it is being plugged: nobody sleeps for ever, though the handler finds the block
/// unplugged or being changed.
#[test]
fn loom_who_touches_a_block_that_is_being_plugged_is_served_or_woken() {
    for lock in FaultLock::ALL {
        loom::model(move || {
            let model = Model::new(lock, Variant::None);
            model.unplug();
            let other = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let plugged = model.blocks.plug(0..1, &model.words, || {
                        model.set_registered(true);
                        // The guest is quick: from here on a touch sleeps, and its event is there to be read.
                        *model.asleep.lock().expect("no panic") = true;
                        Ok::<_, Infallible>(())
                    });
                    plugged.expect("unplugged").expect("registered");
                    model.wake();
                })
            };
            if model.is_asleep() {
                model.handle(true);
            }
            other.join().expect("no panic");
            assert!(!model.is_asleep(), "who touched the page sleeps for ever");
        });
    }
}

#[test]
#[should_panic = "a page of a block that is not plugged"]
fn loom_catches_a_fault_without_a_lock() {
    let unlocked = || Model::new(FaultLock::Region, Variant::FaultUnlocked);
    against_change(unlocked, false, |model| model.handle(true));
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_a_window_without_a_lock() {
    let unlocked = || Model::new(FaultLock::Region, Variant::WindowUnlocked);
    against_change(unlocked, false, Model::window);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_a_sequence_that_is_not_looked_at_again() {
    against_change(sequence, true, |model| model.handle(false));
}

/// Looks, and enters without looking again.
fn enter_blindly(block: &Block) -> bool {
    let plugged = block.is_plugged();
    if plugged {
        block.enter_blindly(Reader::Fault);
    }
    plugged
}

#[test]
#[should_panic = "a block that is not plugged"]
fn loom_catches_a_lock_that_is_taken_after_the_look() {
    against_change(region, false, |model| {
        let block = &model.blocks.blocks[0];
        if enter_blindly(block) {
            model.use_registration();
            block.leave(Reader::Fault);
        }
    });
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_a_fault_that_leaves_before_it_is_served() {
    against_change(region, false, |model| {
        let hold = Hold::try_new(&model.blocks.blocks[0], Reader::Fault);
        let entered = hold.is_some();
        drop(hold);
        if entered {
            model.use_registration();
        }
    });
}

#[test]
#[should_panic = "a block that is not plugged"]
fn loom_catches_a_table_that_is_not_looked_at_again() {
    against_change(region, false, |model| {
        if Hold::try_new(&model.blocks.blocks[0], Reader::Fault).is_none() {
            let _guard = model.blocks.table.read();
            model.use_registration();
        }
    });
}
