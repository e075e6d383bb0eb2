use super::*;
use underfoot_vmm::{Backing, GuestRam, MemorySize};
use vm_memory::{Bytes, GuestAddress};

fn party(number: u32, wait: Wait, object: u32, other: u32, holds: &[u32]) -> Party {
    Party {
        number,
        context: Context(0).with_wait(wait, object),
        other,
        asleep: true,
        holds: holds.to_vec(),
    }
}

#[test]
fn a_context_is_told_in_words() {
    let sections = Context(Context::RCU_ONE + 2 * Context::LOCK_ONE + Context::MASKED);
    for (context, holds, words) in [
        (Context(0), &[][..], "vCPU 0 runs, in thread 64"),
        (
            Context(0).with_wait(Wait::Interrupt, 0),
            &[],
            "vCPU 0 is idle, in thread 64",
        ),
        (
            Context(Context::INTERRUPT).with_wait(Wait::Interrupt, 0),
            &[],
            "vCPU 0 runs, in thread 64, in an interrupt",
        ),
        (
            sections.with_wait(Wait::Ipi, 3),
            &[0x1f, 0x2e],
            "vCPU 0 waits for vCPU 3 to answer an interrupt, in thread 64, in a read section, \
             holds the spinlocks 0x1f and 0x2e, interrupts masked",
        ),
        (
            Context(0).with_wait(Wait::Window, 0x4c),
            &[],
            "vCPU 0 waits for page 0x4c, which the guest moves, in thread 64",
        ),
        (
            Context(Context::INTERRUPT).with_wait(Wait::Lock, 0x1f),
            &[],
            "vCPU 0 waits for the spinlock 0x1f, which nobody says to hold, in thread 64, in an interrupt",
        ),
        (
            Context(Context::INTERRUPT | Context::BOTTOM_HALF).with_wait(Wait::Lock, 0x1f),
            &[0x1f],
            "vCPU 0 waits for the spinlock 0x1f, which vCPU 0 holds, in thread 64, \
             holds the spinlock 0x1f, in a bottom half",
        ),
    ] {
        let waits = Waits {
            vcpus: vec![Party {
                context,
                other: 64,
                holds: holds.to_vec(),
                ..Party::default()
            }],
            ..Waits::default()
        };
        assert_eq!(waits.to_string(), words);
    }
}

#[test]
fn waiters_are_told_with_the_holders() {
    let waits = Waits {
        vcpus: vec![
            party(0, Wait::Lock, 0x1f, 65, &[]),
            party(1, Wait::None, 0, 66, &[0x1f]),
            party(2, Wait::Interrupt, 0, 68, &[]),
        ],
        threads: vec![
            party(0, Wait::Thread, 65, 0, &[]),
            party(1, Wait::None, 0, 1, &[]),
            Party {
                number: 66,
                other: 1,
                holds: vec![0x2e, 0x3d],
                ..Party::default()
            },
            party(70, Wait::Mutex, 0x2e, 0, &[0x3d]),
            party(71, Wait::Semaphore, 0x3d, 2, &[]),
            party(72, Wait::Queue, 0x4c, 2, &[]),
            party(73, Wait::Time, 0, 2, &[]),
        ],
        grace: vec![1, 2],
    };
    assert_eq!(
        waits.to_string().split("; ").collect::<Vec<_>>(),
        [
            "vCPU 0 waits for the spinlock 0x1f, which vCPU 1 holds, in thread 65",
            "vCPU 1 runs, in thread 66, holds the spinlock 0x1f",
            "vCPU 2 is idle, in thread 68",
            "thread 0 of vCPU 0 sleeps and waits for the end of thread 65",
            "thread 70 of vCPU 0 sleeps and waits for the mutex 0x2e, which thread 66 of vCPU 1 holds, \
             holds the sleeping lock 0x3d",
            "thread 71 of vCPU 2 sleeps and waits for the read-write semaphore 0x3d, \
             which thread 66 of vCPU 1 and thread 70 of vCPU 0 hold",
            "3 other threads sleep",
            "a grace period of classic RCU waits for vCPU 1 and vCPU 2",
        ]
    );
}

/// Each of them waits for somebody, more than are told.
#[test]
fn of_many_sleepers_the_first_are_told() {
    let sleeper = |number| party(number, Wait::GracePeriod, 7, 0, &[]);
    let waits = Waits {
        threads: (0..512).map(sleeper).collect(),
        ..Waits::default()
    };
    let text = waits.to_string();
    assert_eq!(
        text.matches("sleeps and waits for grace period 7").count(),
        TOLD
    );
    assert!(text.ends_with("; 504 other threads sleep"), "{text}");
}

/// Ones all over: numbers and counts beyond everything.
#[test]
fn a_guest_that_scribbles_is_told_in_bounds() {
    let size = MemorySize::new(16 << 20, 16 << 20).unwrap();
    let ram = GuestRam::new(size, 2, Backing::Small).unwrap();
    let shared = SharedRegion::new(&ram);
    let text = describe(&shared);
    assert!(
        text.starts_with("vCPU 0 runs, in thread 0; vCPU 1 runs"),
        "{text}"
    );
    let ones = vec![0xff; shared.size()];
    let memory = ram.memory();
    memory
        .write_slice(&ones, GuestAddress(shared.gpa()))
        .unwrap();
    let text = describe(&shared);
    assert!(text.contains("512 other threads sleep"), "{text}");
    assert!(text.len() < 2_000, "{text}");
}
