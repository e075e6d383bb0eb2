use super::*;
use crate::{
    fixture::{Fixture, allocator, word},
    sync::{RcuKind, RcuStall, machines},
};
use underfoot_abi::{POISON_PAGE, WorkloadId};

const LONG_NS: u64 = 60_000_000_000;

/// Leaves so many pages, has `meddle` look at those that are not free, and audits.
fn leave(kind: RcuKind, count: usize, meddle: impl Fn(usize)) -> (Fixture, Audit) {
    let fixture = Fixture::new(2);
    let cpu = fixture.cpu(0);
    let pages = allocator(&cpu, 512);
    let mut parameters = WorkloadId::Churn.defaults();
    parameters[KIND] = kind as u64;
    let flavours = machines(LONG_NS, RcuStall::report);
    let churn = Churn::build(&cpu, pages, flavours, &parameters).expect("memory");
    for _ in 0..count {
        assert!(churn.leave(&cpu));
    }
    let holds = |page: &usize| {
        let waiting = page + core::mem::offset_of!(Waiting, words);
        word(waiting).load(Relaxed) == mix(*page as u64)
    };
    let waiting: Vec<usize> = pages.covers().step_by(PAGE_SIZE).filter(holds).collect();
    assert_eq!(waiting.len(), count);
    waiting.into_iter().for_each(meddle);
    // SAFETY: no thread is in a section.
    let audit = unsafe { churn.audit(&cpu) };
    (fixture, audit)
}

#[test]
fn every_page_comes_back() {
    for kind in RcuKind::ALL {
        let (fixture, audit) = leave(kind, 40, |_| ());
        assert_eq!((fixture.errors(), audit.errors), (0, 0), "{kind:?}");
        assert_eq!((audit.updates, fixture.updates()), (40, 40), "{kind:?}");
    }
}

#[test]
fn a_page_that_changes_while_it_waits_is_found() {
    let (fixture, audit) = leave(RcuKind::Classic, 1, |page| {
        let words = page + core::mem::offset_of!(Waiting, words);
        word(words + 8).store(POISON_PAGE, Relaxed);
    });
    assert_eq!((fixture.errors(), audit.errors), (1, 1));
}

/// A page that goes to another home.
#[test]
fn a_page_that_does_not_come_back_is_missed() {
    let (fixture, audit) = leave(RcuKind::Classic, 3, |page| {
        let home = word(page + core::mem::offset_of!(Waiting, home));
        // SAFETY: `leave` stored it.
        let right: &Home =
            unsafe { &*core::ptr::with_exposed_provenance(home.load(Relaxed) as usize) };
        let other: &Home = Box::leak(Box::new(Home {
            pages: right.pages,
            freed: AtomicU64::new(0),
        }));
        home.store(
            core::ptr::from_ref(other).expose_provenance() as u64,
            Relaxed,
        );
    });
    assert_eq!((audit.updates, fixture.updates()), (0, 3));
}
