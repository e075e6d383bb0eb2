//! How much memory tables take, and how much of it is wasted.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::PAGE_SIZE;

/// A page, in [`Counts::held`].
const PAGE: u64 = 1 << 32;
/// A table, in [`Counts::held`].
const TABLE: u64 = 1;

/// Counts that all CPUs share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Pages held, and tables in them, allocated or pending: one word, so that a page and what lies in it are never
    /// counted at two moments. Changed before the lock of the owner is given up under which the state changed.
    held: AtomicU64,
    pub(super) pending: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) beside_pending: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Counts {
    /// A page came, with a table in it.
    pub(super) fn grown(&self) {
        self.held.fetch_add(PAGE + TABLE, Relaxed);
    }

    /// A half of a page that is held became a table.
    pub(super) fn taken(&self) {
        self.held.fetch_add(TABLE, Relaxed);
    }

    /// A table is one no more; the last of its page takes the page with it.
    pub(super) fn gone(&self, page_too: bool) {
        let page = if page_too { PAGE } else { 0 };
        self.held.fetch_sub(page + TABLE, Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        let held = self.held.load(Relaxed);
        let (pages, tables) = (held / PAGE, held % PAGE);
        // Of another moment: only how the tables are divided depends on it.
        let pending = self.pending.load(Relaxed).min(tables);
        Usage {
            pages,
            tables: tables - pending,
            pending,
            reused: self.reused.load(Relaxed),
            beside_pending: self.beside_pending.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}

/// What tables take at the moment. Pages and the sum of the tables, and so what is wasted, are of one moment also while
/// CPUs work; how many of the tables are pending may be of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pages held for tables.
    pub pages: u64,
    /// Tables allocated.
    pub tables: u64,
    /// Tables freed that wait for their grace period.
    pub pending: u64,
    /// Tables given out, since the start, from a page that was there already.
    pub reused: u64,
    /// Those of them whose page's other half was waiting for its grace period.
    pub beside_pending: u64,
    /// Pages, since the start, that were found misused and are kept for ever.
    pub lost: u64,
}

impl Usage {
    /// Bytes of the pages that hold no table, allocated or pending.
    #[must_use]
    pub const fn wasted(&self) -> u64 {
        let used = (self.tables + self.pending) * super::TABLE_BYTES as u64;
        (self.pages * PAGE_SIZE as u64).saturating_sub(used)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;

    /// With a page for each table half of what is held is wasted, whenever somebody looks.
    #[test]
    fn the_waste_of_whole_pages_is_half_of_them_at_any_moment() {
        const PAGES: usize = 100_000;
        let (counts, done) = (Counts::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..PAGES {
                    counts.grown();
                    counts.pending.fetch_add(1, Relaxed);
                    counts.pending.fetch_sub(1, Relaxed);
                    counts.gone(true);
                }
                done.store(true, Relaxed);
            });
            while !done.load(Relaxed) {
                let usage = counts.usage();
                assert_eq!(usage.tables + usage.pending, usage.pages, "{usage:?}");
                assert_eq!(
                    usage.wasted(),
                    usage.pages * PAGE_SIZE as u64 / 2,
                    "{usage:?}"
                );
            }
        });
        assert_eq!(counts.usage(), Usage::default());
    }

    #[test]
    fn a_half_that_is_free_is_wasted() {
        let counts = Counts::default();
        let mut wasted = Vec::new();
        for step in [
            Counts::grown,
            Counts::taken,
            |counts: &Counts| counts.gone(false),
            |counts: &Counts| counts.gone(true),
        ] {
            step(&counts);
            wasted.push(counts.usage().wasted());
        }
        assert_eq!(wasted, [2048, 0, 2048, 0]);
    }
}
