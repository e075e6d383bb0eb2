//! Several threads in one space.

use super::*;
use crate::random::Random;
use core::sync::atomic::AtomicUsize;

const MIB: usize = 1 << 20;
/// Two regions that share an upper table, and one that does not.
const REGIONS: [usize; 3] = [0, 300 * MIB, 1 << 38];
const PAGES: usize = 4;
/// Accesses, or changes, for each time that a thread takes pages away from whoever has them. So seldom
/// that there always is memory: nobody may wait for a grace period here, as threads that wait for a
/// lock are no quiescent state on the host.
const EVICT_EVERY: [usize; 2] = [512, 32];
/// Pages of tables, those that wait for a grace period among them, at which mappings stay as they are for a while:
/// half of what the rig allows for. A reader whose thread the host keeps waiting keeps all of them.
const MOST_TABLES: u64 = 256;

/// What a thread does between operations; sometimes another one runs.
fn between(rig: &Rig, cpu: &Cpu, random: &mut Random) {
    rig.rcu.quiescent(cpu);
    rig.rcu.process(cpu);
    if random.below(4) == 0 {
        rig.tlb.be_lazy(cpu);
    }
    cpu.sched.yield_now(cpu);
}

/// The thread has ended; its CPU takes interrupts until the others' have.
fn end(rig: &Rig, cpu: &Cpu, ended: &AtomicUsize) {
    rig.rcu.idle_enter(cpu);
    ended.fetch_add(1, Relaxed);
    while ended.load(Relaxed) < rig.fixture.areas.len() {
        cpu.sched.yield_now(cpu);
    }
}

/// One thread changes mappings, the others access them, until `enough` says so or `rounds` are over.
fn storm(rig: &Rig, rounds: usize, enough: impl Fn() -> bool) {
    let (stop, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let cpus: Vec<Cpu> = (0..3).map(|id| rig.fixture.cpu(id)).collect();
    cpus.iter().for_each(|cpu| rig.rcu.idle_exit(cpu));
    let space = rig.spaces.create(&cpus[0]).expect("memory");
    std::thread::scope(|scope| {
        for (id, cpu) in cpus.iter().enumerate().skip(1) {
            let (stop, ended) = (&stop, &ended);
            scope.spawn(move || {
                let mut random = Random::new(5, id as u64);
                while !stop.load(Relaxed) {
                    let region = REGIONS[random.below(REGIONS.len())];
                    let address = region + random.below(PAGES) * PAGE_SIZE + 8 * random.below(512);
                    // Whatever comes of it: regions come and go.
                    let _ = rig.spaces.access(cpu, space, address, random.below(2) == 0);
                    if random.below(EVICT_EVERY[0]) == 0 {
                        rig.spaces.evict(cpu, 2);
                    }
                    between(rig, cpu, &mut random);
                }
                end(rig, cpu, ended);
            });
        }
        let (cpu, mut random) = (&cpus[0], Random::new(5, 0));
        for _ in 0..rounds {
            change(rig, cpu, space, &mut random);
            if random.below(EVICT_EVERY[1]) == 0 {
                let _ = rig.spaces.access(cpu, space, REGIONS[0], true);
                rig.spaces.evict(cpu, 2);
            }
            between(rig, cpu, &mut random);
            // Nothing is held here, so that whoever waits for a lock gets it, and gets on.
            while rig.spaces.tables().usage().pages > MOST_TABLES {
                between(rig, cpu, &mut random);
            }
            if enough() {
                break;
            }
        }
        stop.store(true, Relaxed);
        end(rig, cpu, &ended);
    });
    rig.spaces.audit(&cpus[0], space);
    rig.destroy(&cpus[0], space);
}

/// Whatever comes of it: what is mapped already cannot be mapped, and so on.
fn change(rig: &Rig, cpu: &Cpu, space: &'static Space, random: &mut Random) {
    let [from, to] = [(); 2].map(|()| REGIONS[random.below(REGIONS.len())]);
    let page = random.below(PAGES) * PAGE_SIZE;
    let len = PAGES * PAGE_SIZE;
    let how = [Protection::Read, Protection::Write][random.below(2)];
    let _ = match random.below(10) {
        0..4 => rig.spaces.map(cpu, space, from, len, Protection::Write),
        4..7 => rig.spaces.unmap(cpu, space, from, len),
        7 => rig.spaces.unmap(cpu, space, from + page, PAGE_SIZE),
        8 => rig.spaces.protect(cpu, space, from + page, PAGE_SIZE, how),
        _ => rig.spaces.remap(cpu, space, from, len, to),
    };
}

fn rig(variant: Variant, path: Path, kind: TableKind, way: Option<Way>) -> Rig {
    let rules = Rules { path, ..RULES };
    Rig::with(3, variant, rules, kind, &NoReclaim, way).0
}

#[test]
fn nothing_is_lost_on_any_path() {
    for path in PATHS {
        for kind in [TableKind::Fragments, TableKind::Whole] {
            for way in [None, Some(Way::Ipi)] {
                let rig = rig(Variant::None, path, kind, way);
                storm(&rig, 1_500, || false);
                rig.assert_clean(&rig.fixture.cpu(0));
                assert!(rig.spaces.evicted() > 0, "{path:?}, {way:?}");
            }
        }
    }
}

/// Reclaim that forgets what a page holds.
#[test]
fn updates_that_are_dropped_are_missed() {
    let rig = rig(
        Variant::DropsUpdates,
        Path::Speculative,
        TableKind::Fragments,
        None,
    );
    storm(&rig, 1_500, || false);
    assert!(rig.spaces.evicted() > 0);
    assert!(rig.spaces.written_back() < rig.fixture.updates());
}

/// The race that RCU does not cover: a table lands in one that is about to be freed.
#[test]
fn the_vma_lock_forgotten_is_caught() {
    let rig = rig(
        Variant::NoVmaLock,
        Path::VmaLock,
        TableKind::Fragments,
        None,
    );
    storm(&rig, 100_000, || rig.report_kind().is_some());
    assert!(rig.fixture.errors() > 0);
    assert_eq!(rig.report_kind(), Some(ReportKind::Fragment));
}

/// One CPU forgets nothing that others take away.
#[test]
fn a_cpu_left_out_of_shootdowns_is_caught() {
    for path in PATHS {
        let rig = rig(Variant::SkipCpu, path, TableKind::Fragments, Some(Way::Ipi));
        storm(&rig, 100_000, || rig.report_kind().is_some());
        assert_eq!(rig.report_kind(), Some(ReportKind::Translation), "{path:?}");
        assert!(rig.fixture.errors() > 0, "{path:?}");
    }
}
