//! What a vCPU does that meets a window. Implemented by the embedder; named here so that the table
//! of sound combinations can speak of it.

use std::fmt;

/// What a vCPU does that meets a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WaitKind {
    /// KVM hands the fault to a worker and halts the vCPU, which still takes interrupts.
    #[default]
    Halt,
    /// The vCPU's thread sleeps in userfaultfd.
    Block,
    /// The vCPU's thread leaves the guest and spins until the window closes, for a bounded time;
    /// then it yields. Needs [`Builder::signal_faults`](crate::Builder::signal_faults).
    Spin,
    /// The vCPU's thread leaves the guest and yields its CPU until the window closes. Needs
    /// [`Builder::signal_faults`](crate::Builder::signal_faults).
    Yield,
    /// KVM tells the guest that the page is away, and interrupts it when it is there; the guest runs another thread
    /// meanwhile. As [`Halt`](Self::Halt) where the guest cannot be told or cannot run another.
    Async,
}

impl WaitKind {
    /// Every wait policy.
    pub const ALL: [Self; 5] = [
        Self::Halt,
        Self::Block,
        Self::Spin,
        Self::Yield,
        Self::Async,
    ];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Block => "block",
            Self::Spin => "spin",
            Self::Yield => "yield",
            Self::Async => "async",
        }
    }

    /// One line about it.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Halt => "the vCPU halts in KVM and still takes interrupts",
            Self::Block => "the vCPU's thread sleeps in userfaultfd",
            Self::Spin => "the vCPU's thread leaves the guest and spins until the window closes",
            Self::Yield => "the vCPU's thread leaves the guest and yields until the window closes",
            Self::Async => "the guest is told, and runs another thread until the page is there",
        }
    }

    /// Whether whoever meets a window must be told, instead of sleeping in the kernel:
    /// [`Builder::signal_faults`](crate::Builder::signal_faults).
    #[must_use]
    pub const fn signals(self) -> bool {
        matches!(self, Self::Spin | Self::Yield)
    }
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
