//! The time in which pages are unavailable.

use super::Transaction;
use crate::invalidation::Told;
use crate::{AbortReason, clock};

/// The window of a migration. However it ends, by a panic too, the old frames are put back where
/// there is no new one and nothing stays write-protected, before consumers and those who spin are told
/// and before stopped vCPUs go on.
pub(super) struct OpenWindow<'t, 'a>(&'t mut Transaction<'a>);

impl<'t, 'a> OpenWindow<'t, 'a> {
    pub(super) fn new(transaction: &'t mut Transaction<'a>) -> Self {
        let range = transaction.range(0, transaction.reach);
        transaction.tools.windows.open(transaction.tools.nth, range);
        if transaction.tools.max_window.is_some() {
            transaction.opened = clock::now();
        }
        let window = Self(transaction);
        window.0.tell_consumers();
        window
    }

    /// The migration whose window it is.
    pub(super) fn inside(&mut self) -> &mut Transaction<'a> {
        self.0
    }
}

impl Transaction<'_> {
    /// Has those let go of the pages who keep translations of their own. If one does not, the migration
    /// is given up before the first step that changes a mapping.
    fn tell_consumers(&mut self) {
        let range = self.range(0, self.reach);
        let waiter = self.tools.waiter.as_deref_mut();
        let begun = clock::now();
        let told = self.tools.consumers.start_as(range, waiter);
        if let Ok(Told { counted }) = told
            && counted != 0
        {
            (self.times.told, self.times.counted) = (begun, counted);
            self.times.quiet = clock::now();
        }
        match told {
            Err(unquiet) if unquiet.deadlock => self.give_up(AbortReason::Deadlock),
            // Whoever answers too late for the window is no better than one who does not.
            told => {
                if !self.is_over_budget() && told.is_err() {
                    self.give_up(AbortReason::Unacknowledged);
                }
            }
        }
    }

    /// Gives the migration up if its window has been open for too long.
    pub(super) fn is_over_budget(&mut self) -> bool {
        let Some(longest) = self.tools.max_window else {
            return false;
        };
        let over = clock::now().saturating_sub(self.opened) > longest;
        if over {
            self.tools.counters.over_budget.add(1);
            self.stop_in_window(AbortReason::OverBudget);
        }
        over
    }
}

impl Drop for OpenWindow<'_, '_> {
    fn drop(&mut self) {
        self.0.restore();
        self.0.unprotect();
        self.0.tools.consumers.end();
        self.0.tools.windows.close(self.0.tools.nth);
    }
}
