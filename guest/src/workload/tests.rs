use super::{
    protection::{Form, Protection},
    *,
};
use crate::{
    Cpu,
    fixture::{self, Fixture},
    mm::{PageAllocator, PageTable, PteFlags},
    sync::{RcuFlavour, RcuStall, machines},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{
    Metric, PAGE_SIZE, PageByte, PageKind, RecordedPhase::Moving, Variant, WorkloadId,
};

const PAGES: usize = 1_536;

const STALL_NS: u64 = 20_000_000;

fn silent(_: &Cpu, _: &RcuStall) {}

/// The CPUs that some stalled grace period waited for.
static STALLED: AtomicU64 = AtomicU64::new(0);

fn note(cpu: &Cpu, stall: &RcuStall) {
    if cpu.header.variant == Variant::RcuStall as u32 {
        STALLED.fetch_or(stall.waiting, Relaxed);
    }
}

/// A guest whose CPUs are threads.
struct Guest {
    fixture: Fixture,
    walk: &'static Walk,
    rcu: RcuFlavour<'static>,
    pages: &'static PageAllocator,
    table: &'static PageTable,
    data: &'static DataPages,
    large: &'static [AtomicU64],
    descriptors: &'static [AtomicU64],
    percpu: &'static [AtomicU64],
}

impl Guest {
    fn new(cpus: u32, variant: Variant) -> Self {
        Self::of(cpus, variant, Form::Classic)
    }

    fn of(cpus: u32, variant: Variant, form: Form) -> Self {
        let fixture = Fixture::with(cpus, variant);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, PAGES);
        let byte = |kind| PageByte::new(kind, false);
        let words = |pages_wanted: usize, kind| {
            let len = pages_wanted * PAGE_SIZE / 8;
            pages
                .zeroed_slice::<AtomicU64>(&cpu, len, byte(kind))
                .expect("memory")
        };
        let table = PageTable::new(&cpu, pages, byte(PageKind::PageTable)).expect("memory");
        let flags = PteFlags::PRESENT | PteFlags::WRITABLE;
        table
            .identity(&cpu, pages, pages.covers(), false, flags)
            .expect("memory");
        let table = pages
            .place(&cpu, byte(PageKind::Data), table)
            .expect("memory");
        let flavours = machines(STALL_NS, note);
        let rcu = Protection::new(form, flavours).rcu;
        let descriptors = words(1, PageKind::Descriptor);
        descriptors[3].store(0xde5c, Relaxed);
        let ranges: &[&[AtomicU64]] = Box::leak(Box::new([&descriptors[..4], &descriptors[6..]]));
        let data: &DataPages = Box::leak(Box::new(DataPages::new()));
        let large = words(512, PageKind::Large);
        let percpu = words(2 * cpus as usize, PageKind::PerCpu);
        let targets = Targets {
            pages,
            table,
            frames: None,
            identity: pages.covers(),
            data,
            percpu,
            large,
            descriptors: ranges,
            descriptors_sum: Targets::checksum(ranges),
        };
        rcu.idle_exit(&cpu);
        let mut parameters = WorkloadId::Walk.defaults();
        parameters[Walk::PROTECT] = form as u64;
        let walk =
            Walk::build(&cpu, flavours, targets, 256, &parameters, |_, _| ()).expect("memory");
        Self {
            walk: Box::leak(Box::new(walk)),
            fixture,
            rcu,
            pages,
            table,
            data,
            large,
            descriptors,
            percpu,
        }
    }

    /// Every CPU makes up to `steps` steps, or until `enough`; then the first one audits.
    fn run(&self, steps: usize, enough: impl Fn(&Self) -> bool + Sync) -> Audit {
        let cpus = self.fixture.areas.len();
        std::thread::scope(|scope| {
            for id in 0..cpus {
                let (cpu, enough) = (self.fixture.cpu(id), &enough);
                scope.spawn(move || {
                    self.rcu.idle_exit(&cpu);
                    let mut worker = Worker::new(&cpu, id, 512 / cpus);
                    for step in 0..steps {
                        self.walk.step(&cpu, &mut worker);
                        self.rcu.tick(&cpu, cpu.context());
                        if step % 64 == 0 && enough(self) {
                            break;
                        }
                    }
                    // The others' grace periods must not wait for a thread that has ended.
                    self.rcu.idle_enter(&cpu);
                    assert_eq!(cpu.context().0, 0);
                });
            }
        });
        let cpu = self.fixture.cpu(0);
        // SAFETY: all the threads have ended.
        unsafe { self.walk.audit(&cpu) }
    }
}

#[test]
fn the_right_form_is_clean() {
    Form::ALL.into_iter().for_each(is_clean);
}

fn is_clean(form: Form) {
    const STEPS: usize = 6_000;
    let guest = Guest::of(3, Variant::None, form);
    let audit = guest.run(STEPS, |_| false);
    let first =
        |area: &underfoot_abi::VcpuArea| area.first_error.each_ref().map(|w| w.load(Relaxed));
    let errors: Vec<_> = guest.fixture.areas.iter().map(|area| first(area)).collect();
    assert_eq!(
        (audit.errors, guest.fixture.errors()),
        (0, 0),
        "{form:?}: {errors:x?}"
    );
    assert!(audit.checked > 1_000 && audit.updates > 500);
    let header = guest.fixture.header;
    assert_eq!(guest.fixture.updates(), audit.updates);
    assert!(header.grace_periods.load(Relaxed) > 0);
    for area in &guest.fixture.areas {
        assert_eq!(area.progress.load(Relaxed), STEPS as u64);
        assert!(area.checked.load(Relaxed) > STEPS as u64);
        assert!(area.callbacks[0].load(Relaxed) > 0, "objects were removed");
    }
    for metric in [
        Metric::Access,
        Metric::Probe,
        Metric::RcuRead,
        Metric::GracePeriod,
        Metric::LockHold,
        Metric::LockWait,
    ] {
        let count = guest.fixture.count(Moving, metric);
        assert!(count > 0, "{form:?}: {metric:?}");
    }
}

#[test]
fn one_cpu_is_enough() {
    let guest = Guest::new(1, Variant::None);
    let audit = guest.run(3_000, |_| false);
    assert_eq!((audit.errors, guest.fixture.errors()), (0, 0));
}

fn caught(variant: Variant, form: Form) -> bool {
    let guest = Guest::of(3, variant, form);
    let audit = guest.run(100_000, |guest| guest.fixture.errors() > 0);
    audit.errors > 0 || guest.fixture.errors() > 0
}

#[test]
fn freeing_without_a_grace_period_is_caught() {
    for form in Form::ALL {
        assert!(caught(Variant::NoGracePeriod, form), "{form:?}");
    }
}

#[test]
fn writing_without_the_sequence_count_is_caught() {
    for form in Form::ALL {
        assert!(caught(Variant::NoSeqcount, form), "{form:?}");
    }
}

#[test]
fn updating_without_the_lock_is_caught() {
    for form in Form::ALL {
        let guest = Guest::of(3, Variant::NoLock, form);
        let audit = guest.run(20_000, |_| false);
        assert_ne!(audit.updates, guest.fixture.updates(), "{form:?}");
    }
}

#[test]
fn a_cpu_that_reports_nothing_is_caught_by_the_stall_detector() {
    let guest = Guest::new(3, Variant::RcuStall);
    guest.run(1_000_000, |_| STALLED.load(Relaxed) & 0b100 != 0);
    assert_ne!(STALLED.load(Relaxed) & 0b100, 0, "CPU 2 is named");
    assert!(guest.fixture.header.rcu_stalls.load(Relaxed) > 0);
    assert_eq!(guest.fixture.errors(), 0);
}

/// Steps until an error is found that a checker must find after `break_it`.
fn finds(break_it: impl FnOnce(&Guest)) {
    let guest = Guest::new(1, Variant::None);
    // Long enough for each CPU's held pages to have been freed once.
    guest.run(5_000, |_| false);
    assert_eq!(guest.fixture.errors(), 0);
    break_it(&guest);
    guest.run(50_000, |guest| guest.fixture.errors() > 0);
    assert!(guest.fixture.errors() > 0);
}

#[test]
fn a_changed_data_page_is_found() {
    finds(|guest| guest.data.words()[1].store(77, Relaxed));
}

#[test]
fn a_changed_large_page_is_found() {
    finds(|guest| (0..512).for_each(|page| guest.large[page * 512 + 1].store(77, Relaxed)));
}

#[test]
fn a_changed_percpu_page_is_found() {
    finds(|guest| guest.percpu[1].store(77, Relaxed));
}

#[test]
fn a_changed_descriptor_is_found() {
    finds(|guest| guest.descriptors[3].store(0, Relaxed));
}

#[test]
fn a_changed_page_table_is_found() {
    finds(|guest| {
        let start = guest.pages.covers().start;
        for page in 0..64 {
            let leaf = guest.table.walk(start + page * PAGE_SIZE).expect("mapped");
            fixture::word(leaf.entry.address).fetch_add(PAGE_SIZE as u64, Relaxed);
        }
    });
}

#[test]
fn a_changed_object_is_found() {
    finds(|guest| {
        let slab = |page: &usize| guest.pages.kind(*page).kind() == PageKind::Slab;
        let pages = guest.pages.covers().step_by(PAGE_SIZE).filter(slab);
        pages.for_each(|page| fixture::word(page).store(0, Relaxed));
    });
}

#[test]
fn a_changed_free_page_is_found() {
    finds(|guest| {
        let free = |page: &usize| guest.pages.kind(*page).kind() == PageKind::Free;
        let pages = guest.pages.covers().step_by(PAGE_SIZE).filter(free);
        pages.for_each(|page| fixture::word(page).store(1, Relaxed));
    });
}

#[test]
fn a_tree_without_memory_says_so() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 8);
    let protection = Protection::new(Form::Classic, machines(1, silent));
    let Err(error) = Tree::build(&cpu, pages, protection, 1_000) else {
        panic!("a tree of 1000 objects fits into 8 pages");
    };
    assert_eq!(
        error.to_string(),
        "cannot build a tree of 1000 objects in 8 free pages; give the guest more memory"
    );
}

#[test]
fn trees_scale_with_memory_within_bounds() {
    assert_eq!(Tree::objects_for(0), 128);
    assert_eq!(Tree::objects_for(16_384), 4_096);
    assert_eq!(Tree::objects_for(usize::MAX), 16_384);
}

/// A page that goes back to what it held at some moment agrees with itself.
fn loses(region: impl Fn(&Guest) -> &'static [AtomicU64]) {
    let guest = Guest::new(1, Variant::None);
    let audit = guest.run(6_000, |_| false);
    assert_eq!((audit.errors, guest.fixture.errors()), (0, 0));
    let words = region(&guest);
    let page = words
        .chunks(PAGE_SIZE / 8)
        .find(|page| page[0].load(Relaxed) > 0)
        .expect("a page that was updated");
    page[0].store(0, Relaxed);
    page[1].store(0, Relaxed);
    let cpu = guest.fixture.cpu(0);
    // SAFETY: the threads have ended.
    let audit = unsafe { guest.walk.audit(&cpu) };
    assert_ne!(audit.updates, guest.fixture.updates());
}

#[test]
fn a_lost_update_of_a_percpu_page_is_found() {
    loses(|guest| guest.percpu);
}

#[test]
fn a_lost_update_of_a_large_page_is_found() {
    loses(|guest| guest.large);
}

#[test]
fn a_lost_update_of_a_data_page_is_found() {
    loses(|guest| guest.data.words());
}
