//! Who waits for whom, by the words of the vCPUs and of the threads that sleep. They are allegations: what is wrong in
//! them makes wrong words here, and nothing else.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use underfoot_abi::{Context, ThreadWords, Wait};
use underfoot_vmm::SharedRegion;

/// Threads that sleep of which each is told; of more the number.
const TOLD: usize = 8;

/// A vCPU, or a thread: one that waits, or that holds what others wait for.
#[derive(Default)]
struct Party {
    number: u32,
    /// What it waits for; of a thread, when it last slept.
    context: Context,
    /// The thread that runs on a vCPU; the vCPU that a thread belongs to.
    other: u32,
    /// A thread that sleeps.
    asleep: bool,
    /// A vCPU's spinlocks; a thread's mutexes and semaphores.
    holds: Vec<u32>,
}

/// What all of them say at one time.
#[derive(Default)]
struct Waits {
    vcpus: Vec<Party>,
    threads: Vec<Party>,
    /// The vCPUs that a grace period of classic RCU waits for; none if none is in progress.
    grace: Vec<u32>,
}

/// What each vCPU does, which threads sleep, what they wait for, and who holds that.
pub fn describe(shared: &SharedRegion) -> String {
    Waits::read(shared).to_string()
}

impl Waits {
    fn read(shared: &SharedRegion) -> Self {
        let vcpus = (0..shared.cpus()).map(|number| {
            let area = shared.vcpu(number);
            Party {
                number,
                context: Context(area.context.load(Relaxed)),
                other: area.thread.load(Relaxed),
                asleep: false,
                holds: area.holds.iter().collect(),
            }
        });
        let threads = (0..).zip(shared.header().threads).map(|(number, words)| {
            let place = words.place.load(Relaxed);
            Party {
                number,
                context: Context(words.context.load(Relaxed)),
                other: place & !ThreadWords::ASLEEP,
                asleep: place & ThreadWords::ASLEEP != 0,
                holds: words.holds.iter().collect(),
            }
        });
        let says_something = |it: &Party| it.asleep || !it.holds.is_empty();
        Self {
            vcpus: vcpus.collect(),
            threads: threads.filter(says_something).collect(),
            grace: awaited(shared),
        }
    }

    fn vcpu(&self, vcpu: &Party) -> String {
        let (number, thread) = (vcpu.number, vcpu.other);
        let verb = self.verb(vcpu.context);
        let words = circumstances(vcpu, "spinlock");
        format!("vCPU {number} {verb}, in thread {thread}{words}")
    }

    /// Threads that sleep and wait for somebody, and how many others do.
    fn sleepers(&self) -> Vec<String> {
        let asleep = self.threads.iter().filter(|it| it.asleep);
        let (told, others): (Vec<_>, Vec<_>) =
            asleep.partition(|it| waits_for_somebody(it.context));
        let sentence = |it: &&Party| {
            let (number, vcpu) = (it.number, it.other);
            let words = circumstances(it, "sleeping lock");
            format!(
                "thread {number} of vCPU {vcpu} sleeps and {}{words}",
                self.verb(it.context)
            )
        };
        let left = told.len().saturating_sub(TOLD) + others.len();
        let mut sentences: Vec<_> = told.iter().take(TOLD).map(sentence).collect();
        if left > 0 {
            sentences.push(format!("{left} other threads sleep"));
        }
        sentences
    }

    /// What somebody does, with who holds what is waited for.
    fn verb(&self, context: Context) -> String {
        let (wait, object) = context.wait();
        match wait {
            Wait::None => "runs".to_owned(),
            Wait::Lock => {
                let holders = holders(&self.vcpus, object, |it| format!("vCPU {}", it.number));
                format!("waits for the spinlock {object:#x}, {holders}")
            }
            Wait::GracePeriod => format!("waits for grace period {object}"),
            Wait::Ipi => format!("waits for vCPU {object} to answer an interrupt"),
            // Not in the midst of what interrupted it.
            Wait::Interrupt if context.in_interrupt() => "runs".to_owned(),
            Wait::Interrupt => "is idle".to_owned(),
            Wait::Window => format!("waits for page {object:#x}, which the guest moves"),
            Wait::Mutex => {
                let holders = holders(&self.threads, object, thread);
                format!("waits for the mutex {object:#x}, {holders}")
            }
            Wait::Semaphore => {
                let holders = holders(&self.threads, object, thread);
                format!("waits for the read-write semaphore {object:#x}, {holders}")
            }
            Wait::SeqCount => format!("waits for a writer to leave the sequence count {object:#x}"),
            Wait::Thread => format!("waits for the end of thread {object}"),
            Wait::Queue => format!("waits in the queue {object:#x}"),
            Wait::Time => "sleeps until a time".to_owned(),
            Wait::Page => "waits for a page of which KVM said that it is away".to_owned(),
        }
    }
}

impl Display for Waits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let vcpus = self.vcpus.iter().map(|vcpu| self.vcpu(vcpu));
        let mut sentences: Vec<_> = vcpus.chain(self.sleepers()).collect();
        if !self.grace.is_empty() {
            let whom = self.grace.iter().map(|vcpu| format!("vCPU {vcpu}"));
            let whom = whom.collect::<Vec<_>>().join(" and ");
            sentences.push(format!("a grace period of classic RCU waits for {whom}"));
        }
        f.write_str(&sentences.join("; "))
    }
}

/// Whether it is another's doing that this sleep does not end.
fn waits_for_somebody(context: Context) -> bool {
    !matches!(context.wait().0, Wait::None | Wait::Queue | Wait::Time)
}

/// In what it is, beside its wait, and what it holds.
fn circumstances(party: &Party, lock: &str) -> String {
    let context = party.context;
    let held: Vec<_> = party.holds.iter().map(|it| format!("{it:#x}")).collect();
    let plural = if held.len() == 1 { "" } else { "s" };
    let parts = [
        (context.rcu_depth() > 0, "in a read section".to_owned()),
        (
            !held.is_empty(),
            format!("holds the {lock}{plural} {}", held.join(" and ")),
        ),
        (context.masked(), "interrupts masked".to_owned()),
        (context.in_bottom_half(), "in a bottom half".to_owned()),
        (
            context.in_interrupt() && !context.in_bottom_half(),
            "in an interrupt".to_owned(),
        ),
    ];
    let parts = parts.into_iter().filter(|(holds, _)| *holds);
    parts.map(|(_, what)| format!(", {what}")).collect()
}

/// Who of `parties` holds `lock`.
fn holders(parties: &[Party], lock: u32, name: impl Fn(&Party) -> String) -> String {
    let holds = parties.iter().filter(|it| it.holds.contains(&lock));
    let holders: Vec<_> = holds.map(name).collect();
    match &holders[..] {
        [] => "which nobody says to hold".to_owned(),
        [holder] => format!("which {holder} holds"),
        holders => format!("which {} hold", holders.join(" and ")),
    }
}

/// A thread as the holder of a lock.
fn thread(thread: &Party) -> String {
    format!("thread {} of vCPU {}", thread.number, thread.other)
}

/// The vCPUs that a grace period of classic RCU in progress still waits for.
fn awaited(shared: &SharedRegion) -> Vec<u32> {
    let header = shared.header();
    let number = header.grace_number.load(Acquire);
    let began = header.grace_cpus.load(Acquire);
    let is_awaited = |cpu: &u32| {
        let passed = shared.vcpu(*cpu).grace_passed.load(Acquire);
        began & 1 << cpu != 0 && passed != number
    };
    let in_progress = !number.is_multiple_of(2);
    let cpus = (0..shared.cpus()).filter(is_awaited);
    cpus.filter(|_| in_progress).collect()
}

#[cfg(test)]
mod tests;
