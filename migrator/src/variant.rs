//! Deliberately wrong forms of the engine, each of which a checker must catch.

use std::fmt;

use crate::PAGE_SIZE;

/// The right form, or one that is busted on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The right form.
    #[default]
    None,
    /// Copies while the page is mapped and writable, then swaps: what the guest writes in between is
    /// lost. The guest's counters catch it.
    NoUnmap,
    /// Copies under a protection that it has taken off again. The guest's counters catch it.
    NoProtect,
    /// Commits a copy without comparing it. The guest's counters catch it.
    NoCompare,
    /// Gives whoever touches a page that is away a page of zeroes, as if it were a hole. The guest's
    /// check words catch it.
    ZeroFill,
    /// Writes a word into an old frame after commit. The check of limbo frames catches it.
    StaleFrame,
    /// Puts the old frame back and calls that a commit. The check of frame numbers catches it.
    SameFrame,
    /// Copies half of each page. The guest's check words catch it.
    TornCopy,
    /// Waits for a grace period of the guest before it maps the new frames
    /// ([`Builder::grace_periods`](crate::Builder::grace_periods)): a reader that meets the window holds that
    /// grace period up. The watchdog catches it.
    WindowWaitsGracePeriod,
    /// Waits for a frame of the pool before it maps the new ones: where old frames wait for a grace period of the
    /// guest ([`Builder::grace`](crate::Builder::grace)), a reader that meets the window holds it up. The watchdog
    /// catches it.
    WindowWaitsFrames,
    /// The end of an invalidation counts down wherever it overlaps, also where its start did not
    /// count: a consumer that registered in between has a counter of -1.
    InvalidateUnmatched,
    /// The same, but not below zero: another invalidation's count is taken away.
    InvalidateClamp,
    /// A fault looks at the counter and not at the sequence: it misses an invalidation that came and
    /// went while it looked the page up.
    InvalidateNoSequence,
    /// The fast path takes the pool's reserve. The pool's ledger catches it.
    FramesReserve,
    /// A frame of the pool is handed out twice. The pool's ledger catches it.
    FramesTwice,
    /// Who is refused by the fast path takes what is left without refilling. The pool's ledger catches it.
    FramesUnpaid,
    /// The fast path refills when frames are few. The pool's ledger catches it.
    FramesReclaims,
    /// A mover takes a frame, for which it would pay, while it holds its pages. The checker of lock orders catches
    /// it, in builds with the feature `lock-order`.
    FramesInWindow,
    /// Faults are served without a lock of their block, which is unplugged meanwhile. Whoever unplugs it catches it.
    FaultUnlocked,
    /// Windows are opened without a lock of their block. Whoever unplugs it catches it.
    WindowUnlocked,
}

impl Variant {
    /// Every variant, the right form first.
    pub const ALL: [Self; 20] = [
        Self::None,
        Self::NoUnmap,
        Self::NoProtect,
        Self::NoCompare,
        Self::ZeroFill,
        Self::StaleFrame,
        Self::SameFrame,
        Self::TornCopy,
        Self::WindowWaitsGracePeriod,
        Self::WindowWaitsFrames,
        Self::InvalidateUnmatched,
        Self::InvalidateClamp,
        Self::InvalidateNoSequence,
        Self::FramesReserve,
        Self::FramesTwice,
        Self::FramesUnpaid,
        Self::FramesReclaims,
        Self::FramesInWindow,
        Self::FaultUnlocked,
        Self::WindowUnlocked,
    ];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoUnmap => "busted-no-unmap",
            Self::NoProtect => "busted-no-protect",
            Self::NoCompare => "busted-no-compare",
            Self::ZeroFill => "busted-zero-fill",
            Self::StaleFrame => "busted-stale-frame",
            Self::SameFrame => "busted-same-frame",
            Self::TornCopy => "busted-torn-copy",
            Self::WindowWaitsGracePeriod => "busted-window-waits-grace-period",
            Self::WindowWaitsFrames => "busted-window-waits-frames",
            Self::InvalidateUnmatched => "busted-invalidate-unmatched",
            Self::InvalidateClamp => "busted-invalidate-clamp",
            Self::InvalidateNoSequence => "busted-invalidate-no-sequence",
            Self::FramesReserve => "busted-frames-reserve",
            Self::FramesTwice => "busted-frames-twice",
            Self::FramesUnpaid => "busted-frames-unpaid",
            Self::FramesReclaims => "busted-frames-reclaims",
            Self::FramesInWindow => "busted-frames-in-window",
            Self::FaultUnlocked => "busted-fault-unlocked",
            Self::WindowUnlocked => "busted-window-unlocked",
        }
    }

    /// Whether it is one of the pool of frames ([`Builder::frames`](crate::Builder::frames)).
    #[must_use]
    pub const fn is_of_frames(self) -> bool {
        matches!(
            self,
            Self::FramesReserve
                | Self::FramesTwice
                | Self::FramesUnpaid
                | Self::FramesReclaims
                | Self::FramesInWindow
                | Self::WindowWaitsFrames
        )
    }

    /// Bytes of each page that are copied.
    pub(crate) const fn copied_bytes(self) -> usize {
        match self {
            Self::TornCopy => PAGE_SIZE / 2,
            _ => PAGE_SIZE,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
