//! What the engine asks about a page.

use crate::{Class, Gfn};

/// Says what guest pages hold. The answers may change while the guest runs.
pub trait PageMap: Send + Sync {
    /// The kind of page at `gfn`, or `None` for a page that must never be migrated.
    fn class(&self, gfn: Gfn) -> Option<Class>;

    /// Whether a page without a class may move all the same when the slot does that it lies in
    /// ([`BackendKind::Memslot`](crate::BackendKind::Memslot)), with every vCPU stopped: one that nobody but vCPUs and
    /// registered consumers reaches. A slot with a page that may not stays where it is.
    fn moves_along(&self, gfn: Gfn) -> bool {
        let _ = gfn;
        false
    }

    /// Whether the hypervisor itself reaches the page, so that whoever meets its window must sleep
    /// and cannot be sent a signal.
    ///
    /// Matters with [`Builder::signal_faults`](crate::Builder::signal_faults) only. There a page
    /// for which this turns true later is no longer moved; a guest must therefore publish the
    /// change before it uses the page in the new role.
    fn sleeps(&self, gfn: Gfn) -> bool {
        let _ = gfn;
        false
    }
}
