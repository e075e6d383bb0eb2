//! The VMA's lock and its sequence count, under every order of steps.

use super::RwCount;
use crate::{
    fixture,
    sync::{
        SeqCount, TicketLock,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};
use loom::{cell::UnsafeCell, model::Builder, thread};
// Loom's own cannot be dropped by a panic that comes while another thread has one.
use std::sync::Arc;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// What teardown frees and a fault writes into: a table.
#[derive(Default)]
struct Table(UnsafeCell<u32>);

impl Table {
    fn install(&self) {
        // SAFETY: loom fails the model if anybody writes the value.
        self.0.with(|_| ());
    }
    fn free(&self) {
        // SAFETY: loom fails the model if anybody else is at the value.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

// SAFETY: loom checks every access.
unsafe impl Sync for Table {}
// SAFETY: an integer.
unsafe impl Send for Table {}

/// A fault tries the VMA's lock, while teardown detaches the VMA and frees what is under it.
fn trylock(locked: bool, rechecked: bool) {
    explore(move || {
        let vma = Arc::new((RwCount::new(), AtomicU32::new(0), Table::default()));
        let teardown = {
            let vma = vma.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(0);
                if locked {
                    vma.0.write(&cpu);
                }
                vma.1.store(1, Relaxed);
                vma.2.free();
                if locked {
                    vma.0.write_end();
                }
            })
        };
        if vma.0.try_read() {
            if !rechecked || vma.1.load(Relaxed) == 0 {
                vma.2.install();
            }
            vma.0.read_end();
        }
        teardown.join().expect("no panic");
        // Read attempts after a writer succeed again.
        assert!(vma.0.try_read());
    });
}

#[test]
fn loom_vma_lock_keeps_tables_while_a_fault_is_inside() {
    trylock(true, true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_vma_lock_forgotten_in_teardown_is_caught() {
    trylock(false, true);
}

/// Detached VMAs are not used, though their lock can be had again: what was freed is gone.
#[test]
#[should_panic(expected = "used after it was freed")]
fn loom_vma_not_looked_at_again_is_caught() {
    explore(|| detached(false));
}

#[test]
fn loom_vma_is_looked_at_again_under_its_lock() {
    explore(|| detached(true));
}

fn detached(rechecked: bool) {
    let vma = Arc::new((RwCount::new(), AtomicU32::new(0), AtomicU32::new(0)));
    let teardown = {
        let vma = vma.clone();
        thread::spawn(move || {
            let cpu = fixture::shared_cpu(0);
            vma.0.write(&cpu);
            vma.1.store(1, Relaxed);
            vma.2.store(1, Relaxed);
            vma.0.write_end();
        })
    };
    let mut late = false;
    if vma.0.try_read() {
        if !rechecked || vma.1.load(Relaxed) == 0 {
            late = vma.2.load(Relaxed) != 0;
        }
        vma.0.read_end();
    }
    teardown.join().expect("no panic");
    assert!(!late, "used after it was freed");
}

/// Two writers and a reader.
#[test]
fn loom_rwcount_excludes() {
    explore(|| {
        let lock = Arc::new((RwCount::new(), Table::default()));
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(0);
                lock.0.write(&cpu);
                lock.1.free();
                lock.0.write_end();
            })
        };
        let cpu = fixture::shared_cpu(1);
        lock.0.write(&cpu);
        lock.1.free();
        lock.0.write_end();
        if lock.0.try_read() {
            lock.1.install();
            lock.0.read_end();
        }
        writer.join().expect("no panic");
    });
}

/// A speculative fault installs a page under the page-table lock if the VMA's count is what it was;
/// unmapping clears the entry. Nothing may be mapped when both are done.
fn speculative(under_lock: bool) {
    explore(move || {
        let vma = Arc::new((
            SeqCount::new(),
            TicketLock::<(), false>::new(()),
            AtomicU32::new(0),
            AtomicU32::new(0),
        ));
        let unmap = {
            let vma = vma.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(0);
                vma.0.write_begin();
                vma.3.store(1, Release);
                {
                    let _locked = vma.1.lock(&cpu);
                    vma.2.store(0, Relaxed);
                }
                vma.0.write_end();
            })
        };
        let cpu = fixture::shared_cpu(1);
        let seq = vma.0.read_begin_raw();
        if vma.3.load(Acquire) == 0 {
            let mut good = under_lock || !vma.0.read_retry(seq);
            let _locked = vma.1.lock(&cpu);
            if under_lock {
                good = !vma.0.read_retry(seq);
            }
            if good {
                vma.2.store(1, Relaxed);
            }
        }
        unmap.join().expect("no panic");
        assert_eq!(vma.2.load(Relaxed), 0, "mapped after it was unmapped");
    });
}

#[test]
fn loom_speculative_fault_sees_an_unmap() {
    speculative(true);
}

#[test]
#[should_panic(expected = "mapped after it was unmapped")]
fn loom_speculative_check_before_the_lock_is_caught() {
    speculative(false);
}
