//! Faults on purpose: one for a test, or many at random for torture.

use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use crate::counters::LiveCounters;
use crate::prng::Prng;
use crate::{Phase, Torment};

/// Sets the random faults of a mover apart from its choice of pages, which has the same seed.
const STREAM: u64 = 0x746f_726d_656e_7400;
/// Lengths of pauses are spread evenly over so many halvings of the longest.
const HALVINGS: u64 = 10;

/// What the mover does when the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InjectAction {
    /// Aborts the migration and goes on with the next. Nothing happens in [`Phase::Committed`],
    /// from which there is no way back.
    Abort,
    /// Panics.
    Panic,
    /// Sleeps so long, and goes on.
    Pause(Duration),
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

/// The faults of one mover; none, most often.
pub(crate) struct Injector(Option<Box<Faults>>);

struct Faults {
    inject: Option<Inject>,
    /// Migrations that reached the phase of `inject`.
    reached: u64,
    torment: Option<(Torment, Prng)>,
}

impl Injector {
    /// `seed` is of the random ones.
    pub(crate) fn new(inject: Option<Inject>, torment: Option<Torment>, seed: u64) -> Self {
        let any = inject.is_some() || torment.is_some();
        Self(any.then(|| {
            Box::new(Faults {
                inject,
                reached: 0,
                torment: torment.map(|torment| (torment, Prng::new(seed ^ STREAM))),
            })
        }))
    }

    /// A migration is at `phase`: true if it must abort. May sleep first.
    ///
    /// # Panics
    /// If that was asked for.
    #[inline]
    pub(crate) fn strikes(&mut self, phase: Phase, counters: &LiveCounters) -> bool {
        match &mut self.0 {
            None => false,
            Some(faults) => faults.strike_at(phase, counters),
        }
    }
}

impl Faults {
    #[cold]
    fn strike_at(&mut self, phase: Phase, counters: &LiveCounters) -> bool {
        let torn = match &mut self.torment {
            Some((torment, prng)) => torture(torment, prng, phase, counters),
            None => false,
        };
        match self.inject {
            Some(inject) if inject.phase == phase => self.strike(inject) || torn,
            _ => torn,
        }
    }

    fn strike(&mut self, inject: Inject) -> bool {
        self.reached += 1;
        if self.reached < inject.nth || self.reached > inject.nth && !inject.on {
            return false;
        }
        match inject.action {
            InjectAction::Abort => true,
            InjectAction::Pause(pause) => {
                thread::sleep(pause);
                false
            }
            InjectAction::Panic => panic!(
                "injected in the phase {} of migration {}",
                inject.phase, self.reached
            ),
        }
    }
}

/// Rolls the dice; true if the migration must abort.
fn torture(torment: &Torment, prng: &mut Prng, phase: Phase, counters: &LiveCounters) -> bool {
    let mut strikes = |one_in: Option<NonZeroU32>| {
        one_in.is_some_and(|one_in| prng.below(one_in.get().into()) == 0)
    };
    // Both are rolled each time, so that what one does leaves the other as it was.
    let (pauses, aborts) = (strikes(torment.pause_one_in), strikes(torment.abort_one_in));
    if pauses {
        counters.pauses.add(1);
        thread::sleep(pause(torment.longest_pause, prng));
    }
    let aborts = aborts && phase != Phase::Committed;
    counters.injected_aborts.add(aborts.into());
    aborts
}

/// A length up to `longest`, each order of magnitude as likely as the others.
fn pause(longest: Duration, prng: &mut Prng) -> Duration {
    let most = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    let most = most >> prng.below(HALVINGS);
    Duration::from_nanos(prng.below(most.saturating_add(1)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A thousand migrations, with the phases that each was aborted in.
    fn thousand(torment: Torment, seed: u64) -> (Vec<Phase>, LiveCounters) {
        let mut injector = Injector::new(None, Some(torment), seed);
        let counters = LiveCounters::default();
        let mut aborted = Vec::new();
        for _ in 0..1000 {
            let strikes = |phase: &Phase| injector.strikes(*phase, &counters);
            aborted.extend(Phase::ALL.into_iter().find(strikes));
        }
        (aborted, counters)
    }

    #[test]
    fn chances_are_kept_and_repeat_with_the_seed() {
        let torment = Torment {
            abort_one_in: NonZeroU32::new(10),
            pause_one_in: NonZeroU32::new(4),
            longest_pause: Duration::ZERO,
        };
        let (aborted, counters) = thousand(torment, 1);
        assert_eq!(thousand(torment, 1).0, aborted);
        assert_ne!(thousand(torment, 2).0, aborted);
        for phase in Phase::ALL {
            let count = aborted.iter().filter(|at| **at == phase).count();
            // Of 1000, 900, 810 and so on a tenth each, give or take five standard deviations.
            let expected = if phase == Phase::Committed {
                0..1
            } else {
                30..150
            };
            assert!(expected.contains(&count), "{phase}: {count}");
        }
        let counters = counters.snapshot();
        assert_eq!(counters.injected_aborts, aborted.len() as u64);
        // A quarter of some 4690.
        assert!(
            (1000..1350).contains(&counters.pauses),
            "{}",
            counters.pauses
        );
    }

    #[test]
    fn pauses_keep_to_their_bound_and_are_short_most_often() {
        let mut prng = Prng::new(3);
        let longest = Duration::from_millis(2);
        let mut pauses: Vec<_> = (0..1000).map(|_| pause(longest, &mut prng)).collect();
        pauses.sort_unstable();
        assert!(pauses[999] <= longest && pauses[999] > longest / 2);
        assert!(pauses[500] < longest / 16);
        assert_eq!(pause(Duration::ZERO, &mut prng), Duration::ZERO);
        assert!(pause(Duration::MAX, &mut prng) <= Duration::MAX);
    }
}
