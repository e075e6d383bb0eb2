//! Ranges of guest memory that come and go, checked and registered.

use std::ops::Range;
use std::time::Duration;

use super::PlugError;
use super::change::{Refusal, Stays};
use super::wait::Patience;
use crate::engine::Engine;
use crate::registration::{RegistrationError, Run, note_holes, runs_of};
use crate::{Gfn, PageRange};

/// A range that is made of whole blocks.
struct Whole {
    pages: Range<u32>,
    blocks: Range<usize>,
    runs: Vec<Run>,
}

impl Engine {
    pub(crate) fn plug(&self, range: PageRange) -> Result<(), PlugError> {
        let whole = self.whole(range)?;
        let words = &self.words[whole.pages.start as usize..whole.pages.end as usize];
        let register = || {
            self.registration.register(&whole.runs, self.watch)?;
            // A page that is brought in right now is no hole for who looks after it, and faults are kept out.
            note_holes(&self.regions, whole.pages.clone(), &self.words).map_err(|error| {
                // As it was: nobody has been let in yet.
                let _ = self.registration.unregister(&whole.runs, self.watch);
                RegistrationError::Pagemap(error)
            })
        };
        self.blocks
            .plug(whole.blocks.clone(), words, register)
            .map_err(|block| PlugError::Plugged {
                range,
                block: self.gfn_of(&whole, block),
            })?
            .map_err(|source| PlugError::Register { range, source })?;
        // Those whom a handler found in a block that was not plugged yet.
        self.registration
            .wake_runs(&whole.runs)
            .map_err(|source| PlugError::Register {
                range,
                source: source.into(),
            })
    }

    pub(crate) fn unplug(&self, range: PageRange, patience: Duration) -> Result<(), PlugError> {
        let whole = self.whole(range)?;
        let words = &self.words[whole.pages.start as usize..whole.pages.end as usize];
        let unregister = || {
            let unregistered = self.registration.unregister(&whole.runs, self.watch);
            unregistered.map_err(|not| Refusal {
                error: (not.error, not.whole),
                whole: not.whole,
            })
        };
        let blocks = whole.blocks.clone();
        let longest = patience;
        let stays = match self
            .blocks
            .unplug(blocks, words, Patience { longest, range }, unregister)
        {
            Ok(()) => return Ok(()),
            Err(stays) => stays,
        };
        Err(match stays {
            Stays::NotPlugged(block) => PlugError::NotPlugged {
                range,
                block: self.gfn_of(&whole, block),
            },
            Stays::Busy => PlugError::Busy { range, patience },
            Stays::Lost(nth) => PlugError::Lost {
                range,
                gfn: Gfn(range.start.0 + nth as u64),
            },
            Stays::InUse(pages) => {
                // As below.
                let _ = self.registration.wake_runs(&whole.runs);
                PlugError::InUse { range, pages }
            }
            Stays::Failed((source, undone)) => {
                // Those whom a handler left to the change. The error that there is comes first.
                let _ = self.registration.wake_runs(&whole.runs);
                match undone {
                    true => PlugError::Unregister { range, source },
                    false => PlugError::Halfway { range, source },
                }
            }
        })
    }

    fn whole(&self, range: PageRange) -> Result<Whole, PlugError> {
        if range.pages == 0 {
            return Err(PlugError::Empty { range });
        }
        let numbers = self.regions.numbers(range);
        let pages = numbers.ok_or(PlugError::Outside { range })?;
        let (first, last) = (pages.start, pages.end - 1);
        let blocks = self.blocks.pages(first).start..self.blocks.pages(last).end;
        if blocks != pages {
            let start = self.regions.of(blocks.start).gfn(blocks.start);
            let blocks = PageRange::new(start, blocks.len() as u32);
            return Err(PlugError::Unaligned { range, blocks });
        }
        Ok(Whole {
            blocks: self.blocks.number(first)..self.blocks.number(last) + 1,
            runs: runs_of(&self.regions, pages.clone(), &self.words),
            pages,
        })
    }

    /// The guest frame at which block number `block` of a range begins.
    fn gfn_of(&self, whole: &Whole, block: usize) -> Gfn {
        let mut page = whole.pages.start;
        for _ in whole.blocks.start..block {
            page = self.blocks.pages(page).end;
        }
        self.regions.of(page).gfn(page)
    }
}
