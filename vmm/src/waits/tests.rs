use super::*;
use crate::memory::{Backing, GuestRam, MemorySize};
use underfoot_abi::Wait;
use underfoot_migrator::{Members, PageRange, WaitGraph};

/// Threads 100 and 101 are those of vCPUs 0 and 1; every other is a worker of KVM's.
#[derive(Default)]
struct Threads([AtomicBool; 2]);

impl Host for Arc<Threads> {
    fn by_thread(&self, thread: i32) -> Option<u32> {
        u32::try_from(thread - 100).ok().filter(|vcpu| *vcpu < 2)
    }

    fn is_halted(&self, vcpu: u32) -> bool {
        self.0[vcpu as usize].load(Ordering::Relaxed)
    }
}

struct Rig {
    waits: Arc<GuestWaits>,
    windows: Arc<Windows>,
    shared: SharedRegion,
    halted: Arc<Threads>,
}

const WORKER: i32 = 7;
const PAGE: Gfn = Gfn(0x27f);
const RANGE: PageRange = PageRange::new(PAGE, 1);

impl Rig {
    fn new() -> Self {
        let size = MemorySize::new(16 << 20, 1 << 30).expect("fits");
        let ram = GuestRam::new(size, 2, Backing::Small).expect("memory");
        let shared = SharedRegion::new(&ram);
        let halted = Arc::new(Threads::default());
        let waits = Arc::new(GuestWaits::on(shared.clone(), Arc::clone(&halted)));
        let windows = Arc::new(Windows::default());
        waits.set_windows(Arc::clone(&windows));
        Self {
            waits,
            windows,
            shared,
            halted,
        }
    }

    fn accesses(&self, vcpu: u32, gfn: Gfn, began: Tsc) {
        let area = self.shared.vcpu(vcpu);
        area.access_gva.store(gfn.gpa() + 8, Ordering::Relaxed);
        area.access_began_tsc.store(began, Ordering::Relaxed);
    }

    fn halt(&self, vcpu: usize) {
        self.halted.0[vcpu].store(true, Ordering::Relaxed);
    }

    fn context(&self, vcpu: u32, context: u64) {
        self.shared
            .vcpu(vcpu)
            .context
            .store(context, Ordering::Relaxed);
    }

    fn grace_period(&self, number: u64, cpus: u64) {
        let header = self.shared.header();
        header.grace_cpus.store(cpus, Ordering::Relaxed);
        header.grace_began_tsc.store(50, Ordering::Relaxed);
        header.grace_number.store(number, Ordering::Relaxed);
    }

    fn waits_for(&self, node: Node) -> Option<Node> {
        self.waits.edge(node).to()
    }
}

#[test]
fn a_vcpu_waits_for_whoever_has_its_page_as_long_as_it_does() {
    let vcpu = Node::Vcpu(1);
    let migration = Some(Node::Migration(3));
    type Meets = fn(&Rig);
    let ways: [(&str, Meets); 5] = [
        ("asleep", |rig| rig.waits.slept(PAGE, 101, 42)),
        ("halted", |rig| {
            rig.accesses(1, PAGE, 40);
            rig.waits.slept(PAGE, WORKER, 42);
        }),
        ("out of the guest", |rig| {
            rig.accesses(1, PAGE, 40);
            rig.waits.meets(1);
        }),
        ("halted in what is not published", |rig| {
            rig.halt(1);
            rig.waits.slept(PAGE, WORKER, 42);
        }),
        ("out of what is not published", |rig| rig.waits.meets(1)),
    ];
    for (how, meets) in ways {
        let rig = Rig::new();
        meets(&rig);
        assert_eq!(rig.waits_for(vcpu), None, "{how}: no window is open");
        rig.windows.open(3, RANGE);
        assert_eq!(rig.waits_for(vcpu), None, "{how}: it met none");
        meets(&rig);
        assert_eq!(rig.waits_for(vcpu), migration, "{how}");
        assert_eq!(rig.waits.about(vcpu).page, Some(PAGE), "{how}");
        assert_eq!(rig.waits_for(Node::Vcpu(0)), None, "{how}: it is another");
        let first = rig.waits.edge(vcpu);
        assert_eq!(rig.waits.edge(vcpu), first, "{how}: the same wait");
        rig.windows.close(3);
        assert_eq!(rig.waits_for(vcpu), None, "{how}: the window is closed");
        rig.windows.open(3, RANGE);
        assert_eq!(rig.waits_for(vcpu), None, "{how}: it is another window");
        meets(&rig);
        assert_ne!(rig.waits.edge(vcpu), first, "{how}: another wait");
    }
}

#[test]
fn what_is_not_published_is_waited_for_while_it_lasts() {
    let (vcpu, migration) = (Node::Vcpu(1), Some(Node::Migration(0)));
    let rig = Rig::new();
    rig.windows.open(0, RANGE);
    rig.waits.slept(PAGE, WORKER, 42);
    assert_eq!(rig.waits_for(vcpu), None, "it runs");
    rig.halt(1);
    assert_eq!(rig.waits_for(vcpu), migration);
    rig.context(1, Context(0).with_wait(Wait::Interrupt, 0).0);
    assert_eq!(rig.waits_for(vcpu), None, "it is idle");
    let handler = Context(Context::INTERRUPT).with_wait(Wait::Interrupt, 0);
    rig.context(1, handler.0);
    assert_eq!(rig.waits_for(vcpu), migration, "in its interrupt");
    // Of two windows that workers met, none is said to be it.
    rig.windows.open(1, PageRange::new(Gfn(5), 1));
    rig.waits.slept(Gfn(5), WORKER, 44);
    assert_eq!(rig.waits_for(vcpu), None);

    let rig = Rig::new();
    rig.windows.open(0, RANGE);
    rig.waits.meets(1);
    assert_eq!(rig.waits_for(vcpu), migration);
    let first = rig.waits.edge(vcpu);
    rig.waits.goes_on(1);
    assert_eq!(rig.waits_for(vcpu), None, "it tries again");
    rig.waits.meets(1);
    assert_eq!(rig.waits.edge(vcpu), first, "for the same window");
    rig.windows.open(1, PageRange::new(Gfn(5), 1));
    rig.windows.close(0);
    rig.windows.open(0, RANGE);
    rig.waits.meets(1);
    assert_eq!(rig.waits_for(vcpu), None, "which of two, nobody knows");
}

#[test]
fn an_access_that_is_over_waits_for_nothing() {
    let rig = Rig::new();
    rig.windows.open(0, RANGE);
    // A worker sleeps for a page that nobody says to access.
    rig.accesses(0, Gfn(9), 40);
    rig.waits.slept(PAGE, WORKER, 42);
    assert_eq!(rig.waits_for(Node::Vcpu(0)), None);
    rig.accesses(0, PAGE, 50);
    rig.waits.slept(PAGE, WORKER, 52);
    assert_eq!(rig.waits_for(Node::Vcpu(0)), Some(Node::Migration(0)));
    // The next access, of the same page.
    rig.accesses(0, PAGE, 60);
    assert_eq!(rig.waits_for(Node::Vcpu(0)), None);
}

#[test]
fn a_grace_period_waits_for_the_vcpu_that_holds_it_up() {
    let grace = Node::GracePeriod(0);
    let rig = Rig::new();
    rig.grace_period(11, 0b11);
    assert_eq!(rig.waits_for(grace), None, "nobody asked");
    assert_eq!(rig.waits.ask(0), 14);
    assert_eq!(rig.shared.header().grace_wanted.load(Ordering::Relaxed), 14);
    assert_eq!(
        rig.waits_for(grace),
        Some(Node::Vcpu(0)),
        "the first that runs"
    );
    rig.shared.vcpu(0).grace_passed.store(11, Ordering::Relaxed);
    assert_eq!(rig.waits_for(grace), Some(Node::Vcpu(1)));
    rig.shared.vcpu(0).grace_passed.store(9, Ordering::Relaxed);

    // vCPU 1 is halted at a page: by what it is in the midst of.
    rig.windows.open(0, RANGE);
    rig.accesses(1, PAGE, 40);
    rig.waits.slept(PAGE, WORKER, 42);
    for (context, to) in [
        (0, 0),
        (Context::RCU_ONE, 1),
        (Context::MASKED, 1),
        (Context::RCU_ONE | Context::INTERRUPT, 0),
        (Context::RCU_ONE | Context::BOTTOM_HALF, 0),
    ] {
        rig.context(1, context);
        assert_eq!(rig.waits_for(grace), Some(Node::Vcpu(to)), "{context:#x}");
    }
    // Alone, and a tick would find it quiescent.
    rig.shared.vcpu(0).grace_passed.store(11, Ordering::Relaxed);
    rig.context(1, 0);
    assert_eq!(rig.waits_for(grace), None);
    // Asleep, it takes no tick.
    rig.waits.slept(PAGE, 101, 43);
    assert_eq!(rig.waits_for(grace), Some(Node::Vcpu(1)));

    rig.grace_period(14, 0);
    assert!(rig.waits.is_over(14) && !rig.waits.is_over(16));
    assert_eq!(rig.waits_for(grace), None, "over");
}

#[test]
fn a_grace_period_that_nobody_can_begin_waits_for_all() {
    let grace = Node::GracePeriod(2);
    let rig = Rig::new();
    rig.grace_period(10, 0);
    rig.waits.ask(2);
    rig.windows.open(2, PageRange::new(PAGE, 2));
    assert_eq!(rig.waits_for(grace), None);
    rig.waits.slept(PAGE, 100, 42);
    assert_eq!(rig.waits_for(grace), None, "vCPU 1 can begin it");
    rig.waits.slept(Gfn(PAGE.0 + 1), 101, 45);
    assert_eq!(rig.waits_for(grace), Some(Node::Vcpu(0)));
    assert_eq!(
        rig.waits.about(grace).since,
        45,
        "when the last fell asleep"
    );
    // One of them sleeps for somebody else, who may wake it.
    rig.windows.open(1, PageRange::new(Gfn(5), 1));
    rig.waits.slept(Gfn(5), 101, 46);
    assert_eq!(rig.waits_for(grace), None);
}

#[test]
fn the_cycle_of_a_window_that_waits_for_readers_is_named() {
    let rig = Rig::new();
    let graph = Arc::new(WaitGraph::new(
        Members::default(),
        [Arc::clone(&rig.waits) as Arc<dyn WaitSource>],
    ));
    rig.grace_period(11, 0b10);
    rig.windows.open(0, RANGE);
    rig.waits.ask(0);
    let mut migration = graph.waiter(Node::Migration(0)).expect("free");
    let wait = migration.wait_for(Node::GracePeriod(0));
    assert!(graph.find_cycles().is_empty(), "nobody touched the page");
    rig.context(1, Context(Context::RCU_ONE).with_wait(Wait::None, 0).0);
    rig.accesses(1, PAGE, 40);
    rig.waits.slept(PAGE, WORKER, 42);
    let cycles = graph.find_cycles();
    let said: Vec<_> = cycles.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "vCPU 1 waits for page 0x27f of migration 0, which waits for grace period 0, which waits for vCPU 1"
        ]
    );
    assert!(cycles[0].closed() > 50, "the migration began to wait last");
    assert_eq!(graph.break_cycle(&cycles[0]), Some(Node::Migration(0)));
    assert!(wait.is_aborted());
    rig.windows.close(0);
    assert!(graph.find_cycles().is_empty());
}
