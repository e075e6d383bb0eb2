//! The engine as its user sees it.

use std::sync::Arc;
use std::time::Duration;

use vm_memory::GuestMemoryMmap;

use crate::builder::Builder;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::handler::Handler;
use crate::mover::{Mover, NewMoverError};
use crate::page_word::{Lane, PageWord};
use crate::translate::{OwnMapping, SecondMapping};
use crate::windows::Windows;
use crate::{
    FrameCounters, Gfn, Invalidations, PageRange, PlugCounters, PlugError, Refiller, Translate,
    Verdicts, WaitGraph, WaitingFaults, Watchdog,
};

/// Guest memory whose pages can be moved.
///
/// It makes [`Mover`]s and [`Handler`]s, which the embedder runs on threads of its choice. Once it
/// and all of those are dropped, guest memory is an ordinary mapping again, with every page in place.
pub struct Migrator(Arc<Engine>);

impl Migrator {
    /// Begins to configure one for `memory`, which must be private anonymous memory.
    #[must_use]
    pub fn builder(memory: Arc<GuestMemoryMmap>) -> Builder {
        Builder::new(memory)
    }

    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(engine))
    }

    /// A mover, with a frame pool of its own.
    ///
    /// # Errors
    /// No memory or no descriptor is left for it.
    pub fn mover(&self) -> Result<Mover, NewMoverError> {
        Mover::new(Arc::clone(&self.0))
    }

    /// A fault handler for all of guest memory. One must run while the guest does, or all of
    /// [`handlers`](Self::handlers).
    #[must_use]
    pub fn handler(&self) -> Handler {
        Handler::new(Arc::clone(&self.0), 0..self.0.registration.blocking().len())
    }

    /// A fault handler for each userfaultfd ([`Builder::uffds`](crate::Builder::uffds)): each must run while the guest
    /// does.
    #[must_use]
    pub fn handlers(&self) -> Vec<Handler> {
        (0..self.0.registration.blocking().len())
            .map(|one| Handler::new(Arc::clone(&self.0), one..one + 1))
            .collect()
    }

    /// Takes a range in again that was unplugged: its holes are the fault handler's from here on, and its pages move. What
    /// it holds stays, and what was populated or discarded meanwhile is found out. Pages that signal
    /// ([`Builder::signal_faults`](crate::Builder::signal_faults)) are populated.
    ///
    /// The range is made of whole blocks of [`BLOCK_PAGES`](crate::BLOCK_PAGES), none of which is plugged. Nothing is to
    /// be discarded in it meanwhile.
    ///
    /// # Errors
    /// The range, or what the kernel said; then nothing of it is plugged.
    pub fn plug(&self, range: PageRange) -> Result<(), PlugError> {
        self.0.plug(range)
    }

    /// Takes a range away from the engine, to give it back, to pin it, or to have it under somebody else's
    /// userfaultfd: it becomes ordinary memory with every page in place. All of guest memory is plugged at first; a VMM
    /// that plugs memory later builds the engine over all that there may ever be, and unplugs what is not there yet.
    ///
    /// No window is begun in the range; it waits until those are over that are open in it, for `patience` at most, and
    /// then until no fault is being served. Faults elsewhere go on, as
    /// [`Builder::fault_lock`](crate::Builder::fault_lock) has it. A fault handler must run, and it must not be called by an
    /// [`Observer`](crate::Observer), nor by whoever a window waits for.
    ///
    /// # Errors
    /// The range, a window that stayed open, or what the kernel said; then all of it is plugged as before, but with
    /// [`PlugError::Halfway`].
    pub fn unplug(&self, range: PageRange, patience: Duration) -> Result<(), PlugError> {
        self.0.unplug(range, patience)
    }

    /// Whether the page at `gfn` is guest memory that is plugged.
    #[must_use]
    pub fn is_plugged(&self, gfn: Gfn) -> bool {
        let page = self.0.regions.by_gfn(gfn);
        page.is_some_and(|page| self.0.blocks.is_plugged(page))
    }

    /// What was plugged and unplugged, and what became of faults meanwhile; exact while nobody plugs and no handler runs.
    #[must_use]
    pub fn plug_counters(&self) -> PlugCounters {
        self.0.blocks.counters()
    }

    /// One who keeps the pool of frames full, if there is a pool. One is enough.
    #[must_use]
    pub fn refiller(&self) -> Option<Refiller> {
        self.0.frames.clone().map(Refiller::new)
    }

    /// What was taken from the pool of frames, if there is one, and who paid for it.
    #[must_use]
    pub fn frames(&self) -> Option<FrameCounters> {
        Some(self.0.frames.as_ref()?.counters())
    }

    /// One who looks for deadlocks, and ends them. One is enough.
    #[must_use]
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::new(Arc::clone(&self.0))
    }

    /// Who waits for whom. Movers say so themselves; whoever else does is to be named by a
    /// [`Waiter`](crate::Waiter) of its own, or known to a [`WaitSource`](crate::WaitSource).
    #[must_use]
    pub fn waits(&self) -> Arc<WaitGraph> {
        Arc::clone(&self.0.waits)
    }

    /// How many deadlocks and stalls all watchdogs have found.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.0.verdicts.snapshot()
    }

    /// The windows of all movers, to spin on.
    #[must_use]
    pub fn windows(&self) -> Arc<Windows> {
        Arc::clone(&self.0.windows)
    }

    /// Where those register who keep translations of guest memory of their own.
    #[must_use]
    pub fn invalidations(&self) -> Arc<Invalidations> {
        Arc::clone(&self.0.invalidations)
    }

    /// Where a consumer finds guest pages: in a second mapping of the frames, where those of a file are
    /// remapped ([`BackendKind::needs_file`](crate::BackendKind::needs_file)), and else in this
    /// process's own mapping.
    #[must_use]
    pub fn translate(&self) -> Arc<dyn Translate> {
        match &self.0.alias {
            Some(alias) => Arc::new(SecondMapping::new(
                Arc::clone(alias),
                self.0.regions.clone(),
            )),
            None => Arc::new(self.own_mapping()),
        }
    }

    fn own_mapping(&self) -> OwnMapping {
        let signalling = self.0.regions.iter().flat_map(|region| {
            let signals = |page: &u32| self.0.words[*page as usize].lane() == Lane::Signalling;
            (region.first..region.end())
                .filter(signals)
                .map(|page| region.gfn(page))
        });
        OwnMapping::new(Arc::clone(&self.0.memory), signalling)
    }

    /// The counters of all movers made so far, together; exact while none runs.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counters()
    }

    /// Threads that sleep in faults of guest memory now; `None` where `/proc` does not tell.
    #[must_use]
    pub fn waiting_faults(&self) -> Option<WaitingFaults> {
        let uffds = self.0.registration.blocking();
        uffds.iter().map(|uffd| uffd.waiting()).sum()
    }

    /// One old frame in so many is checked for writes after commit; 1 is all. A single such write is
    /// seen with this chance only.
    #[must_use]
    pub fn limbo_stride(&self) -> u32 {
        self.0.config.verify.limbo_stride(self.0.config.batch)
    }

    /// Whether whoever meets a window of the page at `gfn` is sent a signal, instead of sleeping.
    #[must_use]
    pub fn signals(&self, gfn: Gfn) -> bool {
        let page = self.0.regions.by_gfn(gfn);
        page.is_some_and(|page| self.0.words[page as usize].lane() == Lane::Signalling)
    }

    /// Guest pages that it manages, those left out included.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.0.regions.pages()
    }

    /// Bytes of state that it keeps for guest pages.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.words.len() * size_of::<PageWord>()
    }
}
