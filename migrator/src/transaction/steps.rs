//! The steps of a migration, and the way back.

use std::time::Duration;

use super::{Fatal, Transaction};
use crate::backend::Source;
use crate::uffd::{Transfer, is_transient};
use crate::{AbortReason, PAGE_SIZE, Phase, Variant, clock};

/// Tries of a call that the kernel asks to repeat.
pub(super) const TRIES: u32 = 16;
/// Tries of the calls that give the guest its pages back: without them guest memory is lost.
pub(super) const TRIES_BACK: u32 = 1 << 16;

/// Between a copy that is not guarded and what unmaps, in the busted variants: long enough for a vCPU to
/// write, whatever else the host does.
pub(super) const BUSTED_GAP: Duration = Duration::from_micros(20);

impl Transaction<'_> {
    /// Write-protects what the migration reaches; false if that is refused, or all is given up.
    pub(super) fn protect(&mut self) -> bool {
        if self.abort.is_some() {
            return false;
        }
        let (lane, hva) = (self.claim.lane, self.claim.hva);
        let mut tries = 1;
        // Before the call: one that fails may have protected some.
        self.protected = true;
        self.times.protect = clock::now();
        let errno = loop {
            let errno = self.tools.backend.protect(lane, hva, self.reach);
            if !is_transient(errno) || tries == TRIES {
                break errno;
            }
            tries += 1;
            self.retried += 1;
        };
        self.times.protected = clock::now();
        if errno == 0 {
            self.phase = Phase::Protected;
        } else {
            self.give_up(AbortReason::Errno(errno));
        }
        errno == 0
    }

    /// Takes the protection off what was not taken out: other frames never had it, or lost it on
    /// the way.
    pub(super) fn unprotect(&mut self) {
        if std::mem::take(&mut self.protected) && self.out < self.reach {
            self.unprotect_rest();
        }
    }

    fn unprotect_rest(&mut self) {
        let hva = self.claim.hva + self.out as usize * PAGE_SIZE;
        let left = self.reach - self.out;
        for _ in 0..TRIES_BACK {
            match self.tools.backend.unprotect(self.claim.lane, hva, left) {
                0 => return,
                errno if is_transient(errno) => std::thread::yield_now(),
                errno => return self.stays_protected(errno),
            }
        }
        self.stays_protected(libc::EAGAIN);
    }

    #[cold]
    fn stays_protected(&mut self, errno: i32) {
        let range = self.range(self.out, self.reach - self.out);
        self.lost.get_or_insert(Fatal::Protected { range, errno });
        self.abort.get_or_insert(AbortReason::Errno(errno));
    }

    /// Takes the old frames out; false if none could be, or all is given up.
    pub(super) fn unmap(&mut self) -> bool {
        if self.abort.is_some() {
            return false;
        }
        let (hva, pages) = (self.claim.hva, self.reach);
        let mut tries = 1;
        let taken = loop {
            self.times.window = clock::now();
            let taken = self.tools.backend.unmap(hva, pages);
            self.times.unmapped = clock::now();
            if taken.done > 0 || !is_transient(taken.errno) || tries == TRIES {
                break taken;
            }
            tries += 1;
            self.retried += 1;
        };
        self.out = pages_done(taken);
        match taken.errno {
            0 => {}
            libc::ENOENT => self.hole = true,
            errno if self.out == 0 => {
                self.tried = 1;
                self.abort = Some(AbortReason::Errno(errno));
            }
            // Some went: those are migrated, and the page after them is looked at later.
            _ => {}
        }
        if self.out > 0 {
            self.phase = Phase::Unmapped;
        } else {
            // Nothing was away: there was no window to report.
            (self.times.window, self.times.unmapped) = (0, 0);
        }
        self.out > 0
    }

    /// Copies what was taken out; false if nothing is out any more.
    pub(super) fn copy_unmapped(&mut self) -> bool {
        if self.tools.variant == Variant::NoUnmap && !self.bust_unmap() {
            return false;
        }
        if self.tools.variant != Variant::NoUnmap {
            self.copy(Source::Limbo, self.out);
        }
        self.times.copied = clock::now();
        self.phase = Phase::Copied;
        true
    }

    /// Copies into the new frames.
    pub(super) fn copy(&mut self, source: Source, pages: u32) {
        let bytes = self.tools.variant.copied_bytes();
        self.tools.backend.copy(source, pages, bytes);
        if matches!(self.tools.variant, Variant::NoProtect | Variant::NoCompare) {
            std::thread::sleep(BUSTED_GAP);
        }
        self.times.copied = clock::now();
        self.phase = Phase::Copied;
    }

    /// Whether the new frames hold what is at `source`, which nobody can write.
    pub(super) fn is_copied(&mut self, source: Source, pages: u32) -> bool {
        let equal =
            self.tools.variant == Variant::NoCompare || self.tools.backend.is_copied(source, pages);
        self.times.copied = clock::now();
        equal
    }

    /// Maps the new frames of what was taken out, unless all is given up.
    pub(super) fn map(&mut self) {
        if self.tools.variant == Variant::WindowWaitsGracePeriod && !self.await_readers() {
            return;
        }
        if self.tools.variant == Variant::WindowWaitsFrames && !self.await_frame() {
            return;
        }
        if self.tools.variant == Variant::SameFrame {
            self.forge();
        } else {
            self.map_new();
        }
        self.times.mapped = clock::now();
    }

    fn map_new(&mut self) {
        let mut tries = 1;
        while self.mapped < self.out {
            let given = self.tools.backend.map(
                self.claim.lane,
                self.claim.hva,
                self.mapped,
                self.out - self.mapped,
            );
            self.mapped += pages_done(given);
            if given.errno == 0 {
                continue;
            }
            if !is_transient(given.errno) || tries == TRIES {
                self.abort = Some(AbortReason::Errno(given.errno));
                return;
            }
            tries += 1;
            self.retried += 1;
        }
    }

    /// Maps the pages again, copies them as the guest may write them, and unmaps them again.
    #[cold]
    fn bust_unmap(&mut self) -> bool {
        let out = self.out;
        self.restore();
        if self.lost.is_some() {
            return false;
        }
        (self.out, self.restored) = (0, 0);
        self.hole = false;
        let source = Source::Mapped(self.claim.hva);
        self.tools.backend.copy(source, out, PAGE_SIZE);
        std::thread::sleep(BUSTED_GAP);
        let taken = self.tools.backend.unmap(self.claim.hva, out);
        self.out = pages_done(taken);
        if self.out == 0 {
            self.tried = 1;
            self.abort = Some(AbortReason::Errno(taken.errno));
        }
        self.out > 0
    }

    /// Puts the old frames back and takes that for a commit.
    #[cold]
    fn forge(&mut self) {
        self.restore();
        if self.lost.is_none() {
            self.forged = true;
            (self.mapped, self.restored) = (self.out, 0);
        }
    }

    /// Puts back the old frames of what has no new one.
    pub(super) fn restore(&mut self) {
        if self.away.is_some() {
            self.call_back();
        } else if self.present() < self.out {
            self.put_back();
        }
    }

    #[cold]
    fn put_back(&mut self) {
        let mut tries = 1;
        // Once it failed, old frames are where they are.
        while self.present() < self.out && self.lost.is_none() {
            let (back, left) = (self.present(), self.out - self.present());
            let given = self
                .tools
                .backend
                .put_back(self.claim.lane, self.claim.hva, back, left);
            self.restored += pages_done(given);
            if given.errno == 0 {
                continue;
            }
            if !is_transient(given.errno) || tries == TRIES_BACK {
                self.lost = Some(Fatal::Lost {
                    range: self.range(self.present(), self.lost_pages()),
                    errno: given.errno,
                });
                self.abort.get_or_insert(AbortReason::Errno(given.errno));
            }
            tries += 1;
            std::thread::yield_now();
        }
        self.times.mapped = clock::now();
    }
}

fn pages_done(transfer: Transfer) -> u32 {
    (transfer.done / PAGE_SIZE) as u32
}
