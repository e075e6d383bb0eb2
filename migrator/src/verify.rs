//! Proof that a migration changed the physical frame.

use std::io;

use crate::backend::Backend;
use crate::pagemap::{Entry, Pagemap};
use crate::{Class, PAGE_SIZE};

/// How much is checked: frame numbers before and after a move, and old frames for writes after
/// commit, when they leave limbo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Frame numbers: the first [`Verify::FIRST`] pages of each class, and then one window in
    /// [`Verify::ONE_IN`]. Old frames: all, up to batches of [`Verify::LARGE`]; above that one in
    /// [`Verify::LARGE_STRIDE`], as filling and reading all of them would cost more than the moves
    /// may. Which one varies, so that no place in a window escapes for long.
    #[default]
    Sample,
    /// Every frame number and every old frame.
    Full,
}

impl Verify {
    /// Pages of each class whose frame numbers are compared in any case.
    pub const FIRST: u32 = 256;
    /// The frame numbers of one window in so many are compared after that.
    pub const ONE_IN: u32 = 64;
    /// Batches above this size have their old frames sampled.
    pub const LARGE: u32 = 16;
    /// Then one old frame in so many is checked.
    pub const LARGE_STRIDE: u32 = 16;

    /// With batches of up to `batch` pages one old frame in so many is checked.
    pub(crate) const fn limbo_stride(self, batch: u32) -> u32 {
        match self {
            Self::Sample if batch > Self::LARGE => Self::LARGE_STRIDE,
            _ => 1,
        }
    }
}

/// Why frames cannot be checked.
pub(crate) const HIDDEN: &str =
    "frame numbers in /proc/self/pagemap are hidden from this process; run with CAP_SYS_ADMIN";

/// What a check found, one entry per page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Another than before, and the one from before is in limbo.
    Changed,
    /// The one from before.
    Same,
    /// The kernel itself moved a frame meanwhile, or it was swapped out: proves nothing.
    Unknown,
}

/// Compares frame numbers before and after.
pub(crate) struct Verifier {
    pagemap: Pagemap,
    enabled: bool,
    mode: Verify,
    seen: [u32; Class::COUNT],
    windows: u32,
    before: Box<[Entry]>,
    after: Box<[Entry]>,
    limbo: Box<[Entry]>,
}

impl Verifier {
    /// A verifier of windows of up to `batch` pages.
    pub(crate) fn new(mode: Verify, batch: u32) -> io::Result<Self> {
        let mut pagemap = Pagemap::open(batch)?;
        let entries = || vec![Entry::default(); batch as usize].into_boxed_slice();
        Ok(Self {
            enabled: pagemap.shows_frames()?,
            pagemap,
            mode,
            seen: [0; Class::COUNT],
            windows: 0,
            before: entries(),
            after: entries(),
            limbo: entries(),
        })
    }

    /// Whether the next window, of pages of these classes, is to be checked.
    pub(crate) fn wants(&mut self, classes: &[Option<Class>]) -> bool {
        if !self.enabled {
            return false;
        }
        self.windows = self.windows.wrapping_add(1);
        self.mode == Verify::Full
            || self.windows.is_multiple_of(Verify::ONE_IN)
            || classes
                .iter()
                .flatten()
                .any(|class| self.seen[class.index()] < Verify::FIRST)
    }

    /// Reads the frames of the pages that are about to move.
    pub(crate) fn before(&mut self, hva: usize, pages: u32) -> io::Result<()> {
        self.pagemap.read(hva, &mut self.before[..pages as usize])
    }

    /// Reads the frames of the pages that moved, and of their old frames in limbo.
    pub(crate) fn after(
        &mut self,
        hva: usize,
        pages: u32,
        backend: &dyn Backend,
    ) -> io::Result<()> {
        self.pagemap.read(hva, &mut self.after[..pages as usize])?;
        if !backend.keeps_old_frames() {
            let pages = pages as usize;
            self.limbo[..pages].copy_from_slice(&self.before[..pages]);
            return Ok(());
        }
        let mut first = 0;
        while first < pages {
            let address = backend.limbo_address(first);
            let run = (1..pages - first)
                .find(|&n| backend.limbo_address(first + n) != address + n as usize * PAGE_SIZE)
                .unwrap_or(pages - first);
            let range = first as usize..(first + run) as usize;
            self.pagemap.read(address, &mut self.limbo[range])?;
            first += run;
        }
        Ok(())
    }

    /// What the last two reads say about the pages of these classes.
    pub(crate) fn verdicts(&mut self, classes: &[Option<Class>]) -> impl Iterator<Item = Frame> {
        let frames = self.before.iter().zip(&*self.after).zip(&*self.limbo);
        let seen = &mut self.seen;
        classes
            .iter()
            .zip(frames)
            .map(|(class, ((before, after), limbo))| {
                let verdict = judge(*before, *after, *limbo);
                if let (Frame::Changed, Some(class)) = (verdict, class) {
                    seen[class.index()] = seen[class.index()].saturating_add(1);
                }
                verdict
            })
    }
}

fn judge(before: Entry, after: Entry, limbo: Entry) -> Frame {
    match (before.pfn(), after.pfn(), limbo.pfn()) {
        // The kernel had put the page elsewhere before it was taken out: where a huge page is split,
        // subpages of zeroes become the shared zero page (`try_to_map_unused_to_zeropage` in
        // mm/migrate.c), and their frames are free to come back as new ones.
        (Some(before), _, Some(limbo)) if before != limbo => Frame::Unknown,
        (Some(before), Some(after), _) if before == after => Frame::Same,
        (Some(_), Some(_), Some(_)) => Frame::Changed,
        _ => Frame::Unknown,
    }
}

/// Whether frames can be checked at all.
///
/// # Errors
/// Why not, and the remedy.
pub fn can_verify() -> Result<(), &'static str> {
    match Pagemap::open(1).and_then(|mut pagemap| pagemap.shows_frames()) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(HIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_judged_by_where_the_page_was_in_between() {
        let entry = |pfn| match pfn {
            0 => Entry::default(),
            pfn => Entry::present(pfn),
        };
        for (before, after, limbo, verdict) in [
            (7, 8, 7, Frame::Changed),
            // Never taken out, or put back.
            (7, 7, 0, Frame::Same),
            (7, 7, 7, Frame::Same),
            // The kernel moved it: before it was taken out, while it was in limbo, when it was back.
            (7, 7, 9, Frame::Unknown),
            (7, 8, 9, Frame::Unknown),
            (7, 0, 7, Frame::Unknown),
            (7, 8, 0, Frame::Unknown),
            (0, 8, 9, Frame::Unknown),
        ] {
            let judged = judge(entry(before), entry(after), entry(limbo));
            assert_eq!(judged, verdict, "{before} {after} {limbo}");
        }
    }
}
