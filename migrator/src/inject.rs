//! Faults on purpose, for tests and torture.

use crate::Phase;

/// What the mover does when the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InjectAction {
    /// Aborts the migration and goes on with the next. Nothing happens in [`Phase::Committed`],
    /// from which there is no way back.
    Abort,
    /// Panics.
    Panic,
}

/// A fault in the `nth` migration (from 1) that reaches `phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inject {
    /// Where.
    pub phase: Phase,
    /// Which migration, from 1, counted in each mover.
    pub nth: u64,
    /// Whether every migration from the `nth` on is hit, not only that one.
    pub on: bool,
    /// What happens.
    pub action: InjectAction,
}

/// Counts the migrations that reach the phase.
pub(crate) struct Injector {
    inject: Option<Inject>,
    reached: u64,
}

impl Injector {
    pub(crate) fn new(inject: Option<Inject>) -> Self {
        Self { inject, reached: 0 }
    }

    /// A migration is at `phase`: true if it must abort.
    ///
    /// # Panics
    /// If that was asked for.
    #[inline]
    pub(crate) fn strikes(&mut self, phase: Phase) -> bool {
        match self.inject {
            Some(inject) if inject.phase == phase => self.strike(inject),
            _ => false,
        }
    }

    #[cold]
    fn strike(&mut self, inject: Inject) -> bool {
        self.reached += 1;
        if self.reached < inject.nth || self.reached > inject.nth && !inject.on {
            return false;
        }
        match inject.action {
            InjectAction::Abort => true,
            InjectAction::Panic => panic!(
                "injected in the phase {} of migration {}",
                inject.phase, self.reached
            ),
        }
    }
}
