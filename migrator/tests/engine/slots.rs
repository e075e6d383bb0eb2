//! Whole slots move, with every vCPU stopped, and the hypervisor forgets and knows each again.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::interposer::{Call, Hit, Interposer, Rule};
use crate::rig::{Gate, Outcome, Rig, rights};
use underfoot_migrator::{
    BackendKind, BuildError, Builder, Class, Gfn, Inject, InjectAction, MemorySlots, Migrator,
    MoverError, PageMap, PageRange, Phase, SlotError, StrategyKind, Variant, Verify, can_verify,
};

const PAGES: usize = 1024;
/// Of no common size, and one page in none.
const SLOTS: [(u64, u32); 3] = [(0, 128), (128, 384), (512, 511)];
const GOAL: u64 = 8 * PAGES as u64;

/// Stands for a hypervisor.
struct Hypervisor {
    gate: Arc<Gate>,
    ranges: Vec<PageRange>,
    /// Slots that it does not know.
    gone: Mutex<Vec<PageRange>>,
    /// The errno of calls that are refused; of each call, after so many of that kind the next few are.
    refuses: Option<(Asked, u32, u32, i32)>,
    calls: [AtomicU32; 2],
    moved: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Remove,
    Restore,
}

impl Hypervisor {
    fn new(rig: &Rig, slots: &[(u64, u32)]) -> Self {
        let range = |&(gfn, pages)| PageRange::new(Gfn(gfn), pages);
        Self {
            gate: Arc::clone(&rig.gate),
            ranges: slots.iter().map(range).collect(),
            gone: Mutex::default(),
            refuses: None,
            calls: Default::default(),
            moved: AtomicU64::new(0),
        }
    }

    fn ask(&self, asked: Asked) -> io::Result<()> {
        assert!(self.gate.holds_all(), "{asked:?} while vCPUs run");
        let nth = self.calls[asked as usize].fetch_add(1, Ordering::Relaxed);
        match self.refuses {
            Some((kind, spared, burst, errno))
                if kind == asked && nth % (spared + burst) >= spared =>
            {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }
}

impl MemorySlots for Hypervisor {
    fn ranges(&self) -> Vec<PageRange> {
        self.ranges.clone()
    }

    fn remove(&self, slot: PageRange) -> io::Result<()> {
        self.ask(Asked::Remove)?;
        assert!(self.ranges.contains(&slot), "{slot}");
        let mut gone = self.gone.lock().expect("no panic");
        assert!(!gone.contains(&slot), "{slot} is gone already");
        gone.push(slot);
        Ok(())
    }

    fn restore(&self, slot: PageRange) -> io::Result<()> {
        self.ask(Asked::Restore)?;
        let mut gone = self.gone.lock().expect("no panic");
        let place = gone.iter().position(|one| *one == slot);
        gone.swap_remove(place.expect("it was removed"));
        self.moved.fetch_add(slot.pages.into(), Ordering::Relaxed);
        Ok(())
    }
}

fn builder(rig: &Rig, slots: &Arc<Hypervisor>) -> Builder {
    rig.builder()
        .strategy(StrategyKind::StopWorld)
        .backend(BackendKind::Memslot)
        .memory_slots(slots.clone())
        .verify(Verify::Full)
}

fn rig() -> (Rig, Arc<Hypervisor>) {
    let rig = Rig::new(PAGES, PAGES);
    let slots = Arc::new(Hypervisor::new(&rig, &SLOTS));
    (rig, slots)
}

/// What holds after every run in which no page was lost.
fn assert_sound(outcome: &Outcome, slots: &Hypervisor, what: &str) {
    outcome.assert_sound(what);
    assert_eq!(
        *slots.gone.lock().expect("no panic"),
        [],
        "{what}: slots that are gone"
    );
    let total = outcome.counters.total();
    assert_eq!(total.skipped, 0, "{what}: {total:?}");
    assert!(total.committed > 0, "{what}: {total:?}");
    if can_verify().is_ok() {
        assert_eq!(total.verified, total.committed, "{what}");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn slots_move_whole_and_nothing_is_lost() {
    if !rights() {
        return;
    }
    // Some were never touched: they are populated.
    let rig = Rig::new(PAGES, PAGES - 100);
    let slots = Arc::new(Hypervisor::new(&rig, &SLOTS));
    let migrator = builder(&rig, &slots).build().expect("sound");
    let outcome = rig.run(&migrator, 1, PAGES - 100, GOAL);
    outcome.mover.as_ref().expect("the mover ends when asked");
    assert_sound(&outcome, &slots, "memslot");
    let (total, windows) = (outcome.counters.total(), outcome.counters.windows);
    assert_eq!(total.aborted, 0);
    assert_eq!(total.committed, slots.moved.load(Ordering::Relaxed));
    let [removed, restored] =
        [0, 1].map(|kind| u64::from(slots.calls[kind].load(Ordering::Relaxed)));
    assert_eq!((removed, restored), (windows, windows));
    assert_eq!(rig.gate.pauses.load(Ordering::Relaxed), windows);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn from_every_phase_there_is_a_way_back() {
    if !rights() {
        return;
    }
    for action in [InjectAction::Abort, InjectAction::Panic] {
        for phase in [Phase::Claimed, Phase::Unmapped, Phase::Copied] {
            let what = format!("{action:?} {phase:?}");
            let (rig, slots) = rig();
            let inject = Inject {
                phase,
                nth: 3,
                on: false,
                action,
            };
            let migrator = builder(&rig, &slots).inject(inject).build().expect("sound");
            let outcome = rig.run_as(
                &migrator,
                1,
                PAGES,
                &|| migrator.counters().total().attempted >= GOAL,
                &|| {},
            );
            assert_sound(&outcome, &slots, &what);
            let aborted = outcome.counters.total().aborted;
            assert!(
                SLOTS.iter().any(|&(_, pages)| u64::from(pages) == aborted),
                "{what}: {aborted}"
            );
            let panicked = matches!(outcome.mover, Err(MoverError::Panicked { .. }));
            assert_eq!(panicked, action == InjectAction::Panic, "{what}");
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_hypervisor_that_refuses_is_asked_again_or_has_its_slot_back() {
    if !rights() {
        return;
    }
    // Longer than the retries of the way forward, so that the way back is taken too.
    for (asked, spared, burst, errno) in [
        (Asked::Remove, 3, 1, libc::EINTR),
        (Asked::Remove, 3, 40, libc::ENOMEM),
        (Asked::Remove, 3, 1, libc::ENOENT),
        (Asked::Remove, 3, 1, libc::EINVAL),
        (Asked::Restore, 3, 1, libc::EINTR),
        (Asked::Restore, 3, 40, libc::ENOMEM),
        (Asked::Restore, 3, 1, libc::EINVAL),
    ] {
        let rig = Rig::new(PAGES, PAGES);
        let refuses = Some((asked, spared, burst, errno));
        let slots = Hypervisor {
            refuses,
            ..Hypervisor::new(&rig, &SLOTS)
        };
        let slots = Arc::new(slots);
        let migrator = builder(&rig, &slots).build().expect("sound");
        let outcome = rig.run(&migrator, 1, PAGES, GOAL);
        let what = format!("{asked:?} {errno}");
        outcome.mover.as_ref().expect(&what);
        assert_sound(&outcome, &slots, &what);
        let aborts = outcome.counters.total().aborted > 0;
        let transient = burst == 1 && errno == libc::EINTR;
        assert_eq!(aborts, !transient, "{what}");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_slot_that_does_not_come_back_is_named() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let refuses = Some((Asked::Restore, 2, u32::MAX / 2, libc::EINVAL));
    let slots = Arc::new(Hypervisor {
        refuses,
        ..Hypervisor::new(&rig, &SLOTS)
    });
    let migrator = builder(&rig, &slots).build().expect("sound");
    let lost = || migrator.counters().lost_pages > 0;
    // Nobody writes: who does would wait for a slot that is gone for good.
    let outcome = rig.run_as(&migrator, 1, 1, &lost, &|| {});
    let Err(MoverError::Lost { range, .. }) = outcome.mover else {
        panic!("{:?}", outcome.mover);
    };
    assert!(slots.ranges.contains(&range), "{range}");
    // A mover that goes on all the same loses the next.
    let gone = slots.gone.lock().expect("no panic");
    let lost: u32 = gone.iter().map(|slot| slot.pages).sum();
    assert!(gone.contains(&range), "{range}: {gone:?}");
    assert_eq!(outcome.counters.lost_pages, u64::from(lost));
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn system_calls_that_fail_end_well_or_in_the_old_frames() {
    if !rights() {
        return;
    }
    const MREMAP: Call = Call::Number(libc::SYS_mremap);
    const MADVISE: Call = Call::Number(libc::SYS_madvise);
    const REGISTER: Call = Call::Ioctl(0xc020_aa00);
    for (call, errno, spared, burst) in [
        (MREMAP, libc::ENOMEM, 5, 1),
        (MREMAP, libc::ENOMEM, 5, 20),
        (MREMAP, libc::EFAULT, 5, 1),
        (MREMAP, libc::EFAULT, 4, 1),
        (REGISTER, libc::ENOMEM, 3, 1),
        (REGISTER, libc::ENOMEM, 3, 20),
        (REGISTER, libc::EINVAL, 3, 1),
        (MADVISE, libc::EAGAIN, 5, 2),
        (MADVISE, libc::ENOMEM, 5, 2),
    ] {
        let what = format!("{call:?} {errno} {burst}");
        let (rig, slots) = rig();
        let migrator = builder(&rig, &slots).build().expect("sound");
        let hit = Hit::Errno(errno);
        let interposer = Interposer::new(
            Rule {
                call,
                hit,
                spared,
                burst,
            },
            2,
        );
        let enough = || migrator.counters().total().attempted >= GOAL && interposer.hits() > 0;
        let outcome = rig.run_as(&migrator, 1, PAGES, &enough, &|| interposer.enter());
        assert!(interposer.end() > 0, "{what}: no call was hit");
        outcome.mover.as_ref().expect(&what);
        assert_sound(&outcome, &slots, &what);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn busted_forms_are_caught() {
    if !rights() {
        return;
    }
    let run = |variant| {
        let (rig, slots) = rig();
        let migrator = builder(&rig, &slots)
            .variant(variant)
            .build()
            .expect("sound");
        rig.run(&migrator, 1, PAGES, GOAL)
    };
    let torn = run(Variant::TornCopy);
    assert!(torn.torn > 0);
    let stale = run(Variant::StaleFrame);
    assert!(stale.counters.stale_writes > 0);
    assert_eq!((stale.lost, stale.torn), (0, 0));
    let same = run(Variant::SameFrame);
    assert_eq!((same.lost, same.torn), (0, 0));
    if can_verify().is_ok() {
        assert!(same.counters.same_frames > 0);
        assert_eq!(same.counters.total().verified, 0);
    }
}

/// One page without a class, which may move with its slot or may not.
struct Pinned(u64, bool);

impl PageMap for Pinned {
    fn class(&self, gfn: Gfn) -> Option<Class> {
        (gfn.0 != self.0).then(Class::default)
    }

    fn moves_along(&self, _: Gfn) -> bool {
        self.1
    }

    fn sleeps(&self, _: Gfn) -> bool {
        true
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_slot_with_a_page_that_may_not_move_stays() {
    if !rights() {
        return;
    }
    let stay = PageRange::new(Gfn(SLOTS[1].0), SLOTS[1].1);
    type Keep = fn(Builder) -> Builder;
    let pinned: Keep = |builder| builder.page_map(Arc::new(Pinned(200, false)));
    let excluded: Keep = |builder| builder.exclude(PageRange::new(Gfn(200), 1));
    for (what, keep) in [
        ("pinned", pinned),
        ("excluded", excluded),
        ("unplugged", |builder| builder),
    ] {
        // The blocks of guest memory are of 512 pages.
        let slots = [(0u64, 512u32), (512, 512)];
        let (rig, slots) = match what {
            "unplugged" => {
                let rig = Rig::new(PAGES, PAGES);
                let slots = Arc::new(Hypervisor::new(&rig, &slots));
                (rig, slots)
            }
            _ => rig(),
        };
        let migrator = keep(builder(&rig, &slots)).build().expect("sound");
        let stay = match what {
            "unplugged" => {
                let block = PageRange::new(Gfn(0), 512);
                migrator
                    .unplug(block, std::time::Duration::from_secs(1))
                    .expect("no window is open");
                block
            }
            _ => stay,
        };
        let outcome = rig.run(&migrator, 1, PAGES, GOAL);
        assert_sound(&outcome, &slots, what);
        let moved = slots.moved.load(Ordering::Relaxed);
        let others: Vec<u32> = slots
            .ranges
            .iter()
            .filter(|slot| **slot != stay)
            .map(|slot| slot.pages)
            .collect();
        assert!(
            made_of(moved, &others),
            "{what}: {moved} pages in slots of {others:?}"
        );
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_page_without_a_class_moves_along_if_it_may() {
    if !rights() {
        return;
    }
    let (rig, slots) = rig();
    let along = builder(&rig, &slots).page_map(Arc::new(Pinned(200, true)));
    let migrator = along.build().expect("sound");
    let outcome = rig.run(&migrator, 1, PAGES, GOAL);
    assert_sound(&outcome, &slots, "along");
    let (moved, along) = (
        slots.moved.load(Ordering::Relaxed),
        outcome.counters.moved_along,
    );
    assert!(along > 0);
    assert_eq!(outcome.counters.total().committed + along, moved);
}

/// Whether `sum` is a sum of the parts, each any number of times.
fn made_of(sum: u64, parts: &[u32]) -> bool {
    match parts {
        [] => sum == 0,
        [one, rest @ ..] => {
            (0..=sum / u64::from(*one)).any(|times| made_of(sum - times * u64::from(*one), rest))
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_slots_do_not_go_with_is_refused() {
    if !rights() {
        return;
    }
    let (rig, slots) = rig();
    let refusal = |builder: Builder| builder.build().err().expect("refused");
    for builder in [
        builder(&rig, &slots).batch(2),
        builder(&rig, &slots).uffds(2),
    ] {
        let error = refusal(builder);
        assert!(matches!(error, BuildError::SlotParts { .. }), "{error}");
    }
    let without = Migrator::builder(Arc::clone(&rig.memory))
        .page_map(Arc::new(Pinned(0, false)))
        .vcpus(rig.gate.clone())
        .strategy(StrategyKind::StopWorld)
        .backend(BackendKind::Memslot);
    assert!(matches!(
        refusal(without),
        BuildError::Slot(SlotError::Missing)
    ));
    let all = builder(&rig, &slots).exclude(PageRange::new(Gfn(0), PAGES as u32));
    assert!(matches!(
        refusal(all),
        BuildError::Slot(SlotError::AllExcluded { slots: 3 })
    ));
    let unsound = builder(&rig, &slots).strategy(StrategyKind::UnmapCopy);
    assert!(refusal(unsound).to_string().contains("use stop-world"));
    let signals = builder(&rig, &slots).signal_faults(true);
    assert!(
        refusal(signals)
            .to_string()
            .contains("halt, block or async")
    );
}
