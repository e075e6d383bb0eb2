//! The time in which pages are unavailable.

use super::Transaction;
use crate::AbortReason;

/// The window of a migration. However it ends, by a panic too, the old frames are put back where
/// there is no new one and nothing stays write-protected, before consumers and those who spin are told
/// and before stopped vCPUs go on.
pub(super) struct OpenWindow<'t, 'a>(&'t mut Transaction<'a>);

impl<'t, 'a> OpenWindow<'t, 'a> {
    pub(super) fn new(transaction: &'t mut Transaction<'a>) -> Self {
        transaction.tools.windows.open();
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
        if self.tools.consumers.start(range).is_err() {
            self.give_up(AbortReason::Unacknowledged);
        }
    }
}

impl Drop for OpenWindow<'_, '_> {
    fn drop(&mut self) {
        self.0.restore();
        self.0.unprotect();
        self.0.tools.consumers.end();
        self.0.tools.windows.close();
    }
}
