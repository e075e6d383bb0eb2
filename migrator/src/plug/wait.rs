//! What a change that waits for windows says to the watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{self, Tsc};
use crate::windows::{Holder, Windows};
use crate::{About, Edge, Gfn, Node, PageRange, WaitSource};

/// How long a change waits for windows at most, and where they are.
pub(super) struct Patience {
    pub(super) longest: Duration,
    pub(super) range: PageRange,
}

impl From<Duration> for Patience {
    /// Of one whom the watchdog does not know.
    fn from(longest: Duration) -> Self {
        let range = PageRange::new(Gfn(0), 0);
        Self { longest, range }
    }
}

/// The range for whose windows a change waits: one change at a time, and whoever looks, without a lock.
#[derive(Debug, Default)]
pub(crate) struct ChangeWait {
    /// Odd while one waits.
    sequence: AtomicU64,
    start: AtomicU64,
    pages: AtomicU64,
    since: AtomicU64,
}

/// A change waits, until this is dropped.
pub(super) struct Waiting<'a>(&'a ChangeWait);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.step();
    }
}

impl ChangeWait {
    /// The one change that there is begins to wait for the windows in `range`.
    pub(super) fn begin(&self, range: PageRange) -> Waiting<'_> {
        // Each release pairs with the acquire of the same word in `read`: who reads this wait's words sees the last one's
        // end, and who sees this one begun reads its words.
        self.start.store(range.start.0, Ordering::Release);
        self.pages.store(range.pages.into(), Ordering::Release);
        self.since.store(clock::now(), Ordering::Release);
        self.step();
        Waiting(self)
    }

    fn step(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Release);
    }

    /// The wait that there is: its sequence, its range, and since when.
    fn read(&self) -> Option<(u64, PageRange, Tsc)> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let start = Gfn(self.start.load(Ordering::Acquire));
        let pages = self.pages.load(Ordering::Acquire) as u32;
        let since = self.since.load(Ordering::Acquire);
        let same = self.sequence.load(Ordering::Relaxed) == sequence;
        (sequence % 2 == 1 && same).then(|| (sequence, PageRange::new(start, pages), since))
    }
}

/// Speaks for the change that waits: for whichever migration has a window open in its range now.
pub(crate) struct ChangeWaits {
    pub(crate) wait: Arc<ChangeWait>,
    pub(crate) windows: Arc<Windows>,
}

impl ChangeWaits {
    fn holder(&self, waiter: Node) -> Option<(u64, Holder, Tsc)> {
        let (sequence, range, since) = (waiter == Node::Change(0)).then(|| self.wait.read())??;
        let holder = self.windows.over(range)?;
        Some((sequence, holder, since))
    }
}

impl WaitSource for ChangeWaits {
    fn edge(&self, waiter: Node) -> Edge {
        let Some((sequence, holder, _)) = self.holder(waiter) else {
            return Edge::default();
        };
        // Both count on, those of a mover's windows and those of changes: no two waits for a mover have the same sum.
        let sum = sequence.wrapping_add(holder.sequence);
        Edge::new(sum, Some(Node::Migration(holder.mover)))
    }

    fn about(&self, waiter: Node) -> About {
        let since = self.holder(waiter).map_or(0, |(_, _, since)| since);
        About { since, page: None }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Members, WaitGraph};

    #[test]
    fn a_change_waits_for_whose_window_is_open_in_its_range() {
        let wait = Arc::new(ChangeWait::default());
        let windows = Arc::new(Windows::default());
        let source = ChangeWaits {
            wait: Arc::clone(&wait),
            windows: Arc::clone(&windows),
        };
        let range = |start, pages| PageRange::new(Gfn(start), pages);
        let to = |waiter| source.edge(waiter).to();
        windows.open(3, range(600, 2));
        assert_eq!(to(Node::Change(0)), None, "nobody waits");
        let waiting = wait.begin(range(512, 1024));
        let first = source.edge(Node::Change(0));
        assert_eq!(first.to(), Some(Node::Migration(3)));
        assert!(source.about(Node::Change(0)).since > 0);
        assert_eq!(to(Node::FramePool(0)), None);
        windows.close(3);
        assert_eq!(to(Node::Change(0)), None, "it is over");
        windows.open(3, range(511, 1));
        windows.open(4, range(1536, 9));
        assert_eq!(to(Node::Change(0)), None, "beside it");
        windows.close(3);
        windows.open(3, range(500, 13));
        let second = source.edge(Node::Change(0));
        assert_eq!(second.to(), Some(Node::Migration(3)));
        assert_ne!(first, second, "another window");
        drop(waiting);
        assert_eq!(to(Node::Change(0)), None, "it waits no more");
        let waiting = wait.begin(range(512, 1));
        assert_ne!(second, source.edge(Node::Change(0)), "another change");
        drop(waiting);
    }

    /// Whom a window waits for unplugs its pages: what `Migrator::unplug` forbids, and what the watchdog is to name.
    #[test]
    fn who_unplugs_what_waits_for_it_is_a_cycle() {
        let wait = Arc::new(ChangeWait::default());
        let windows = Arc::new(Windows::default());
        let source = ChangeWaits {
            wait: Arc::clone(&wait),
            windows: Arc::clone(&windows),
        };
        let source: Arc<dyn WaitSource> = Arc::new(source);
        let graph = Arc::new(WaitGraph::new(Members::default(), [source]));
        let mut migration = graph.waiter(Node::Migration(1)).expect("free");
        let mut consumer = graph.waiter(Node::Consumer(2)).expect("free");
        windows.open(1, PageRange::new(Gfn(7), 1));
        let _migration = migration.wait_for(Node::Consumer(2));
        let _consumer = consumer.wait_for(Node::Change(0));
        assert_eq!(graph.find_cycles(), []);
        let waiting = wait.begin(PageRange::new(Gfn(0), 512));
        let cycles = graph.find_cycles();
        assert_eq!(cycles.len(), 1, "{cycles:?}");
        assert_eq!(cycles[0].members().count(), 3);
        assert_eq!(graph.break_cycle(&cycles[0]), Some(Node::Migration(1)));
        drop(waiting);
        assert_eq!(graph.find_cycles(), []);
    }
}
