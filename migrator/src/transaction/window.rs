//! The time in which pages are unavailable.

use super::Transaction;

/// The window of a migration. However it ends, by a panic too, the old frames are put back where
/// there is no new one and nothing stays write-protected, before those who spin are told and before
/// stopped vCPUs go on.
pub(super) struct OpenWindow<'t, 'a>(&'t mut Transaction<'a>);

impl<'t, 'a> OpenWindow<'t, 'a> {
    pub(super) fn new(transaction: &'t mut Transaction<'a>) -> Self {
        transaction.tools.windows.open();
        Self(transaction)
    }

    /// The migration whose window it is.
    pub(super) fn inside(&mut self) -> &mut Transaction<'a> {
        self.0
    }
}

impl Drop for OpenWindow<'_, '_> {
    fn drop(&mut self) {
        self.0.restore();
        self.0.unprotect();
        self.0.tools.windows.close();
    }
}
