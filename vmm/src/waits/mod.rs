//! Who in the guest waits for whom, for the engine's watchdog: vCPUs for pages in their windows, grace
//! periods for vCPUs.
//!
//! | a vCPU that meets a window | who notices |
//! | --- | --- |
//! | its thread sleeps (`block`, and pages that KVM itself reaches) | the fault handler, by the thread's id |
//! | it is halted, a worker of KVM's sleeps (`halt`) | the fault handler, by the access that the guest publishes |
//! | its thread leaves the guest (`spin`, `yield`) | that thread, by the same |
//!
//! The guest publishes its timed accesses only. In the midst of anything else, a vCPU that is halted though it
//! is not idle, or that is out of the guest, waits for the one page of which it can be: where several movers
//! have windows that somebody met so, nobody is said to wait.

mod grace;
mod pool_grace;
mod slot;

use crate::shared::SharedRegion;
use crate::stats::{StatValue, StatsFile};
use crate::vcpu_set::VcpuSet;
use crate::wait::Window;
use grace::{Awaited, Running};
pub use pool_grace::PoolGrace;
use slot::{How, Met, Slot};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use underfoot_abi::{Context, PAGE_SIZE, Wait};
use underfoot_migrator::clock::{self, Tsc};
use underfoot_migrator::{About, Edge, Gfn, GracePeriods, Holder, Node, WaitSource, Windows};

/// What the vCPUs of a machine and the guest's grace periods wait for.
///
/// It takes no lock and does not allocate where a vCPU waits for it.
pub struct GuestWaits {
    shared: SharedRegion,
    host: Box<dyn Host>,
    windows: OnceLock<Arc<Windows>>,
    vcpus: Box<[VcpuWaits]>,
    asked: grace::Asked,
}

/// What is known of one vCPU.
#[derive(Default)]
struct VcpuWaits {
    /// What the fault handler knows of it.
    noticed: Slot,
    /// What it may be waiting for if it is halted: the fault handler does not know of which vCPU.
    suspected: Slot,
    /// What its own thread says.
    said: Slot,
    /// Its thread has left the guest because of a window.
    is_out: AtomicBool,
}

/// What the host's kernel knows of vCPUs.
trait Host: Send + Sync {
    /// The vCPU whose thread has this id.
    fn by_thread(&self, thread: i32) -> Option<u32>;
    /// Whether KVM has it halted.
    fn is_halted(&self, vcpu: u32) -> bool;
}

struct Kvm {
    vcpus: Arc<VcpuSet>,
    /// By vCPU; none where this KVM does not tell.
    halted: Vec<Option<StatValue>>,
}

impl Host for Kvm {
    fn by_thread(&self, thread: i32) -> Option<u32> {
        self.vcpus.by_thread(thread)
    }

    fn is_halted(&self, vcpu: u32) -> bool {
        let value = self.halted.get(vcpu as usize).and_then(Option::as_ref);
        value.and_then(StatValue::get) == Some(1)
    }
}

/// A grace period waits for a vCPU.
struct Reader {
    /// The grace period's.
    number: u64,
    vcpu: u32,
    since: Tsc,
}

/// A vCPU waits for a page.
struct PageWait {
    sequence: u64,
    met: Met,
}

impl GuestWaits {
    /// Of a machine's vCPUs, whose statistics these are.
    pub(crate) fn new(shared: SharedRegion, vcpus: Arc<VcpuSet>, stats: &[StatsFile]) -> Self {
        let halted = stats.iter().map(|stats| stats.value("blocking")).collect();
        Self::on(shared, Kvm { vcpus, halted })
    }

    fn on(shared: SharedRegion, host: impl Host + 'static) -> Self {
        Self {
            vcpus: (0..shared.cpus()).map(|_| VcpuWaits::default()).collect(),
            shared,
            host: Box::new(host),
            windows: OnceLock::new(),
            asked: grace::Asked::default(),
        }
    }

    /// Names the windows that vCPUs meet; until then they meet none. Only the first call counts.
    pub fn set_windows(&self, windows: Arc<Windows>) {
        // A second migrator of the same machine would have to say so first.
        let _ = self.windows.set(windows);
    }

    fn windows(&self) -> Option<&Windows> {
        self.windows.get().map(|windows| &**windows)
    }

    /// The kernel's thread `thread` sleeps, since `tsc` or before, for the page at `gfn`, which is in a window.
    /// For the one fault handler.
    pub fn slept(&self, gfn: Gfn, thread: i32, tsc: Tsc) {
        let Some(holder) = self.windows().and_then(|windows| windows.holder(gfn)) else {
            return;
        };
        let met = |how, since| Met {
            gfn,
            holder,
            how,
            since,
        };
        if let Some(sleeper) = self.host.by_thread(thread) {
            let since = self.access_to(sleeper, gfn).unwrap_or(tsc);
            let waits = &self.vcpus[sleeper as usize];
            return waits.noticed.publish(met(How::Asleep, since));
        }
        // A worker of KVM's, for a vCPU that it does not name: it may be one of those that say so.
        for (vcpu, waits) in (0..).zip(&self.vcpus) {
            if let Some(began) = self.access_to(vcpu, gfn) {
                waits.noticed.publish(met(How::Access(began), began));
            }
        }
        self.suspect(met(How::Out, tsc));
    }

    /// Any vCPU that is halted, and of which nothing else is known, waits for this page; unless it may be
    /// another mover's.
    fn suspect(&self, met: Met) {
        let others = |waits: &VcpuWaits| {
            let (_, last) = waits.suspected.read()?;
            (last.holder.mover != met.holder.mover && self.is_held(&last)).then_some(())
        };
        if self.vcpus.iter().any(|waits| others(waits).is_some()) {
            let nobody = Holder {
                mover: u16::MAX,
                sequence: 0,
            };
            let met = Met {
                holder: nobody,
                ..met
            };
            return self
                .vcpus
                .iter()
                .for_each(|waits| waits.suspected.publish(met));
        }
        self.vcpus
            .iter()
            .for_each(|waits| waits.suspected.publish(met));
    }

    /// vCPU `vcpu` has left the guest because of a page in its window.
    fn left(&self, vcpu: u32) -> Option<()> {
        let windows = self.windows()?;
        let of_window = |(gfn, began)| Some((gfn, began, windows.holder(gfn)?));
        let met = match self.access(vcpu).and_then(of_window) {
            Some((gfn, began, holder)) => Met {
                gfn,
                holder,
                how: How::Access(began),
                since: began,
            },
            None => {
                let (gfn, holder) = windows.only()?;
                Met {
                    gfn,
                    holder,
                    how: How::Out,
                    since: clock::now(),
                }
            }
        };
        self.vcpus.get(vcpu as usize)?.said.publish(met);
        Some(())
    }

    /// The page of the access in whose midst a vCPU is, and when that began, which names it.
    fn access(&self, vcpu: u32) -> Option<(Gfn, Tsc)> {
        let area = self.shared.vcpu(vcpu);
        // Acquire pairs with the releases in the guest's `record::access`: an address of another access
        // comes with the end of this one.
        let began = area.access_began_tsc.load(Ordering::Acquire);
        let gva = area.access_gva.load(Ordering::Acquire);
        let same = area.access_began_tsc.load(Ordering::Acquire) == began;
        // The guest's kernel is mapped one to one.
        (began != 0 && same).then_some((Gfn(gva / PAGE_SIZE as u64), began))
    }

    /// When the access began in whose midst a vCPU is, if that is to this page.
    fn access_to(&self, vcpu: u32, gfn: Gfn) -> Option<Tsc> {
        let access = self.access(vcpu).filter(|(page, _)| *page == gfn);
        access.map(|(_, began)| began)
    }

    fn is_held(&self, met: &Met) -> bool {
        self.windows()
            .is_some_and(|windows| windows.is_held(met.gfn, met.holder))
    }

    fn page_wait(&self, vcpu: u32) -> Option<PageWait> {
        let waits = self.vcpus.get(vcpu as usize)?;
        let slots = [&waits.noticed, &waits.said, &waits.suspected];
        slots.into_iter().zip(0..).find_map(|(slot, nth)| {
            let (version, met) = slot.read()?;
            let holds = self.is_held(&met)
                && match met.how {
                    How::Asleep => true,
                    How::Access(began) => self.access(vcpu) == Some((met.gfn, began)),
                    // Relaxed: it says nothing but what it says.
                    How::Out => waits.is_out.load(Ordering::Relaxed) || self.is_halted(vcpu),
                };
            // The versions of three slots are as different as those of one.
            let sequence = version * 2 + nth;
            holds.then_some(PageWait { sequence, met })
        })
    }

    fn context(&self, vcpu: u32) -> Context {
        Context(self.shared.vcpu(vcpu).context.load(Ordering::Acquire))
    }

    /// Whether KVM has a vCPU halted that did not ask for it: for a page.
    fn is_halted(&self, vcpu: u32) -> bool {
        let before = self.context(vcpu);
        let idle = before.wait().0 == Wait::Interrupt && !before.in_interrupt();
        !idle && self.host.is_halted(vcpu) && self.context(vcpu) == before
    }

    /// Whether a vCPU that waits for a page takes no tick before the page is back: then it begins no grace
    /// period either.
    fn is_deaf(&self, vcpu: u32, wait: &PageWait) -> bool {
        wait.met.how == How::Asleep || self.context(vcpu).masked()
    }

    /// Whether it holds up the grace periods that wait for it until the page is back: a tick finds it
    /// quiescent unless it is in a read section.
    fn holds_up(&self, vcpu: u32, wait: &PageWait) -> bool {
        let context = self.context(vcpu);
        // What is not published was met by whatever the word is of.
        let interrupted = context.in_interrupt() || context.in_bottom_half();
        let is_its_own = wait.met.how == How::Out || !interrupted;
        self.is_deaf(vcpu, wait) || (context.rcu_depth() > 0 && is_its_own)
    }

    /// For whom the grace period waits that holds up what `mover` asked for.
    fn reader(&self, mover: u16) -> Option<Reader> {
        match self.asked.awaited(&self.shared, mover)? {
            Awaited::Running(running) => self.holder_up(running),
            Awaited::NotBegun { number } => self.nobody_begins(number),
        }
    }

    /// A vCPU that holds it up: it waits for all of them, so that one that waits for a page says it all.
    fn holder_up(&self, running: Running) -> Option<Reader> {
        let mut free = None;
        for vcpu in (0..self.shared.cpus()).filter(|vcpu| running.cpus & 1 << vcpu != 0) {
            match self.page_wait(vcpu) {
                None => free = free.or(Some(vcpu)),
                Some(wait) if self.holds_up(vcpu, &wait) => {
                    return Some(Reader {
                        number: running.number,
                        vcpu,
                        since: running.since,
                    });
                }
                Some(_) => {}
            }
        }
        Some(Reader {
            number: running.number,
            vcpu: free?,
            since: running.since,
        })
    }

    /// A grace period begins as soon as any vCPU gets on, or takes a tick: it waits for one of them if all
    /// wait, deaf, for pages of one and the same mover.
    fn nobody_begins(&self, number: u64) -> Option<Reader> {
        let (mut since, mut mover) = (0, None);
        for vcpu in 0..self.shared.cpus() {
            let wait = self.page_wait(vcpu)?;
            let holder = wait.met.holder.mover;
            if !self.is_deaf(vcpu, &wait) || holder != *mover.get_or_insert(holder) {
                return None;
            }
            since = since.max(wait.met.since);
        }
        Some(Reader {
            number,
            vcpu: 0,
            since,
        })
    }
}

impl WaitSource for GuestWaits {
    fn edge(&self, waiter: Node) -> Edge {
        let edge = match waiter {
            Node::Vcpu(vcpu) => self.page_wait(vcpu.into()).map(|wait| {
                let migration = Node::Migration(wait.met.holder.mover);
                Edge::new(wait.sequence, Some(migration))
            }),
            // A grace period waits for a CPU once at most, and is begun once.
            Node::GracePeriod(mover) => self
                .reader(mover)
                .map(|of| Edge::new(of.number, Some(Node::Vcpu(of.vcpu as u16)))),
            _ => None,
        };
        edge.unwrap_or_default()
    }

    fn about(&self, waiter: Node) -> About {
        let about = match waiter {
            Node::Vcpu(vcpu) => self.page_wait(vcpu.into()).map(|wait| About {
                since: wait.met.since,
                page: Some(wait.met.gfn),
            }),
            Node::GracePeriod(mover) => self.reader(mover).map(|of| About {
                since: of.since,
                page: None,
            }),
            _ => None,
        };
        about.unwrap_or_default()
    }
}

impl GracePeriods for GuestWaits {
    fn ask(&self, mover: u16) -> u64 {
        self.asked.ask(&self.shared, mover)
    }

    fn is_over(&self, number: u64) -> bool {
        grace::is_over(&self.shared, number)
    }
}

impl Window for GuestWaits {
    fn is_open(&self) -> bool {
        self.windows().is_some_and(Windows::is_open)
    }

    fn closed(&self) -> u64 {
        self.windows().map_or(0, Windows::closed)
    }

    fn meets(&self, vcpu: u32) {
        if let Some(waits) = self.vcpus.get(vcpu as usize) {
            // A wait that nobody can name is none.
            let _ = self.left(vcpu);
            waits.is_out.store(true, Ordering::Relaxed);
        }
    }

    fn goes_on(&self, vcpu: u32) {
        if let Some(waits) = self.vcpus.get(vcpu as usize) {
            waits.is_out.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
