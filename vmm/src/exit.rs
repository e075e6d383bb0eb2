//! Why a vCPU stopped for good, told so that a person can act on it.

use kvm_bindings::{kvm_regs, kvm_sregs};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Why a vCPU will not run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest wrote a status to its exit port: 0 is done and sound.
    Finished {
        /// What it wrote.
        status: u32,
    },
    /// A fault while delivering a double fault.
    TripleFault,
    /// The processor refused to enter the guest.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// KVM gave up, most often on an instruction that it cannot emulate.
    InternalError {
        /// KVM_INTERNAL_ERROR_…: 1 is emulation.
        suberror: u32,
    },
    /// An access where there is neither RAM nor a device.
    Mmio {
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        len: usize,
        /// A write, not a read.
        write: bool,
    },
    /// KVM itself had to reach a page of RAM on the guest's behalf, and could not: it was in its
    /// window, on a userfaultfd that answers with a signal.
    Unreachable {
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        len: usize,
        /// A write, not a read.
        write: bool,
    },
    /// KVM could not reach guest memory, and the wait policy does not expect that.
    Fault,
    /// KVM_RUN failed.
    RunFailed {
        /// The system's error number.
        errno: i32,
    },
    /// An exit that this VMM has no use for.
    Unsupported {
        /// Its name.
        what: String,
    },
    /// The vCPU's thread panicked.
    ThreadDied {
        /// The panic's message.
        message: String,
    },
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { status: 0 } => write!(f, "finished, sound"),
            Self::Finished { status } => write!(f, "finished with status {status}"),
            Self::TripleFault => write!(f, "triple fault of the guest"),
            Self::FailEntry { reason } => {
                write!(
                    f,
                    "the processor refused to enter the guest (reason {reason:#x})"
                )
            }
            Self::InternalError { suberror: 1 } => {
                write!(f, "KVM met an instruction that it cannot emulate")
            }
            Self::InternalError { suberror } => write!(f, "KVM internal error {suberror}"),
            Self::Mmio { gpa, len, write } => {
                let verb = if *write { "wrote" } else { "read" };
                write!(
                    f,
                    "{verb} {len} bytes at {gpa:#x}, where there is neither RAM nor a device"
                )
            }
            Self::Unreachable { gpa, len, write } => {
                let verb = if *write { "write" } else { "read" };
                write!(
                    f,
                    "KVM could not {verb} {len} bytes of RAM at {gpa:#x} for the guest: such a page must wait on a userfaultfd that blocks"
                )
            }
            Self::Fault => write!(f, "KVM could not reach guest memory (EFAULT)"),
            Self::RunFailed { errno } => {
                write!(
                    f,
                    "KVM_RUN failed: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
            Self::Unsupported { what } => write!(f, "unexpected exit {what}"),
            Self::ThreadDied { message } => write!(f, "its thread panicked: {message}"),
        }
    }
}

/// All of a vCPU's integer registers, general and special.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registers {
    /// KVM_GET_REGS.
    pub general: kvm_regs,
    /// KVM_GET_SREGS.
    pub special: kvm_sregs,
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (g, s) = (&self.general, &self.special);
        for row in [
            [
                ("rip", g.rip),
                ("rsp", g.rsp),
                ("rflags", g.rflags),
                ("cr2", s.cr2),
            ],
            [
                ("rax", g.rax),
                ("rbx", g.rbx),
                ("rcx", g.rcx),
                ("rdx", g.rdx),
            ],
            [("rsi", g.rsi), ("rdi", g.rdi), ("rbp", g.rbp), ("r8", g.r8)],
            [("r9", g.r9), ("r10", g.r10), ("r11", g.r11), ("r12", g.r12)],
            [
                ("r13", g.r13),
                ("r14", g.r14),
                ("r15", g.r15),
                ("cr0", s.cr0),
            ],
            [
                ("cr3", s.cr3),
                ("cr4", s.cr4),
                ("efer", s.efer),
                ("apic", s.apic_base),
            ],
            [
                ("gdt", s.gdt.base),
                ("idt", s.idt.base),
                ("tr", s.tr.base),
                ("ldt", s.ldt.base),
            ],
            [
                ("fs", s.fs.base),
                ("gs", s.gs.base),
                ("gdtlim", s.gdt.limit.into()),
                ("idtlim", s.idt.limit.into()),
            ],
        ] {
            let cells: Vec<String> = row
                .iter()
                .map(|(name, value)| format!("{name:<6} {value:016x}"))
                .collect();
            writeln!(f, "{}", cells.join("  "))?;
        }
        let selectors = [("cs", &s.cs), ("ss", &s.ss), ("ds", &s.ds), ("tr", &s.tr)];
        let cells: Vec<String> = selectors
            .iter()
            .map(|(name, seg)| {
                format!("{name} {:04x} (dpl {}, l {})", seg.selector, seg.dpl, seg.l)
            })
            .collect();
        write!(f, "{}", cells.join("  "))
    }
}

/// One vCPU's end. `Display` is one line; the registers are printed on their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitReport {
    /// Which vCPU.
    pub vcpu: u32,
    /// Why.
    pub reason: ExitReason,
    /// Its registers at that moment; `None` when KVM would not give them.
    pub registers: Option<Box<Registers>>,
}

impl ExitReport {
    /// Whether the guest came to its own end and found itself sound.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self.reason, ExitReason::Finished { status: 0 })
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}: {}", self.vcpu, self.reason)?;
        match (&self.reason, &self.registers) {
            (ExitReason::Finished { .. }, _) | (_, None) => Ok(()),
            (_, Some(registers)) => {
                let (general, special) = (&registers.general, &registers.special);
                write!(
                    f,
                    " at rip {:#x}, rsp {:#x}, cr2 {:#x}",
                    general.rip, general.rsp, special.cr2
                )
            }
        }
    }
}

/// Reports on their way from the vCPU threads to the event loop.
#[derive(Debug)]
pub(crate) struct ExitQueue {
    reports: Mutex<Vec<ExitReport>>,
    ready: EventFd,
}

impl ExitQueue {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            reports: Mutex::default(),
            ready: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        })
    }

    /// Adds a report, then wakes the event loop.
    pub(crate) fn push(&self, report: ExitReport) {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
        // Fails only when the counter is at its end, and then the loop has its wake-up already.
        let _ = self.ready.write(1);
    }

    /// Takes every report so far, oldest first.
    pub(crate) fn take(&self) -> Vec<ExitReport> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn ready(&self) -> &EventFd {
        &self.ready
    }
}
