use super::*;
use crate::{
    fixture,
    sched::{Priority, ThreadId},
};
use underfoot_abi::Variant;

/// Two CPUs of two threads each, and what they run.
struct Setup {
    rcu: &'static PreemptRcu,
    rig: &'static Rig,
    cpus: [Cpu; 2],
    fixture: Fixture,
}

impl Setup {
    fn new(variant: Variant, stall_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
        let fixture = Fixture::with(2, variant);
        let rcu: &PreemptRcu = Box::leak(Box::new(PreemptRcu::new(stall_ns, report)));
        let rig = Rig::leak();
        let cpus = [0, 1].map(|id| rig.cpu(fixture.cpu(id)));
        cpus.iter().for_each(|cpu| rcu.idle_exit(cpu));
        Self {
            rcu,
            rig,
            cpus,
            fixture,
        }
    }

    fn right() -> Self {
        Self::new(Variant::None, LONG_NS, silent)
    }

    fn flavour(&self) -> RcuFlavour<'static> {
        RcuFlavour::Preemptible(self.rcu)
    }

    /// CPU 1 changes to its thread `index`.
    fn switch(&self, index: usize) {
        self.rig.switch(self.flavour(), &self.cpus[1], index);
    }

    /// Whether both CPUs' reporting all they can leaves the grace period unfinished.
    fn is_held_up(&self) -> bool {
        let before = self.rcu.completed();
        for cpu in &self.cpus {
            self.rcu.tick(cpu);
        }
        self.rcu.completed() == before
    }
}

#[test]
fn a_reader_that_was_switched_out_is_waited_for() {
    let s = Setup::right();
    let section = s.rcu.read_lock(&s.cpus[1]);
    let ran = call(s.flavour(), &s.cpus[0]);
    s.switch(1);
    assert!(s.is_held_up());
    s.rcu.idle_enter(&s.cpus[1]);
    assert!(s.is_held_up(), "idle or not");
    s.rcu.idle_exit(&s.cpus[1]);
    s.switch(0);
    drop(section);
    assert_eq!(s.rcu.completed(), 1, "its end reports");
    s.flavour().process(&s.cpus[0]);
    assert_eq!(ran.load(Relaxed), 1);
}

#[test]
fn the_busted_form_forgets_it() {
    let s = Setup::new(Variant::RcuPreemptBusted, LONG_NS, silent);
    let section = s.rcu.read_lock(&s.cpus[1]);
    call(s.flavour(), &s.cpus[0]);
    s.switch(1);
    assert!(!s.is_held_up());
    s.switch(0);
    drop(section);
}

#[test]
fn a_section_that_began_later_is_not_waited_for() {
    let s = Setup::right();
    call(s.flavour(), &s.cpus[0]);
    // CPU 1 is quiescent, and then reads and is switched out.
    s.rcu.tick(&s.cpus[1]);
    let section = s.rcu.read_lock(&s.cpus[1]);
    s.switch(1);
    assert!(!s.is_held_up());
    // The next grace period waits for it.
    call(s.flavour(), &s.cpus[0]);
    s.flavour().process(&s.cpus[0]);
    assert!(s.is_held_up());
    s.switch(0);
    drop(section);
    s.rcu.tick(&s.cpus[0]);
    assert_eq!(s.rcu.completed(), 2);
}

#[test]
fn readers_leave_the_list_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let s = Setup::right();
        let mut sections: Vec<_> = (0..3)
            .map(|index| {
                let section = s.rcu.read_lock(&s.cpus[1]);
                s.switch(index + 1);
                Some(section)
            })
            .collect();
        call(s.flavour(), &s.cpus[0]);
        for index in order {
            assert!(s.is_held_up());
            s.switch(index);
            sections[index] = None;
        }
        assert_eq!(s.rcu.completed(), 1, "{order:?}");
    }
}

#[test]
fn a_reader_switched_out_twice_counts_once() {
    let s = Setup::right();
    call(s.flavour(), &s.cpus[0]);
    let outer = s.rcu.read_lock(&s.cpus[1]);
    let inner = s.rcu.read_lock(&s.cpus[1]);
    for _ in 0..2 {
        s.switch(1);
        assert!(s.is_held_up());
        s.switch(0);
    }
    drop(inner);
    assert!(s.is_held_up(), "still in the outer section");
    drop(outer);
    assert_eq!(s.rcu.completed(), 1);
    assert_eq!(s.fixture.count(Moving, Metric::RcuRead), 1);
}

#[test]
fn a_section_that_a_tick_met_reports_at_its_end() {
    let s = Setup::right();
    let section = s.rcu.read_lock(&s.cpus[1]);
    call(s.flavour(), &s.cpus[0]);
    assert!(s.is_held_up());
    s.rcu.ipi(&s.cpus[1]);
    drop(section);
    assert_eq!(s.rcu.completed(), 1, "without another tick");
}

#[test]
fn readers_that_hold_up_an_old_grace_period_are_boosted() {
    let boost = |s: &Setup, thread: u32| s.rig.boosts[thread as usize].load(Relaxed);
    let s = Setup::right();
    let section = s.rcu.read_lock(&s.cpus[1]);
    s.switch(1);
    call(s.flavour(), &s.cpus[0]);
    assert!(s.is_held_up());
    assert_eq!(boost(&s, 1), 0, "off unless asked for");
    s.rcu.set_boost(Some(0));
    let later = s.rcu.read_lock(&s.cpus[1]);
    s.switch(2);
    assert!(s.is_held_up());
    assert_eq!(
        (boost(&s, 1), boost(&s, 5)),
        (Priority::BOOST.0, 0),
        "only the reader that counts"
    );
    s.switch(0);
    drop(section);
    assert_eq!((boost(&s, 1), s.rcu.completed()), (0, 1));
    s.switch(1);
    drop(later);
}

/// The stall told of last.
static STALL: std::sync::Mutex<Option<RcuStall>> = std::sync::Mutex::new(None);

#[test]
fn a_stall_names_the_reader() {
    let s = Setup::new(Variant::None, 1, |cpu, stall| {
        RcuStall::report(cpu, stall);
        *STALL.lock().expect("no panic") = Some(*stall);
    });
    let section = s.rcu.read_lock(&s.cpus[1]);
    s.switch(1);
    call(s.flavour(), &s.cpus[0]);
    assert!(s.is_held_up());
    let stall = STALL.lock().expect("no panic").expect("a stall");
    assert_eq!((stall.kind, stall.grace_period), (RcuKind::Preemptible, 1));
    assert_eq!(stall.waiting & 0b10, 0b10);
    let reader = stall.reader.expect("a reader");
    assert_eq!(reader.thread, ThreadId(1));
    assert!(reader.entered.file().ends_with("tests/preempt.rs"));
    let header = s.fixture.header;
    assert_eq!(header.rcu_stalls.load(Relaxed), 1);
    assert_eq!(header.reports_made.load(Relaxed), 1);
    let kind = s.fixture.first_report();
    assert_eq!(kind, Some(underfoot_abi::ReportKind::RcuStall));
    s.switch(0);
    drop(section);
}

/// Readers that are switched out in their sections, and an updater that frees what they read.
#[test]
fn readers_never_see_what_was_freed() {
    const ROUNDS: u64 = 200;
    let s = Setup::right();
    let (objects, current) = (fixture::word_pair(), fixture::word_pair());
    objects[0].store(1, Relaxed);
    let done = Counter::new(0);
    std::thread::scope(|scope| {
        let (s, done) = (&s, &done);
        scope.spawn(move || {
            let cpu = &s.cpus[1];
            while done.load(Relaxed) == 0 {
                let section = s.rcu.read_lock(cpu);
                let index = current[0].load(core::sync::atomic::Ordering::Acquire) as usize;
                s.switch(1);
                drop(s.rcu.read_lock(cpu));
                s.rcu.tick(cpu);
                std::thread::yield_now();
                s.switch(0);
                assert_eq!(objects[index].load(Relaxed), 1, "freed under a reader");
                drop(section);
            }
            s.rcu.idle_enter(cpu);
        });
        for round in 0..ROUNDS {
            let (old, new) = (round as usize % 2, (round as usize + 1) % 2);
            objects[new].store(1, Relaxed);
            current[0].store(new as u64, core::sync::atomic::Ordering::Release);
            if round % 2 == 0 {
                s.rcu.synchronize(&s.cpus[0]);
            } else {
                s.rcu.synchronize_expedited(&s.cpus[0]);
            }
            objects[old].store(0, Relaxed);
        }
        done.store(1, Relaxed);
    });
    assert!(s.rcu.completed() >= ROUNDS);
}
