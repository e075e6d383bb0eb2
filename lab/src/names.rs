//! Every name that a user may write, as data: what `run` accepts, what `list` prints, what errors
//! suggest.

use crate::units::ValueError;
use underfoot_abi::{Cpl, PageKind, WorkloadId};
use underfoot_migrator::{Allocate, BackendKind, FaultLock, PageSize, StrategyKind, WaitKind};

/// A fixed set of things with names.
pub trait Named: Copy + PartialEq + 'static {
    /// What one of them is called in messages.
    const WHAT: &'static str;
    /// All of them, in the order in which lists show them.
    const ALL: &'static [Self];
    /// The name that users write and read.
    fn name(self) -> &'static str;
    /// What it is, in one line.
    fn about(self) -> &'static str;
}

/// The `T` called `text`.
///
/// # Errors
/// [`ValueError::UnknownName`] with the nearest name, or with all of them where none is near.
pub fn parse_name<T: Named>(text: &str) -> Result<T, ValueError> {
    let trimmed = text.trim();
    T::ALL
        .iter()
        .copied()
        .find(|candidate| candidate.name() == trimmed)
        .ok_or_else(|| ValueError::UnknownName {
            value: text.to_owned(),
            what: T::WHAT,
            hint: hint(trimmed, T::ALL.iter().map(|candidate| candidate.name())),
        })
}

/// Which of `names` was probably meant by `text`, as the end of an error message; all of them where
/// none is near.
#[must_use]
pub fn hint<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match nearest(text, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it is one of {}", names.join(", ")),
    }
}

/// The name nearest to `text`, or `None` where none is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Half of the letters may differ in a short name, a third in a long one.
    names
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| {
            let letters = name.chars().count();
            *distance < letters && distance * 3 <= letters + 3
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident, $what:literal:
     $($(#[$variant_doc:meta])* $variant:ident = $name:literal, $about:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_doc])* #[doc = $about] $variant,)+
        }

        impl Named for $type {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }
        }
    };
}

names! {
    /// How many committed migrations have their physical frame compared.
    Verify, "verification":
    Sample = "sample", "frame numbers of a sample of the pages are compared";
    Full = "full", "frame numbers of every page are compared";
}

names! {
    /// When old frames of the pool may be used again.
    FramesAfter, "end":
    Flush = "flush", "old frames of the pool are used again once they were unmapped with a flush";
    Grace = "grace", "and once a grace period of the guest has passed: its readers hold frames back";
}

names! {
    /// Who moves the guest's pages.
    Mover, "mover":
    Host = "host", "the engine, behind the guest's back";
    Guest = "guest", "the guest itself: it clears its own entries, and its fault handler spins";
}

names! {
    /// Deliberately wrong forms, each of which a checker must catch; and the right one.
    Variant, "variant":
    None = "none", "the right form";
    NoUnmap = "busted-no-unmap", "pages are copied while mapped: updates are lost";
    NoProtect = "busted-no-protect", "protect-copy takes its protection off again: updates are lost";
    NoCompare = "busted-no-compare", "transactional commits without comparing: updates are lost";
    ZeroFill = "busted-zero-fill", "lazy takes pages that are away for holes: the guest's check words speak";
    StaleFrame = "busted-stale-frame", "old frames are written after commit: the limbo check speaks";
    SameFrame = "busted-same-frame", "pages come back in their old frame: the frame check speaks";
    TornCopy = "busted-torn-copy", "half of each page is copied: the guest's check words speak";
    WindowWaitsGracePeriod = "busted-window-waits-grace-period", "a window waits for the guest's readers: the watchdog finds the deadlock";
    WindowWaitsFrames = "busted-window-waits-frames", "a window waits for old frames (--frames-after grace): the watchdog finds the deadlock";
    FramesReserve = "busted-frames-reserve", "the fast path takes the pool's reserve: the pool's ledger speaks";
    FramesTwice = "busted-frames-twice", "a frame of the pool is handed out twice: the pool's ledger speaks";
    FramesUnpaid = "busted-frames-unpaid", "who falls back refills nothing: the pool's ledger speaks";
    FramesReclaims = "busted-frames-reclaims", "the fast path refills the pool: the pool's ledger speaks";
    FaultUnlocked = "busted-fault-unlocked", "faults keep nobody from unplugging their block (--replug): whoever unplugs it finds them";
    WindowUnlocked = "busted-window-unlocked", "windows keep nobody from unplugging their block (--replug): whoever unplugs it finds them";
    MoverPanic = "busted-mover-panic", "a mover panics in a window: it is rolled back, the run ends";
    NoGracePeriod = "busted-no-grace-period", "the guest frees without a grace period: poison is seen";
    NoSeqcount = "busted-no-seqcount", "the guest's writers skip the sequence count: torn reads";
    NoLock = "busted-no-lock", "the guest's writers skip a lock: lost updates";
    RcuStall = "busted-rcu-stall", "a CPU never is quiescent: the RCU stall detector speaks";
    RcuClassicBusted = "busted-rcu-classic", "classic RCU waits for one CPU only: rcu-torture speaks";
    RcuPreemptBusted = "busted-rcu-preempt", "preemptible RCU forgets preempted readers: rcu-torture speaks";
    RcuSleepBusted = "busted-rcu-sleep", "sleepable RCU waits for no readers: rcu-torture speaks";
    LockOrder = "busted-lock-order", "reclaim inside a sequence count's write section: the lock-order checker speaks";
    Crash = "busted-crash", "the guest executes an invalid instruction: its panic ends the run";
    TripleFault = "busted-triple-fault", "the guest triple-faults: the VMM ends the run";
    Stuck = "busted-stuck", "a vCPU gets nowhere any more: the watchdog ends the run";
    SkipCpu = "busted-skip-cpu", "a CPU is left out of TLB shootdowns: it uses old translations";
    PlainLock = "busted-plain-lock", "the lock of page-table lists is taken with bottom halves open: it deadlocks";
    NoPendingCheck = "busted-no-pending-check", "page tables are reused before their grace period ends: freed twice";
    FreedListed = "busted-freed-listed", "pages of page tables are given back while they are listed";
    OwnerGone = "busted-owner-gone", "the list of page tables is freed with its space, before the callbacks";
    NoVmaLock = "busted-no-vma-lock", "faults and teardown do not lock the VMA: a table lands in a freed one";
    NoSequenceCheck = "busted-no-sequence-check", "speculative faults ignore the sequence count: a page lands in a freed table";
    DipsIntoReserve = "busted-dips-into-reserve", "fast-path allocations take the reserve: the allocator's checker speaks";
    ReclaimsUnderRcu = "busted-reclaims-under-rcu", "speculative faults may reclaim in their read section: the allocator's checker speaks";
    NeverPays = "busted-never-pays", "fast paths never make room: the starvation detector speaks";
    DropsUpdates = "busted-drops-updates", "reclaim forgets the updates that a page holds: the audit speaks";
    InvalidateUnmatched = "busted-invalidate-unmatched", "invalidations end where they did not start (dma): a counter at -1";
    InvalidateClamp = "busted-invalidate-clamp", "the same, not below zero (dma): stale translations lose updates";
    InvalidateNoSequence = "busted-invalidate-no-sequence", "the device's faults look at the counter alone (dma): updates are lost";
    CopyMapped = "busted-guest-copy-mapped", "the guest's mover copies while mapped: updates are lost";
    NoShootdown = "busted-guest-no-shootdown", "the guest's mover flushes no TLB: old frames are written";
    LostWake = "busted-async-lost-wake", "a page that is there before its thread sleeps wakes nobody (async): a vCPU gets stuck";
}

impl Variant {
    /// The guest's part of this variant.
    #[must_use]
    pub const fn guest(self) -> underfoot_abi::Variant {
        match self {
            Self::NoGracePeriod => underfoot_abi::Variant::NoGracePeriod,
            Self::NoSeqcount => underfoot_abi::Variant::NoSeqcount,
            Self::NoLock => underfoot_abi::Variant::NoLock,
            Self::RcuStall => underfoot_abi::Variant::RcuStall,
            Self::RcuClassicBusted => underfoot_abi::Variant::RcuClassicBusted,
            Self::RcuPreemptBusted => underfoot_abi::Variant::RcuPreemptBusted,
            Self::RcuSleepBusted => underfoot_abi::Variant::RcuSleepBusted,
            Self::LockOrder => underfoot_abi::Variant::LockOrder,
            Self::Crash => underfoot_abi::Variant::Crash,
            Self::TripleFault => underfoot_abi::Variant::TripleFault,
            Self::Stuck => underfoot_abi::Variant::Stuck,
            Self::SkipCpu => underfoot_abi::Variant::SkipCpu,
            Self::PlainLock => underfoot_abi::Variant::PlainLock,
            Self::NoPendingCheck => underfoot_abi::Variant::NoPendingCheck,
            Self::FreedListed => underfoot_abi::Variant::FreedListed,
            Self::OwnerGone => underfoot_abi::Variant::OwnerGone,
            Self::NoVmaLock => underfoot_abi::Variant::NoVmaLock,
            Self::NoSequenceCheck => underfoot_abi::Variant::NoSequenceCheck,
            Self::DipsIntoReserve => underfoot_abi::Variant::DipsIntoReserve,
            Self::ReclaimsUnderRcu => underfoot_abi::Variant::ReclaimsUnderRcu,
            Self::NeverPays => underfoot_abi::Variant::NeverPays,
            Self::DropsUpdates => underfoot_abi::Variant::DropsUpdates,
            Self::CopyMapped => underfoot_abi::Variant::CopyMapped,
            Self::NoShootdown => underfoot_abi::Variant::NoShootdown,
            Self::LostWake => underfoot_abi::Variant::LostWake,
            _ => underfoot_abi::Variant::None,
        }
    }

    /// Whose moves this variant makes wrong, if anybody's.
    #[must_use]
    pub const fn mover(self) -> Option<Mover> {
        match self {
            Self::MoverPanic | Self::LostWake => Some(Mover::Host),
            Self::CopyMapped | Self::NoShootdown => Some(Mover::Guest),
            _ if matches!(self.engine(), underfoot_migrator::Variant::None) => None,
            _ => Some(Mover::Host),
        }
    }

    /// Whether it is wrong only where blocks of guest memory come and go.
    #[must_use]
    pub const fn needs_replug(self) -> bool {
        matches!(self, Self::FaultUnlocked | Self::WindowUnlocked)
    }

    /// The engine's part of this variant. A mover that panics is not one: it is injected.
    #[must_use]
    pub const fn engine(self) -> underfoot_migrator::Variant {
        match self {
            Self::NoUnmap => underfoot_migrator::Variant::NoUnmap,
            Self::NoProtect => underfoot_migrator::Variant::NoProtect,
            Self::NoCompare => underfoot_migrator::Variant::NoCompare,
            Self::ZeroFill => underfoot_migrator::Variant::ZeroFill,
            Self::StaleFrame => underfoot_migrator::Variant::StaleFrame,
            Self::SameFrame => underfoot_migrator::Variant::SameFrame,
            Self::TornCopy => underfoot_migrator::Variant::TornCopy,
            Self::WindowWaitsGracePeriod => underfoot_migrator::Variant::WindowWaitsGracePeriod,
            Self::WindowWaitsFrames => underfoot_migrator::Variant::WindowWaitsFrames,
            Self::FramesReserve => underfoot_migrator::Variant::FramesReserve,
            Self::FramesTwice => underfoot_migrator::Variant::FramesTwice,
            Self::FramesUnpaid => underfoot_migrator::Variant::FramesUnpaid,
            Self::FramesReclaims => underfoot_migrator::Variant::FramesReclaims,
            Self::FaultUnlocked => underfoot_migrator::Variant::FaultUnlocked,
            Self::WindowUnlocked => underfoot_migrator::Variant::WindowUnlocked,
            Self::InvalidateUnmatched => underfoot_migrator::Variant::InvalidateUnmatched,
            Self::InvalidateClamp => underfoot_migrator::Variant::InvalidateClamp,
            Self::InvalidateNoSequence => underfoot_migrator::Variant::InvalidateNoSequence,
            _ => underfoot_migrator::Variant::None,
        }
    }
}

names! {
    /// Threads that can be placed and scheduled.
    Role, "role":
    Vcpu = "vcpu", "the vCPU threads";
    Mover = "mover", "the threads that move pages";
    Antagonist = "antagonist", "the threads that take CPU time on purpose (--antagonists)";
}

macro_rules! named_by_the_engine {
    ($($type:ty, $what:literal;)+) => {$(
        impl Named for $type {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                Self::name(self)
            }

            fn about(self) -> &'static str {
                Self::about(self)
            }
        }
    )+};
}

named_by_the_engine! {
    StrategyKind, "strategy";
    BackendKind, "backend";
    Allocate, "time to allocate";
    FaultLock, "lock of faults";
    PageSize, "page size";
    WaitKind, "wait policy";
}

/// The backend called `text`, or `None` for `auto`: the one that suits the strategy.
///
/// # Errors
/// As [`parse_name`].
pub fn parse_backend(text: &str) -> Result<Option<BackendKind>, ValueError> {
    if text.trim() == "auto" {
        return Ok(None);
    }
    parse_name(text).map(Some)
}

impl Named for WorkloadId {
    const WHAT: &'static str = "workload";
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    fn about(self) -> &'static str {
        self.about()
    }
}

impl Named for Cpl {
    const WHAT: &'static str = "privilege level";
    const ALL: &'static [Self] = &[Self::Auto, Self::Zero, Self::Three];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Zero => "0",
            Self::Three => "3",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Auto => "ring 0 where it is native, else ring 3",
            Self::Zero => "the kernel runs in ring 0",
            Self::Three => "the kernel runs in ring 3, with a trap layer in ring 0",
        }
    }
}

impl Named for PageKind {
    const WHAT: &'static str = "page kind";
    const ALL: &'static [Self] = &Self::TARGETS;

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn about(self) -> &'static str {
        match self {
            Self::Reserved => "never migrated",
            Self::Text => "kernel code, that of the trap layer too",
            Self::Rodata => "constants",
            Self::Data => "static data",
            Self::Stack => "kernel stacks",
            Self::Slab => "slab objects",
            Self::PageTable => "page tables",
            Self::PerCpu => "per-CPU data, the trap layer's too",
            Self::Descriptor => "GDT, IDT and TSS",
            Self::Free => "free pages",
            Self::Large => "a region mapped by 2 MiB entries",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::proptest;

    fn names_are_unique_and_parse<T: Named + std::fmt::Debug>() {
        for &item in T::ALL {
            assert_eq!(parse_name::<T>(item.name()).as_ref(), Ok(&item));
            assert!(!item.about().is_empty());
        }
    }

    #[test]
    fn every_name_parses_to_itself() {
        names_are_unique_and_parse::<StrategyKind>();
        names_are_unique_and_parse::<BackendKind>();
        names_are_unique_and_parse::<WaitKind>();
        names_are_unique_and_parse::<PageSize>();
        names_are_unique_and_parse::<FaultLock>();
        names_are_unique_and_parse::<Verify>();
        names_are_unique_and_parse::<Variant>();
        names_are_unique_and_parse::<Mover>();
        names_are_unique_and_parse::<Role>();
        names_are_unique_and_parse::<WorkloadId>();
        names_are_unique_and_parse::<Cpl>();
        names_are_unique_and_parse::<PageKind>();
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let message = |error: ValueError| error.to_string();
        let wlak = parse_name::<WorkloadId>("wlak").expect_err("a typo");
        assert_eq!(
            message(wlak),
            "`wlak` is not a workload: did you mean `walk`?"
        );
        let slb = parse_name::<PageKind>("slb").expect_err("a typo");
        assert!(message(slb).contains("`slab`"));
        let nnoe = parse_name::<StrategyKind>("nnoe").expect_err("a typo");
        assert!(message(nnoe).contains("`none`"));
        let far = parse_name::<StrategyKind>("telepathy").expect_err("no such thing");
        assert!(message(far).contains("it is one of none, unmap-copy, stop-world"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse_name::<PageKind>(&text);
        }
    }
}
