//! Who waits for whom, by the vCPUs' own words.

use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Context, Wait};
use underfoot_vmm::SharedRegion;

/// One line about every vCPU.
pub fn describe(shared: &SharedRegion) -> String {
    let vcpus = (0..shared.cpus()).map(|vcpu| {
        let context = Context(shared.vcpu(vcpu).context.load(Relaxed));
        format!("vCPU {vcpu} {}", sentence(context))
    });
    vcpus.collect::<Vec<_>>().join("; ")
}

fn sentence(context: Context) -> String {
    let (wait, object) = context.wait();
    let mut words = match wait {
        Wait::None => "runs".to_owned(),
        Wait::Lock => format!("waits for the spinlock {object:#x}"),
        Wait::GracePeriod => format!("waits for grace period {object}"),
        Wait::Ipi => format!("waits for vCPU {object} to answer an interrupt"),
        Wait::Interrupt => "is idle".to_owned(),
        Wait::Window => format!("waits for page {object:#x}, which the guest moves"),
        Wait::Mutex => format!("waits for the mutex {object:#x}"),
        Wait::SeqCount => format!("waits for a writer to leave the sequence count {object:#x}"),
        Wait::Semaphore => format!("waits for the read-write semaphore {object:#x}"),
    };
    for (holds, what) in [
        (context.rcu_depth() > 0, "in a read section".to_owned()),
        (
            context.locks() > 0,
            format!("with {} locks held", context.locks()),
        ),
        (context.masked(), "interrupts masked".to_owned()),
        (context.in_bottom_half(), "in a bottom half".to_owned()),
        (
            context.in_interrupt() && !context.in_bottom_half(),
            "in an interrupt".to_owned(),
        ),
    ] {
        if holds {
            words.push_str(", ");
            words.push_str(&what);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_told_in_words() {
        let holds = Context(Context::RCU_ONE + 2 * Context::LOCK_ONE + Context::MASKED);
        for (context, words) in [
            (Context(0), "runs"),
            (Context(0).with_wait(Wait::Interrupt, 0), "is idle"),
            (
                holds.with_wait(Wait::Ipi, 3),
                "waits for vCPU 3 to answer an interrupt, in a read section, with 2 locks held, interrupts masked",
            ),
            (
                Context(0).with_wait(Wait::Window, 0x4c),
                "waits for page 0x4c, which the guest moves",
            ),
            (
                Context(0).with_wait(Wait::Mutex, 0x2e),
                "waits for the mutex 0x2e",
            ),
            (
                Context(0).with_wait(Wait::Semaphore, 0x3d),
                "waits for the read-write semaphore 0x3d",
            ),
            (
                Context(Context::INTERRUPT).with_wait(Wait::Lock, 0x1f),
                "waits for the spinlock 0x1f, in an interrupt",
            ),
        ] {
            assert_eq!(sentence(context), words);
        }
    }
}
