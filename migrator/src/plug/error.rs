//! Why a range was not plugged or unplugged.

use std::time::Duration;

use super::BLOCK_PAGES;
use crate::uffd::UffdError;
use crate::{Gfn, PageRange, RegistrationError};

/// A range that could not be plugged or unplugged. All of it is as it was, but with
/// [`Halfway`](Self::Halfway).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlugError {
    /// No page.
    #[error("{range}: there is no page in it; name 1 block of {BLOCK_PAGES} pages at least")]
    Empty {
        /// What was asked for.
        range: PageRange,
    },
    /// Not in one region of guest memory.
    #[error(
        "{range}: not all of it is guest memory without a gap; build the engine over all memory that the guest may ever \
         have, and name a range in one region of it"
    )]
    Outside {
        /// What was asked for.
        range: PageRange,
    },
    /// Not whole blocks.
    #[error(
        "{range}: not whole blocks, which are {BLOCK_PAGES} pages from multiples of that, or end with their region; the \
         blocks that it touches are {blocks}"
    )]
    Unaligned {
        /// What was asked for.
        range: PageRange,
        /// The smallest range of whole blocks that holds it.
        blocks: PageRange,
    },
    /// Something is plugged already.
    #[error("{range}: the block at {block} is plugged already; unplug it first, or leave it out")]
    Plugged {
        /// What was asked for.
        range: PageRange,
        /// The first block of it that is plugged.
        block: Gfn,
    },
    /// Something is not plugged.
    #[error("{range}: the block at {block} is not plugged; plug it first, or leave it out")]
    NotPlugged {
        /// What was asked for.
        range: PageRange,
        /// The first block of it that is not.
        block: Gfn,
    },
    /// A window stayed open.
    #[error(
        "{range}: a window stayed open in it for {} ms; try again, wait for longer, or give windows a budget \
         (Builder::max_window)",
        patience.as_millis()
    )]
    Busy {
        /// What was asked for.
        range: PageRange,
        /// How long was waited.
        patience: Duration,
    },
    /// A page was lost by its mover ([`MoverError::Lost`](crate::MoverError::Lost)): who touches it waits, and would find zeroes.
    #[error(
        "{range}: the page at {gfn} was lost, and whoever waits for it would find zeroes; end the guest"
    )]
    Lost {
        /// What was asked for.
        range: PageRange,
        /// The first such page.
        gfn: Gfn,
    },
    /// Pages are in use after everybody has left: a fault of the engine ([`PlugCounters::in_use`](crate::PlugCounters::in_use)),
    /// or a busted variant. They would have been lost.
    #[error(
        "{range}: {pages} pages of it are still being moved or served; report this, it is a fault of the engine"
    )]
    InUse {
        /// What was asked for.
        range: PageRange,
        /// How many.
        pages: u32,
    },
    /// The kernel does not register it.
    #[error("{range}: the kernel does not register it")]
    Register {
        /// What was asked for.
        range: PageRange,
        /// What the kernel said.
        #[source]
        source: RegistrationError,
    },
    /// The kernel does not unregister it.
    #[error("{range}: the kernel does not unregister it")]
    Unregister {
        /// What was asked for.
        range: PageRange,
        /// What the kernel said.
        #[source]
        source: UffdError,
    },
    /// The kernel unregistered a part of it, and did not register that again. No page of it moves any more; the guest
    /// has them all.
    #[error("{range}: the kernel unregistered a part of it and no more; unplug it again")]
    Halfway {
        /// What was asked for.
        range: PageRange,
        /// What the kernel said.
        #[source]
        source: UffdError,
    },
}
