use super::*;
use crate::{
    fixture::{self, Fixture},
    mm::watermark::{Levels, NoReclaim},
    sync::RcuStall,
};
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Release},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn silent(_: &Cpu, _: &RcuStall) {}

/// An allocator of tables over memory of its own, on one CPU.
struct Rig {
    fixture: Fixture,
    tables: &'static TableAllocator,
    rcu: &'static Rcu,
    memory: &'static Watermarks,
}

impl Rig {
    fn new(kind: TableKind, variant: Variant) -> (Self, Cpu) {
        Self::with_cpus(1, kind, variant)
    }

    fn with_cpus(cpus: u32, kind: TableKind, variant: Variant) -> (Self, Cpu) {
        let fixture = Fixture::with(cpus, variant);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 1024);
        let memory: &Watermarks = Box::leak(Box::new(Watermarks::new(
            pages,
            Levels::with_reserve(8),
            &NoReclaim,
        )));
        let rcu: &Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, silent)));
        let tables = TableAllocator::build(&cpu, memory, rcu, kind, 512, 64).expect("memory");
        let rig = Self {
            fixture,
            tables,
            rcu,
            memory,
        };
        (rig, cpu)
    }

    fn table(&self, cpu: &Cpu, owner: &'static TableOwner) -> Table {
        let table = self
            .tables
            .allocate(cpu, owner, Mode::Kernel)
            .expect("memory");
        assert!(table.entries().iter().all(|entry| entry.load(Relaxed) == 0));
        table
    }

    fn free(&self, cpu: &Cpu, table: Table) {
        // SAFETY: no walker is at work.
        unsafe { self.tables.free_deferred(cpu, table) };
    }

    /// All grace periods are over.
    fn settle(&self, cpu: &Cpu) {
        // SAFETY: no CPU is in a read section. Twice, as a head may be queued again.
        unsafe {
            self.rcu.drain(cpu);
            self.rcu.drain(cpu);
        }
    }

    fn reports(&self) -> u32 {
        self.fixture.header.reports_made.load(Relaxed)
    }

    fn report_text(&self) -> String {
        let report = self.fixture.reports()[0];
        assert_eq!(report.kind.load(Relaxed), ReportKind::Fragment as u32);
        let len = report.text_len.load(Relaxed) as usize;
        let bytes: Vec<u8> = report.text[..len]
            .iter()
            .map(|byte| byte.load(Relaxed))
            .collect();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

#[test]
fn two_tables_share_a_page_and_whole_ones_do_not() {
    // Kind, pages for three tables, bytes wasted then.
    for (kind, pages, wasted) in [
        (TableKind::Fragments, 2, 2048),
        (TableKind::Whole, 3, 3 * 2048),
    ] {
        let (rig, cpu) = Rig::new(kind, Variant::None);
        let owner = rig.tables.enter(&cpu).expect("an owner");
        let tables = [(); 3].map(|()| rig.table(&cpu, owner));
        let usage = rig.tables.usage();
        assert_eq!(
            (usage.tables, usage.pages, usage.wasted()),
            (3, pages, wasted),
            "{kind:?}"
        );
        assert!(
            tables
                .iter()
                .all(|&table| rig.tables.verify(&cpu, table, owner.id()))
        );
        tables.into_iter().for_each(|table| rig.free(&cpu, table));
        assert_eq!(rig.tables.usage().pending, 3);
        rig.tables.leave(&cpu, owner);
        rig.settle(&cpu);
        let usage = rig.tables.usage();
        assert_eq!(
            (usage.tables, usage.pages, usage.pending),
            (0, 0, 0),
            "{kind:?}"
        );
        assert_eq!((rig.fixture.errors(), rig.reports()), (0, 0));
    }
}

#[test]
fn a_freed_half_waits_and_the_other_is_reused_meanwhile() {
    let (rig, cpu) = Rig::new(TableKind::Fragments, Variant::None);
    let owner = rig.tables.enter(&cpu).expect("an owner");
    let first = rig.table(&cpu, owner);
    rig.free(&cpu, first);
    let second = rig.table(&cpu, owner);
    assert_eq!(first.page(), second.page(), "the free half of the page");
    let third = rig.table(&cpu, owner);
    assert_ne!(third.page(), first.page(), "a pending half is not free");
    assert!(
        rig.tables.verify(&cpu, first, owner.id()),
        "walkers may still read it"
    );
    rig.settle(&cpu);
    let fourth = rig.table(&cpu, owner);
    assert_eq!(fourth, first, "now it is");
    assert_eq!(rig.fixture.errors(), 0);
}

#[test]
fn a_half_that_finds_the_head_in_use_is_freed_after_the_other() {
    let (rig, cpu) = Rig::new(TableKind::Fragments, Variant::None);
    let owner = rig.tables.enter(&cpu).expect("an owner");
    let tables = [(); 2].map(|()| rig.table(&cpu, owner));
    tables.into_iter().for_each(|table| rig.free(&cpu, table));
    assert_eq!(
        cpu.area.callbacks[0].load(Relaxed),
        1,
        "one head, queued once"
    );
    rig.settle(&cpu);
    assert_eq!(rig.tables.usage().pages, 0);
    assert_eq!(cpu.area.callbacks[0].load(Relaxed), 2);
    assert_eq!(rig.fixture.errors(), 0);
}

#[test]
fn callbacks_outlive_the_space_and_spare_the_next_one() {
    let (rig, cpu) = Rig::new(TableKind::Fragments, Variant::None);
    let old = rig.tables.enter(&cpu).expect("an owner");
    let table = rig.table(&cpu, old);
    rig.free(&cpu, table);
    rig.tables.leave(&cpu, old);
    let new = rig.tables.enter(&cpu).expect("an owner");
    assert!(
        core::ptr::eq(old, new),
        "the object is reused, with its lock"
    );
    rig.settle(&cpu);
    assert_eq!(
        rig.tables.usage().pages,
        0,
        "the page went to nobody's list"
    );
    let table = rig.table(&cpu, new);
    rig.free(&cpu, table);
    rig.tables.leave(&cpu, new);
    rig.settle(&cpu);
    assert_eq!((rig.tables.usage().pages, rig.fixture.errors()), (0, 0));
}

#[test]
fn a_table_that_nobody_saw_is_free_at_once() {
    let (rig, cpu) = Rig::new(TableKind::Fragments, Variant::None);
    let owner = rig.tables.enter(&cpu).expect("an owner");
    let (first, second) = (rig.table(&cpu, owner), rig.table(&cpu, owner));
    // SAFETY: nobody else knows it.
    unsafe { rig.tables.free(&cpu, second) };
    assert_eq!(rig.table(&cpu, owner), second);
    // SAFETY: as above.
    unsafe {
        rig.tables.free(&cpu, first);
        rig.tables.free(&cpu, second);
    }
    assert_eq!((rig.tables.usage().pages, rig.fixture.errors()), (0, 0));
}

#[test]
fn misuse_is_reported() {
    type Misuse = fn(&Rig, &Cpu, &'static TableOwner, Table);
    let table: [(&str, Misuse); 5] = [
        ("freed that is not allocated", |rig, cpu, _, table| {
            rig.free(cpu, table);
            rig.free(cpu, table);
        }),
        (
            "walker met a table that was freed",
            |rig, cpu, owner, table| {
                rig.free(cpu, table);
                rig.settle(cpu);
                assert!(!rig.tables.verify(cpu, table, owner.id()));
            },
        ),
        (
            "walker met a table that was freed",
            |rig, cpu, owner, table| {
                assert!(!rig.tables.verify(cpu, table, owner.id() + 1), "another's");
            },
        ),
        ("landed in a table that was freed", |rig, cpu, _, table| {
            rig.free(cpu, table);
            table.entries()[7].store(1, Relaxed);
            rig.settle(cpu);
        }),
        ("1 tables are lost", |rig, cpu, owner, _| {
            rig.tables.leave(cpu, owner)
        }),
    ];
    for (text, misuse) in table {
        let (rig, cpu) = Rig::new(TableKind::Fragments, Variant::None);
        let owner = rig.tables.enter(&cpu).expect("an owner");
        let first = rig.table(&cpu, owner);
        misuse(&rig, &cpu, owner, first);
        assert!(rig.fixture.errors() > 0, "{text}");
        assert!(rig.report_text().contains(text), "{}", rig.report_text());
    }
}

/// What each busted form is caught by.
#[test]
fn busted_forms_are_caught() {
    let table = [
        (Variant::NoPendingCheck, "given out that is not free"),
        (Variant::FreedListed, "given back while it was listed"),
        (Variant::OwnerGone, "owner was used after it was freed"),
    ];
    for (variant, text) in table {
        let (rig, cpu) = Rig::new(TableKind::Fragments, variant);
        let owner = rig.tables.enter(&cpu).expect("an owner");
        let first = rig.table(&cpu, owner);
        rig.free(&cpu, first);
        if variant == Variant::OwnerGone {
            rig.tables.leave(&cpu, owner);
            rig.settle(&cpu);
        } else {
            if variant == Variant::FreedListed {
                rig.settle(&cpu);
            }
            // Not `table`: what comes is not what it should be.
            let _ = rig.tables.allocate(&cpu, owner, Mode::Kernel);
        }
        assert!(rig.fixture.errors() > 0, "{variant:?}");
        assert!(
            rig.report_text().contains(text),
            "{variant:?}: {}",
            rig.report_text()
        );
    }
}

/// A bottom half that comes while a thread has the lock: held back, or spinning for ever.
#[test]
fn only_the_plain_lock_lets_a_bottom_half_in() {
    for (variant, deadlock) in [(Variant::None, false), (Variant::PlainLock, true)] {
        let (rig, cpu) = Rig::new(TableKind::Fragments, variant);
        let owner = rig.tables.enter(&cpu).expect("an owner");
        let guard = owner.lock(&cpu, Side::Task);
        assert!(!owner.is_free(&cpu));
        assert_eq!(!cpu.hold.holds_bottom_halves(), deadlock, "{variant:?}");
        drop(guard);
        assert!(owner.is_free(&cpu) && !cpu.hold.holds_bottom_halves());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    Free(prop::sample::Index),
    FreeUnseen(usize),
    GracePeriods,
    Renew(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3usize).prop_map(Step::Allocate),
        5 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => (0..3usize).prop_map(Step::FreeUnseen),
        2 => Just(Step::GracePeriods),
        1 => (0..3usize).prop_map(Step::Renew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Tables are apart as long as somebody uses or reads them, and all memory comes back.
    #[test]
    fn tables_are_apart_and_come_back(
        whole in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let kind = if whole { TableKind::Whole } else { TableKind::Fragments };
        let (rig, cpu) = Rig::new(kind, Variant::None);
        let mut owners = [(); 3].map(|()| rig.tables.enter(&cpu).expect("an owner"));
        let mut live: Vec<(usize, Table)> = Vec::new();
        let mut pending: BTreeSet<usize> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Allocate(owner) => {
                    let table = rig.table(&cpu, owners[owner]);
                    prop_assert!(!pending.contains(&table.address()));
                    prop_assert!(live.iter().all(|&(_, other)| other != table));
                    prop_assert!(live.iter().all(|&(other, it)| other == owner || it.page() != table.page()));
                    live.push((owner, table));
                }
                Step::Free(index) if !live.is_empty() => {
                    let (_, table) = live.swap_remove(index.index(live.len()));
                    rig.free(&cpu, table);
                    pending.insert(table.address());
                }
                Step::Free(_) => {}
                Step::FreeUnseen(owner) => {
                    let table = rig.table(&cpu, owners[owner]);
                    // SAFETY: nobody else knows it.
                    unsafe { rig.tables.free(&cpu, table) };
                }
                Step::GracePeriods => {
                    rig.settle(&cpu);
                    pending.clear();
                }
                Step::Renew(owner) => {
                    live.retain(|&(other, table)| {
                        if other == owner {
                            rig.free(&cpu, table);
                            pending.insert(table.address());
                        }
                        other != owner
                    });
                    rig.tables.leave(&cpu, owners[owner]);
                    owners[owner] = rig.tables.enter(&cpu).expect("an owner");
                }
            }
            let usage = rig.tables.usage();
            prop_assert_eq!(usage.tables, live.len() as u64);
            prop_assert!(usage.pending >= pending.len() as u64);
        }
        live.into_iter().for_each(|(_, table)| rig.free(&cpu, table));
        owners.into_iter().for_each(|owner| rig.tables.leave(&cpu, owner));
        rig.settle(&cpu);
        prop_assert_eq!(rig.tables.usage().pages, 0);
        prop_assert_eq!((rig.fixture.errors(), rig.reports()), (0, 0));
        rig.memory.pages.audit(&cpu);
        prop_assert_eq!(rig.fixture.errors(), 0);
    }
}

/// Three CPUs allocate and free tables of one space, and walk each other's.
#[test]
fn walkers_meet_no_freed_table() {
    const ROUNDS: usize = 400;
    let (rig, cpu) = Rig::with_cpus(3, TableKind::Fragments, Variant::None);
    let owner = rig.tables.enter(&cpu).expect("an owner");
    let shared: [AtomicUsize; 2] = Default::default();
    let stop = AtomicBool::new(false);
    let cpus: Vec<Cpu> = (0..3).map(|id| rig.fixture.cpu(id)).collect();
    cpus.iter().for_each(|cpu| rig.rcu.idle_exit(cpu));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|id| {
                let (rig, cpu, shared) = (&rig, &cpus[id], &shared[id]);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let table = rig.table(cpu, owner);
                        shared.store(table.address(), Release);
                        rig.rcu.quiescent(cpu);
                        shared.store(0, Relaxed);
                        rig.free(cpu, table);
                        rig.rcu.process(cpu);
                    }
                    rig.rcu.idle_enter(cpu);
                })
            })
            .collect();
        let (rig, cpu, stop, shared) = (&rig, &cpus[2], &stop, &shared);
        scope.spawn(move || {
            while !stop.load(Relaxed) {
                for word in shared {
                    let section = rig.rcu.read_lock(cpu);
                    if let Some(table) = rig.tables.at(word.load(Acquire)) {
                        assert!(rig.tables.verify(cpu, table, owner.id()));
                        assert!(table.entries().iter().all(|entry| entry.load(Relaxed) == 0));
                    }
                    drop(section);
                    rig.rcu.quiescent(cpu);
                }
            }
            rig.rcu.idle_enter(cpu);
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        stop.store(true, Relaxed);
    });
    rig.tables.leave(&cpu, owner);
    rig.settle(&cpu);
    assert_eq!((rig.tables.usage().pages, rig.fixture.errors()), (0, 0));
}
