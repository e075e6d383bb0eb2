//! What the locks themselves tell the one checker. Each test has classes of its own.

use super::script::findings;
use crate::{
    Cpu,
    fixture::Fixture,
    lock_class,
    sync::{
        Mutex, QueuedLock, RwSemaphore, SeqCount, SeqLock, TicketLock,
        lockdep::{self, Reclaim},
    },
};
use underfoot_abi::ReportKind::{LockContext, LockCycle};

/// Runs `work` with the checker on; what it said, in a guest of its own.
fn checked(work: impl FnOnce(&Cpu)) -> Vec<String> {
    lockdep::enable();
    assert!(lockdep::is_enabled());
    let fixture = Fixture::new(1);
    work(&fixture.cpu(0));
    findings(&fixture)
        .into_iter()
        .map(|found| {
            assert!([LockCycle, LockContext].contains(&found.kind));
            found.text
        })
        .collect()
}

fn cycle(new: &str, known: &str) -> Vec<String> {
    vec![format!("order {new} contradicts known order {known}")]
}

#[test]
fn each_kind_of_lock_tells_its_order() {
    lock_class!(Ticket = "ticket");
    lock_class!(Queued = "queued");
    lock_class!(Sleeping = "mutex");
    lock_class!(Semaphore = "rwsem");
    lock_class!(Sequence = "seqlock");
    let ticket = TicketLock::<(), true, Ticket>::new(());
    let queued = QueuedLock::<(), true, Queued>::new(());
    let mutex = Mutex::<(), false, Sleeping>::new(());
    let semaphore = RwSemaphore::<(), Semaphore>::new(());
    let sequence = SeqLock::<false, Sequence>::new();
    let right = checked(|cpu| {
        for _ in 0..2 {
            let _reader = semaphore.read(cpu);
            let _owner = mutex.lock(cpu);
            let _spinner = queued.lock(cpu);
            let _other = ticket.lock(cpu);
            let _writer = sequence.write(cpu);
        }
    });
    assert_eq!(right, [""; 0]);
    let all = "rwsem -> mutex -> queued -> ticket -> seqlock";
    let wrong = checked(|cpu| {
        let _writer = sequence.write(cpu);
        let _reader = semaphore.read(cpu);
    });
    assert_eq!(wrong, cycle("seqlock -> rwsem", all));
    let attempts = checked(|cpu| {
        let _other = ticket.try_lock(cpu).expect("free");
        let _spinner = queued.try_lock(cpu).expect("free");
        let _owner = mutex.try_lock(cpu).expect("free");
        let _reader = semaphore.try_read(cpu).expect("free");
    });
    assert_eq!(attempts, [""; 0]);
    let held = checked(|cpu| {
        let _other = ticket.try_lock(cpu).expect("free");
        let _owner = mutex.lock(cpu);
    });
    assert_eq!(held, cycle("ticket -> mutex", "mutex -> queued -> ticket"));
}

#[test]
fn a_downgraded_writer_still_holds() {
    lock_class!(Outer = "outer");
    lock_class!(Inner = "inner");
    let (outer, inner) = (
        RwSemaphore::<(), Outer>::new(()),
        Mutex::<(), false, Inner>::new(()),
    );
    let found = checked(|cpu| {
        let reader = outer.write(cpu).downgrade();
        drop(inner.lock(cpu));
        drop(reader);
        let _owner = inner.lock(cpu);
        drop(outer.read(cpu));
    });
    assert_eq!(found, cycle("inner -> outer", "outer -> inner"));
}

#[test]
fn levels_of_one_class_are_told_apart() {
    lock_class!(Parent = "parent");
    let locks = [0, 1].map(|_| Mutex::<(), false, Parent>::new(()));
    let right = checked(|cpu| {
        let _parent = locks[0].lock(cpu);
        let _child = locks[1].lock_nested(cpu, 1);
    });
    assert_eq!(right, [""; 0]);
    let wrong = checked(|cpu| {
        let _parent = locks[1].lock(cpu);
        let _child = locks[0].lock(cpu);
    });
    assert_eq!(wrong, cycle("parent -> parent", "parent"));
}

#[test]
fn reclaim_within_a_sequence_section_contradicts_reclaim_that_takes_the_lock_around_it() {
    lock_class!(Mapping = "i_mmap_rwsem");
    lock_class!(VmSequence = "vm_sequence");
    let mapping = RwSemaphore::<(), Mapping>::new(());
    let counts = [SeqCount::new(), SeqCount::new()];
    let found = checked(|cpu| {
        // A split.
        let held = mapping.write(cpu);
        counts[0].write_begin_classed::<VmSequence>(cpu, 0);
        counts[1].write_begin_classed::<VmSequence>(cpu, 1);
        counts[1].write_end_classed::<VmSequence>(cpu);
        counts[0].write_end_classed::<VmSequence>(cpu);
        drop(held);
        // A move, which allocates a page table.
        counts[1].write_begin_classed::<VmSequence>(cpu, 1);
        drop(lockdep::enter::<Reclaim>(cpu));
        counts[1].write_end_classed::<VmSequence>(cpu);
        // Reclaim, which looks for who maps a page.
        let _reclaim = lockdep::enter::<Reclaim>(cpu);
        let _reader = mapping.read(cpu);
    });
    let known = "i_mmap_rwsem -> vm_sequence -> vm_sequence/1 -> fs_reclaim";
    assert_eq!(found, cycle("fs_reclaim -> i_mmap_rwsem", known));
}

#[test]
fn a_reader_that_waits_for_a_count_is_heard_of() {
    lock_class!(Guard = "guard");
    lock_class!(Count = "count");
    let lock = TicketLock::<(), false, Guard>::new(());
    let count = SeqCount::new();
    let found = checked(|cpu| {
        let held = lock.lock(cpu);
        assert_eq!(count.read_begin_classed::<Count>(cpu), 0);
        drop(held);
        count.write_begin_classed::<Count>(cpu, 0);
        drop(lock.lock(cpu));
        count.write_end_classed::<Count>(cpu);
    });
    assert_eq!(found, cycle("count -> guard", "guard -> count"));
}

/// A lock taken in task context and in the RCU callback.
#[test]
fn a_lock_shared_with_bottom_halves_needs_the_safe_form() {
    lock_class!(Safe = "safe");
    lock_class!(Plain = "plain");
    fn use_in_bottom_half<C: lockdep::Classed>(cpu: &Cpu, lock: &TicketLock<(), false, C>) {
        cpu.context_add(underfoot_abi::Context::BOTTOM_HALF);
        drop(lock.lock(cpu));
        cpu.context_sub(underfoot_abi::Context::BOTTOM_HALF);
    }
    let safe = TicketLock::<(), false, Safe>::new(());
    let plain = TicketLock::<(), false, Plain>::new(());
    let right = checked(|cpu| {
        drop(safe.lock_bh(cpu));
        drop(safe.lock_irqsave(cpu));
        use_in_bottom_half(cpu, &safe);
    });
    assert_eq!(right, [""; 0]);
    let wrong = checked(|cpu| {
        drop(plain.lock(cpu));
        use_in_bottom_half(cpu, &plain);
    });
    let text = "plain is taken in bottom halves, plain is held with these open: plain";
    assert_eq!(wrong, [text]);
}
