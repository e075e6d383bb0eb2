//! Shooting translations down, and using spaces so that this can be done.

use super::{
    batch::Batch,
    cpu::PerCpu,
    note,
    request::{Order, What},
    soft::SoftTlb,
    space::Space,
};
use crate::{
    Cpu,
    record::{self, Span},
    sync::atomic::{
        AtomicU8,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};
use underfoot_abi::{MAX_CPUS, Metric, Variant};

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);
const CPUS: usize = if cfg!(loom) { 3 } else { MAX_CPUS };

/// How other CPUs are made to flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Each is interrupted and answers.
    #[default]
    Ipi,
    /// A vCPU that its host keeps from running is left a note, the others are interrupted.
    Pv,
    /// All are interrupted by one hypercall, and each answers.
    Hypercall,
}

impl Way {
    /// The way with this number, in the order of the type.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Pv,
            2 => Self::Hypercall,
            _ => Self::Ipi,
        }
    }
}

/// Where the hosts of a vCPU say that they keep it from running.
#[derive(Clone, Copy, Debug)]
pub struct HostWords<'a> {
    /// The VMM's.
    pub held: &'a AtomicU8,
    /// KVM's.
    pub preempted: &'a AtomicU8,
}

/// What one shootdown took: how many CPUs were dealt with in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shot {
    /// Asked, and waited for.
    pub asked: u32,
    /// Interrupts sent: a CPU that was asked by others just before has one on its way.
    pub sent: u32,
    /// Left alone, because they will catch up when they next use the space.
    pub lazy: u32,
    /// Left a note that the VMM reads.
    pub notes_held: u32,
    /// Left a note that KVM reads.
    pub notes_preempted: u32,
    /// Who answered last, if anybody was asked.
    pub slowest: Option<usize>,
    /// Sent by a hypercall.
    pub hypercall: bool,
}

/// All CPUs' state for shootdowns, and the space of the kernel itself.
#[derive(Debug)]
pub struct Tlb {
    kernel: Space,
    pub(super) cpus: [PerCpu; CPUS],
}

#[cfg(not(loom))]
impl Default for Tlb {
    fn default() -> Self {
        Self::new()
    }
}

impl Tlb {
    /// No CPU has joined.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            kernel: Space::of_kernel(0),
            cpus: [const { PerCpu::new() }; CPUS],
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            kernel: Space::of_kernel(0),
            cpus: core::array::from_fn(|_| PerCpu::new()),
        }
    }

    /// `cpu` takes interrupts from here on, and runs on the kernel's tables, which are at `root`.
    pub fn join(&self, cpu: &Cpu, root: usize) {
        self.kernel.set_root(root);
        self.kernel.enter(cpu.id);
    }

    /// The space of the kernel's own translations, used by every CPU at all times.
    #[must_use]
    pub const fn kernel(&self) -> &Space {
        &self.kernel
    }

    /// The translations that this CPU keeps in software, of the space that is loaded.
    #[must_use]
    pub fn soft(&self, cpu: &Cpu) -> &SoftTlb {
        &self.cpus[cpu.id].soft
    }

    /// Uses `space` on this CPU, instead of `last`, the space that it used or kept before
    /// (`switch_mm` and `kthread_use_mm` in Linux). Preemption must be disabled, or the caller be the
    /// scheduler.
    pub fn activate(&self, cpu: &Cpu, last: Option<&Space>, space: &Space) {
        let mine = &self.cpus[cpu.id];
        let open = cpu.ops.irq_save(cpu);
        if mine.has_loaded(space) {
            mine.resume(cpu, space);
        } else {
            // A retired space is not loaded any more, whatever the caller remembers.
            let last = last.filter(|last| mine.has_loaded(last));
            mine.load(cpu, &self.kernel, space);
            if let Some(last) = last {
                last.leave(cpu.id);
            }
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// This CPU goes on without using its space, but keeps it in case that it comes back soon: it
    /// runs a kernel thread, or idles (`enter_lazy_tlb` and `kthread_unuse_mm` in Linux). Until the
    /// next [`Self::activate`] it must access nothing by it.
    pub fn be_lazy(&self, cpu: &Cpu) {
        self.cpus[cpu.id].be_lazy();
    }

    /// Takes `space` away from the CPUs that keep it lazily: afterwards its tables may be freed, and
    /// the value dropped. No CPU may use it, or begin to.
    pub fn retire(&self, cpu: &Cpu, space: &Space) {
        cpu.preempt_disable();
        let order = Order {
            space: space.address(),
            generation: space.change(),
            what: What::Leave,
        };
        let active = space.active();
        let mut shot = Shot::default();
        let targets = active & !(1 << cpu.id);
        self.carry_out(cpu, &order, targets, Way::Ipi, &mut shot, || ());
        each(active, |id| space.leave(id));
        cpu.preempt_enable();
    }

    /// Makes every CPU forget what `batch` names of `space`; the caller has changed the page table
    /// before. When it returns no CPU uses an old translation any more: each has flushed, or will
    /// before it next uses the space, or is flushed by its host before it next runs.
    ///
    /// Interrupts must be open unless they are masked everywhere, not in an interrupt, and no lock
    /// held that a CPU takes with interrupts masked: the others have to answer.
    pub fn shoot(&self, cpu: &Cpu, space: &Space, batch: &Batch, way: Way) -> Shot {
        self.shoot_with(cpu, space, batch, way, |_| None)
    }

    /// As [`Self::shoot`]; `words` gives the words of a vCPU's hosts, for [`Way::Pv`].
    pub fn shoot_with<'a>(
        &self,
        cpu: &Cpu,
        space: &Space,
        batch: &Batch,
        way: Way,
        words: impl Fn(usize) -> Option<HostWords<'a>>,
    ) -> Shot {
        self.shoot_watched(cpu, space, batch, way, words, || ())
    }

    /// As [`Self::shoot`], by interrupts; `waiting` is called now and then until all have answered.
    /// What they wait for themselves, it may end.
    pub fn shoot_while(&self, cpu: &Cpu, space: &Space, batch: &Batch, waiting: impl Fn()) -> Shot {
        self.shoot_watched(cpu, space, batch, Way::Ipi, |_| None, waiting)
    }

    fn shoot_watched<'a>(
        &self,
        cpu: &Cpu,
        space: &Space,
        batch: &Batch,
        way: Way,
        words: impl Fn(usize) -> Option<HostWords<'a>>,
        waiting: impl Fn(),
    ) -> Shot {
        let mut shot = Shot::default();
        if batch.is_empty() {
            return shot;
        }
        // One request at a time from each CPU.
        cpu.preempt_disable();
        let span = Span::start(cpu);
        let order = Order {
            space: space.address(),
            generation: space.change(),
            what: What::of(batch),
        };
        let mut targets = space.active() & !(1 << cpu.id);
        if cpu.header.variant == Variant::SkipCpu as u32 {
            targets &= !(1 << (cpu.header.cpus - 1));
        }
        let spares = order.space != self.kernel.address() && !batch.has_freed_tables();
        each(targets, |id| {
            let target = &self.cpus[id];
            let spared = if spares && target.is_lazy() {
                shot.lazy += 1;
                true
            } else {
                way == Way::Pv
                    && words(id).is_some_and(|words| leave_note(target, &words, &mut shot))
            };
            if spared {
                targets &= !(1 << id);
            }
        });
        self.carry_out(cpu, &order, targets, way, &mut shot, waiting);
        span.finish(cpu, Metric::Shootdown);
        cpu.preempt_enable();
        shot
    }

    /// Asks `targets`, obeys the order here, and waits for the answers.
    fn carry_out(
        &self,
        cpu: &Cpu,
        order: &Order,
        targets: u64,
        way: Way,
        shot: &mut Shot,
        waiting: impl Fn(),
    ) {
        let mine = &self.cpus[cpu.id];
        mine.request.fill(order, targets);
        let mut to_send = 0;
        each(targets, |id| {
            // Release: who sees the bit sees the request, and the page table as it is now. Others
            // who found no bit there before have sent an interrupt, or are about to.
            if self.cpus[id].asked.fetch_or(1 << cpu.id, AcqRel) == 0 {
                to_send |= 1 << id;
            }
        });
        shot.asked = targets.count_ones();
        shot.sent = u64::count_ones(to_send);
        shot.hypercall = way == Way::Hypercall && to_send != 0 && cpu.ops.kick_many(to_send);
        if !shot.hypercall {
            each(to_send, |id| cpu.ops.kick(cpu, id));
        }
        let open = cpu.ops.irq_save(cpu);
        mine.obey(cpu, &self.kernel, order);
        cpu.ops.irq_restore(cpu, open);
        if targets != 0 {
            shot.slowest = Some(mine.request.wait(cpu, || {
                self.poll(cpu);
                waiting();
            }));
        }
    }

    /// Answers whoever has asked this CPU. From the interrupt.
    pub fn answer(&self, cpu: &Cpu) {
        // Acquire pairs with the release in `carry_out`.
        let asked = self.cpus[cpu.id].asked.swap(0, Acquire);
        each(asked, |id| {
            let request = &self.cpus[id].request;
            self.cpus[cpu.id].obey(cpu, &self.kernel, &request.read());
            if request.acknowledge(cpu)
                && let Some(phase) = record::phase(cpu)
            {
                let count = &cpu.area.last_answers[phase as usize];
                count.store(count.load(Relaxed) + 1, Relaxed);
            }
        });
    }

    /// The same from elsewhere: from a wait with interrupts masked, say.
    pub fn poll(&self, cpu: &Cpu) {
        if self.cpus[cpu.id].asked.load(Relaxed) != 0 {
            let open = cpu.ops.irq_save(cpu);
            self.answer(cpu);
            cpu.ops.irq_restore(cpu, open);
        }
    }
}

/// Leaves the note with whichever host keeps the vCPU from running.
fn leave_note(target: &PerCpu, words: &HostWords<'_>, shot: &mut Shot) -> bool {
    let announce = || target.soft.announce();
    let (left, notes) = if note::leave(words.held, announce) {
        (true, &mut shot.notes_held)
    } else {
        let left = note::leave(words.preempted, announce);
        (left, &mut shot.notes_preempted)
    };
    // What it was stopped in the midst of it will end by the old translation: it must be waited for.
    let enough = left && !target.soft.is_amid();
    *notes += u32::from(enough);
    enough
}

/// Calls `with` for every bit of `mask`.
fn each(mut mask: u64, mut with: impl FnMut(usize)) {
    while mask != 0 {
        with(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}
