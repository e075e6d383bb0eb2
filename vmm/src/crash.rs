//! The exception that ended the guest, in words.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The trap that the guest did not expect, as it published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The exception's vector.
    pub vector: u64,
    /// Its error code; 0 where it has none.
    pub error: u64,
    /// Where it was raised.
    pub rip: u64,
    /// The stack pointer there.
    pub rsp: u64,
    /// The address of the last page fault.
    pub cr2: u64,
    /// The guest's number of the CPU.
    pub cpu: u64,
}

impl Crash {
    /// What the guest's header holds; `None` when the guest met no such trap. The guest must have
    /// published that it failed.
    pub(crate) fn read(words: &[AtomicU64; 6]) -> Option<Self> {
        let [vector, error, rip, rsp, cr2, cpu] =
            words.each_ref().map(|word| word.load(Ordering::Relaxed));
        // No code of ours lies at 0, and nobody traps without a stack.
        (rip != 0 || rsp != 0).then_some(Self {
            vector,
            error,
            rip,
            rsp,
            cr2,
            cpu,
        })
    }
}

/// What the vendors' manuals call an exception (Intel SDM 3A, table 6-1).
const fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack-segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        _ => "unexpected interrupt",
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (vector {}, error code {:#x}) on the guest's CPU {} at rip {:#x}, rsp {:#x}, cr2 {:#x}",
            name(self.vector),
            self.vector,
            self.error,
            self.cpu,
            self.rip,
            self.rsp,
            self.cr2
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_is_named_and_no_trap_is_none() {
        let words = |words: [u64; 6]| words.map(AtomicU64::new);
        assert_eq!(Crash::read(&words([0; 6])), None);
        let crash = Crash::read(&words([14, 2, 0x20_0000, 0x30_0000, 0xdead, 1]));
        assert_eq!(
            crash.expect("a trap").to_string(),
            "page fault (vector 14, error code 0x2) on the guest's CPU 1 at rip 0x200000, \
             rsp 0x300000, cr2 0xdead"
        );
        assert_eq!(name(200), "unexpected interrupt");
    }
}
