//! Who in the guest waits for whom, for the engine's watchdog: vCPUs for pages in their windows, grace
//! periods for vCPUs.
//!
//! | a vCPU that meets a window | who notices |
//! | --- | --- |
//! | its thread sleeps (`block`, and pages that KVM itself reaches) | the fault handler, by the thread's id |
//! | it is halted, a worker of KVM's sleeps (`halt`) | the fault handler, by the access that the guest publishes |
//! | its thread leaves the guest (`spin`, `yield`) | that thread, by the same |
//!
//! The last two know of timed accesses only. An access that is over, and whose end the guest has not
//! published yet, is none: nobody noticed it in this very window.

mod grace;
mod slot;

use crate::shared::SharedRegion;
use crate::vcpu_set::VcpuSet;
use crate::wait::Window;
use grace::{Awaited, Running};
use slot::{Met, Slot};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use underfoot_abi::{Context, PAGE_SIZE};
use underfoot_migrator::clock::Tsc;
use underfoot_migrator::{About, Edge, Gfn, GracePeriods, Node, WaitSource, Windows};

/// What the vCPUs of a machine and the guest's grace periods wait for.
///
/// It takes no lock and does not allocate where a vCPU waits for it.
pub struct GuestWaits {
    shared: SharedRegion,
    /// The vCPU whose thread has this id.
    by_thread: Box<dyn Fn(i32) -> Option<u32> + Send + Sync>,
    windows: OnceLock<Arc<Windows>>,
    /// By vCPU: what the fault handler noticed, and what the vCPU's thread did.
    met: Box<[[Slot; 2]]>,
    asked: grace::Asked,
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
    /// Of a machine's vCPUs.
    #[must_use]
    pub fn new(shared: SharedRegion, vcpus: Arc<VcpuSet>) -> Self {
        Self::by(shared, move |thread| vcpus.by_thread(thread))
    }

    fn by(
        shared: SharedRegion,
        by_thread: impl Fn(i32) -> Option<u32> + Send + Sync + 'static,
    ) -> Self {
        Self {
            met: (0..shared.cpus()).map(|_| Default::default()).collect(),
            shared,
            by_thread: Box::new(by_thread),
            windows: OnceLock::new(),
            asked: grace::Asked::default(),
        }
    }

    /// Names the windows that vCPUs meet; until then they meet none. Only the first call counts.
    pub fn set_windows(&self, windows: Arc<Windows>) {
        // A second migrator of the same machine would have to say so first.
        let _ = self.windows.set(windows);
    }

    /// The kernel's thread `thread` sleeps, since `tsc` or before, for the page at `gfn`, which is in a window.
    /// For the one fault handler.
    pub fn slept(&self, gfn: Gfn, thread: i32, tsc: Tsc) {
        let Some(holder) = self.windows.get().and_then(|windows| windows.holder(gfn)) else {
            return;
        };
        let sleeper = (self.by_thread)(thread);
        for vcpu in 0..self.shared.cpus() {
            let access = self.access(vcpu).filter(|(page, _)| *page == gfn);
            let access = access.map(|(_, began)| began);
            let met = match sleeper {
                Some(sleeper) if sleeper == vcpu => Met {
                    gfn,
                    holder,
                    access: None,
                    since: access.unwrap_or(tsc),
                },
                // KVM's worker: of the vCPU that is in the midst of an access to this page.
                None if access.is_some() => Met {
                    gfn,
                    holder,
                    access,
                    since: access.unwrap_or(tsc),
                },
                _ => continue,
            };
            self.met[vcpu as usize][0].publish(met);
        }
    }

    /// vCPU `vcpu` has left the guest because of a page in its window. For its own thread.
    fn left(&self, vcpu: u32) {
        let met = self.windows.get().and_then(|windows| {
            let (gfn, began) = self.access(vcpu)?;
            Some(Met {
                gfn,
                holder: windows.holder(gfn)?,
                access: Some(began),
                since: began,
            })
        });
        if let Some(met) = met {
            self.met[vcpu as usize][1].publish(met);
        }
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

    fn page_wait(&self, vcpu: u32) -> Option<PageWait> {
        let windows = self.windows.get()?;
        let slots = self.met.get(vcpu as usize)?;
        slots.iter().zip(0..).find_map(|(slot, nth): (&Slot, u64)| {
            let (version, met) = slot.read()?;
            let same_access = || self.access(vcpu) == met.access.map(|began| (met.gfn, began));
            let waits =
                windows.is_held(met.gfn, met.holder) && (met.access.is_none() || same_access());
            // Versions are even, and the two slots' are no more the same than those of one.
            let sequence = version + nth;
            waits.then_some(PageWait { sequence, met })
        })
    }

    /// Whether a vCPU that waits for a page holds up the grace periods that wait for it until that page is
    /// back: one that is halted takes ticks, which find it quiescent unless it is in a read section.
    fn holds_up(&self, vcpu: u32, wait: &PageWait) -> bool {
        let context = Context(self.shared.vcpu(vcpu).context.load(Ordering::Relaxed));
        let interrupted = context.in_interrupt() || context.in_bottom_half();
        let reads = context.rcu_depth() > 0 && !interrupted;
        wait.met.access.is_none() || context.masked() || reads
    }

    /// For whom the grace period waits that holds up what `mover` asked for.
    fn reader(&self, mover: u16) -> Option<Reader> {
        match self.asked.awaited(&self.shared, mover)? {
            Awaited::Running(running) => self.holder_up(running),
            Awaited::NotBegun { number } => self.nobody_begins(number, mover),
        }
    }

    /// A vCPU that holds it up: it waits for all of them, so that one that waits for a page says it all.
    fn holder_up(&self, running: Running) -> Option<Reader> {
        let waited_for = || (0..self.shared.cpus()).filter(|vcpu| running.cpus & 1 << vcpu != 0);
        let blocked = |vcpu: &u32| {
            let wait = self.page_wait(*vcpu);
            wait.is_some_and(|wait| self.holds_up(*vcpu, &wait))
        };
        let vcpu = waited_for()
            .find(blocked)
            .or_else(|| waited_for().find(|vcpu| self.page_wait(*vcpu).is_none()))?;
        Some(Reader {
            number: running.number,
            vcpu,
            since: running.since,
        })
    }

    /// A grace period begins as soon as any vCPU gets on: it waits for one of them if all sleep for pages
    /// of the very mover that asked.
    fn nobody_begins(&self, number: u64, mover: u16) -> Option<Reader> {
        let mut since = 0;
        for vcpu in 0..self.shared.cpus() {
            let wait = self.page_wait(vcpu)?;
            if wait.met.access.is_some() || wait.met.holder.mover != mover {
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
        self.windows.get().is_some_and(|windows| windows.is_open())
    }

    fn closed(&self) -> u64 {
        self.windows.get().map_or(0, |windows| windows.closed())
    }

    fn meets(&self, vcpu: u32) {
        self.left(vcpu);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
