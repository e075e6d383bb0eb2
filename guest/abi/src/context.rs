//! The context word: what a vCPU is in the middle of, readable by the host at any moment.

/// What a vCPU waits for, as it says so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wait {
    /// Nothing.
    None = 0,
    /// A spinlock; the word's object is the lock's identity.
    Lock = 1,
    /// A grace period; the object is the low half of its number.
    GracePeriod = 2,
    /// Acknowledgements of an inter-processor interrupt; the object is the target CPU.
    Ipi = 3,
    /// An interrupt (idle).
    Interrupt = 4,
    /// A page that the guest's own mover has in flight; the object is the page's number.
    Window = 5,
    /// A sleeping mutex; the object is its identity, as a spinlock's.
    Mutex = 6,
    /// A read-write semaphore; the object is its identity, as a spinlock's.
    Semaphore = 7,
    /// An even sequence count; the object is the low half of its address.
    SeqCount = 8,
    /// A thread's end; the object is its number.
    Thread = 9,
    /// To be woken in a wait queue; the object is its identity, as a spinlock's.
    Queue = 10,
    /// A time.
    Time = 11,
    /// A page of which KVM said that it is away.
    Page = 12,
}

impl Wait {
    /// All of them, by discriminant.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::Lock,
        Self::GracePeriod,
        Self::Ipi,
        Self::Interrupt,
        Self::Window,
        Self::Mutex,
        Self::Semaphore,
        Self::SeqCount,
        Self::Thread,
        Self::Queue,
        Self::Time,
        Self::Page,
    ];
}

/// One word per vCPU, written by that vCPU alone.
///
/// Bits 0..8 read-section depth, 8..16 locks held, 16 interrupts masked, 17 in an interrupt,
/// 18 in a bottom half, 19 to 22 in a [`StallRecord`](crate::StallRecord) alone, 24..32 [`Wait`], 32..64 the object waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context(pub u64);

impl Context {
    /// One read section.
    pub const RCU_ONE: u64 = 1;
    /// One lock held.
    pub const LOCK_ONE: u64 = 1 << 8;
    /// Interrupts are masked.
    pub const MASKED: u64 = 1 << 16;
    /// In an interrupt handler.
    pub const INTERRUPT: u64 = 1 << 17;
    /// In a bottom half, not in an interrupt on top of it.
    pub const BOTTOM_HALF: u64 = 1 << 18;
    /// In the record of a stall: its thread slept until KVM said that the page is there.
    pub const SWITCHED: u64 = 1 << 19;
    /// In the record of a stall: KVM said that the page is away, and halted the vCPU, which could not sleep.
    pub const HALTED: u64 = 1 << 20;
    /// In the record of a stall: KVM said that the page is there before its thread slept.
    pub const EARLY: u64 = 1 << 21;
    /// In the record of a stall: it was in the moving phase, not in the control.
    pub const MOVING: u64 = 1 << 22;
    /// Where [`Wait`] and its object lie.
    pub const WAIT_MASK: u64 = 0xffff_ffff_ff00_0000;

    /// Depth of RCU read sections.
    #[must_use]
    pub const fn rcu_depth(self) -> u8 {
        self.0 as u8
    }

    /// Locks held.
    #[must_use]
    pub const fn locks(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Interrupts masked, in software or by the flag.
    #[must_use]
    pub const fn masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }

    /// In an interrupt handler.
    #[must_use]
    pub const fn in_interrupt(self) -> bool {
        self.0 & Self::INTERRUPT != 0
    }

    /// In a bottom half, not in an interrupt on top of it.
    #[must_use]
    pub const fn in_bottom_half(self) -> bool {
        self.0 & Self::BOTTOM_HALF != 0
    }

    /// What it waits for, and the object.
    #[must_use]
    pub const fn wait(self) -> (Wait, u32) {
        let number = (self.0 >> 24) as u8 as usize;
        // What the guest wrote may be no number of these.
        let wait = if number < Wait::ALL.len() {
            Wait::ALL[number]
        } else {
            Wait::None
        };
        (wait, (self.0 >> 32) as u32)
    }

    /// The same word, waiting for `object`.
    #[must_use]
    pub const fn with_wait(self, wait: Wait, object: u32) -> Self {
        Self((self.0 & !Self::WAIT_MASK) | (wait as u64) << 24 | (object as u64) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let word = Context(2 * Context::RCU_ONE + 3 * Context::LOCK_ONE + Context::MASKED)
            .with_wait(Wait::Ipi, 7);
        assert_eq!((word.rcu_depth(), word.locks()), (2, 3));
        assert!(word.masked() && !word.in_interrupt() && !word.in_bottom_half());
        assert!(Context(word.0 + Context::BOTTOM_HALF).in_bottom_half());
        assert_eq!(word.wait(), (Wait::Ipi, 7));
        for (number, wait) in Wait::ALL.into_iter().enumerate() {
            assert_eq!(wait as usize, number);
            assert_eq!(word.with_wait(wait, 9).wait(), (wait, 9));
        }
        assert_eq!(Context(u64::MAX).wait(), (Wait::None, u32::MAX));
        assert_eq!(word.with_wait(Wait::None, 0).wait(), (Wait::None, 0));
    }
}
