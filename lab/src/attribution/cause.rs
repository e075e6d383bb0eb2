//! What can take a guest's time.

/// A cause, in the order of precedence: what two of them explain is the earlier one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The vCPU's thread wanted a CPU and had none.
    VcpuPreempted,
    /// A page of the access was in its window.
    Window,
    /// The vCPU slept because of such a window, and was not yet back after it had closed.
    WindowWake,
    /// The vCPU's thread slept in the host, and no window of the access tells why.
    HostSleep,
    /// The guest took an interrupt.
    Interrupt,
    /// Fault work without a window: a page of the access was moved since it was touched last.
    Stage2,
    /// No source says anything.
    Unexplained,
}

impl Cause {
    /// All of them, in the order of precedence and of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::VcpuPreempted,
        Self::Window,
        Self::WindowWake,
        Self::HostSleep,
        Self::Interrupt,
        Self::Stage2,
        Self::Unexplained,
    ];

    /// Those that windows explain: what the placebo tries.
    pub const OF_WINDOWS: [Self; 3] = [Self::Window, Self::WindowWake, Self::Stage2];

    /// The name in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VcpuPreempted => "vcpu-preempted",
            Self::Window => "window",
            Self::WindowWake => "window-wake",
            Self::HostSleep => "host-sleep",
            Self::Interrupt => "interrupt",
            Self::Stage2 => "stage2",
            Self::Unexplained => "unexplained",
        }
    }
}
