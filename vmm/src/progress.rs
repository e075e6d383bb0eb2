//! Whether every vCPU gets on, seen from outside.

use crate::run_delay::RunDelay;
use crate::shared::SharedRegion;
use std::sync::atomic::Ordering;
use std::time::Instant;
use underfoot_abi::{Context, Wait};

/// What the watch knows of one vCPU.
///
/// Gaps are lower bounds: from the sample that saw progress to the last one that saw none. A gap is
/// seen up to two sampling periods too short, and a late sampler does not lengthen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The longest gap that has ended, less what the thread waited for a CPU meanwhile and less
    /// what the vCPU said that it waited for another (its context word), in ns.
    pub longest_gap_ns: u64,
    /// The longest gap that has ended, CPU or not, in ns.
    pub longest_raw_gap_ns: u64,
    /// How long the present gap lasts, CPU or not, in ns; 0 when the last sample saw progress.
    pub open_gap_ns: u64,
    /// How long its thread waited for a CPU in the present gap, in ns; a wait that still lasts is not known yet.
    pub open_delay_ns: u64,
    /// The longest time between two samples, in ns: what the watch itself may have missed.
    pub longest_sample_ns: u64,
    /// Samples taken.
    pub samples: u64,
}

/// What a vCPU is in the middle of, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Busy,
    /// It waits for another vCPU.
    Waits,
    /// It has nothing to do.
    Idle,
}

#[derive(Debug, Default)]
struct Watched {
    /// Of its thread; `None` where the kernel does not tell, and the gaps are then not net of anything.
    delay: Option<RunDelay>,
    progress: u64,
    /// When progress was last seen, and how long the thread had waited for a CPU by then.
    since_ns: u64,
    delay_ns: u64,
    /// The same when any vCPU last got on, and now.
    delay_at_change_ns: u64,
    delay_now_ns: u64,
    /// How much of the present gap the vCPU waited for another, by its own word.
    excused_ns: u64,
    /// The last sample.
    looked_ns: u64,
    seen: Progress,
}

/// Looks at each vCPU's progress word again and again, from one thread.
#[derive(Debug)]
pub struct ProgressWatch {
    started: Instant,
    vcpus: Vec<Watched>,
    /// Progress of all vCPUs together, when it last changed, and the last sample.
    total: u64,
    changed_ns: u64,
    looked_ns: u64,
}

impl ProgressWatch {
    /// A watch on vCPUs whose threads are `thread_ids` of this process.
    pub(crate) fn new(thread_ids: &[i32]) -> Self {
        let watched = |id: &i32| Watched {
            delay: RunDelay::of(*id),
            ..Watched::default()
        };
        Self {
            started: Instant::now(),
            vcpus: thread_ids.iter().map(watched).collect(),
            total: 0,
            changed_ns: 0,
            looked_ns: 0,
        }
    }

    /// Looks once.
    pub(crate) fn sample(&mut self, shared: &SharedRegion) {
        let now_ns = self.started.elapsed().as_nanos() as u64;
        for (index, vcpu) in (0..).zip(&mut self.vcpus) {
            let area = shared.vcpu(index);
            let context = Context(area.context.load(Ordering::Relaxed));
            let state = match context.wait().0 {
                Wait::None => State::Busy,
                Wait::Interrupt => State::Idle,
                _ => State::Waits,
            };
            let progress = area.progress.load(Ordering::Relaxed);
            let delay_ns = vcpu.delay.as_ref().and_then(RunDelay::ns).unwrap_or(0);
            vcpu.delay_now_ns = delay_ns;
            vcpu.look(now_ns, progress, delay_ns, state);
        }
        let total = self
            .vcpus
            .iter()
            .fold(0, |sum: u64, vcpu| sum.wrapping_add(vcpu.progress));
        if total != self.total {
            (self.total, self.changed_ns) = (total, now_ns);
            for vcpu in &mut self.vcpus {
                vcpu.delay_at_change_ns = vcpu.delay_now_ns;
            }
        }
        self.looked_ns = now_ns;
    }

    /// How long no vCPU at all has got on, in ns, as of the last sample.
    #[must_use]
    pub fn standstill_ns(&self) -> u64 {
        self.looked_ns - self.changed_ns
    }

    /// How long the vCPU that did so longest waited for a CPU meanwhile, in ns.
    #[must_use]
    pub fn standstill_delay_ns(&self) -> u64 {
        let delay = |vcpu: &Watched| vcpu.delay_now_ns.saturating_sub(vcpu.delay_at_change_ns);
        self.vcpus.iter().map(delay).max().unwrap_or(0)
    }

    /// What was seen so far, by vCPU.
    pub fn vcpus(&self) -> impl Iterator<Item = Progress> {
        self.vcpus.iter().map(|vcpu| vcpu.seen)
    }

    /// Whether the time without a CPU is known, and taken off, for every vCPU.
    #[must_use]
    pub fn is_net(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.delay.is_some())
    }

    /// Forgets the gaps so far: for a new phase.
    pub fn reset(&mut self) {
        for vcpu in &mut self.vcpus {
            vcpu.seen = Progress::default();
        }
    }
}

impl Watched {
    fn look(&mut self, now_ns: u64, progress: u64, delay_ns: u64, state: State) {
        let seen = &mut self.seen;
        let first = seen.samples == 0;
        seen.samples += 1;
        let interval = if first { 0 } else { now_ns - self.looked_ns };
        seen.longest_sample_ns = seen.longest_sample_ns.max(interval);
        self.looked_ns = now_ns;
        // A vCPU with nothing to do is not late with it.
        if !first && progress == self.progress && state != State::Idle {
            self.excused_ns += if state == State::Waits { interval } else { 0 };
            seen.open_gap_ns = now_ns - self.since_ns;
            seen.open_delay_ns = delay_ns.saturating_sub(self.delay_ns);
            return;
        }
        seen.open_delay_ns = 0;
        let raw = std::mem::take(&mut seen.open_gap_ns);
        let without_cpu = delay_ns.saturating_sub(self.delay_ns);
        seen.longest_raw_gap_ns = seen.longest_raw_gap_ns.max(raw);
        // Both may cover the same time; then the gap comes out shorter still.
        let excused = without_cpu + std::mem::take(&mut self.excused_ns);
        seen.longest_gap_ns = seen.longest_gap_ns.max(raw.saturating_sub(excused));
        self.progress = progress;
        self.since_ns = now_ns;
        self.delay_ns = delay_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(looks: &[(u64, u64, u64)]) -> Progress {
        let mut vcpu = Watched::default();
        looks
            .iter()
            .for_each(|&(now, progress, delay)| vcpu.look(now, progress, delay, State::Busy));
        vcpu.seen
    }

    #[test]
    fn a_gap_lasts_from_progress_to_the_last_look_without() {
        let seen = watched(&[
            (100, 1, 0),
            (110, 2, 0),
            (120, 2, 0),
            (140, 2, 0),
            (150, 3, 0),
        ]);
        assert_eq!((seen.longest_gap_ns, seen.longest_raw_gap_ns), (30, 30));
        assert_eq!(
            (seen.open_gap_ns, seen.longest_sample_ns, seen.samples),
            (0, 20, 5)
        );
    }

    #[test]
    fn a_late_sampler_is_no_gap() {
        let seen = watched(&[(0, 1, 0), (1000, 2, 0), (1010, 3, 0)]);
        assert_eq!((seen.longest_raw_gap_ns, seen.longest_sample_ns), (0, 1000));
    }

    #[test]
    fn time_without_a_cpu_is_taken_off() {
        // The wait for a CPU shows up only after it is over.
        let seen = watched(&[(0, 1, 50), (10, 1, 50), (20, 1, 50), (30, 2, 65)]);
        assert_eq!((seen.longest_gap_ns, seen.longest_raw_gap_ns), (5, 20));
    }

    #[test]
    fn time_in_which_it_waits_for_another_is_taken_off() {
        let mut vcpu = Watched::default();
        for (now, progress, waits) in [
            (0, 1, State::Waits),
            (10, 1, State::Busy),
            (30, 1, State::Waits),
            (35, 1, State::Busy),
            (40, 2, State::Busy),
            (60, 2, State::Busy),
            (70, 3, State::Busy),
        ] {
            vcpu.look(now, progress, 0, waits);
        }
        assert_eq!(
            (vcpu.seen.longest_gap_ns, vcpu.seen.longest_raw_gap_ns),
            (20, 35)
        );
    }

    #[test]
    fn an_idle_vcpu_is_not_late() {
        let mut vcpu = Watched::default();
        for (now, progress, state) in [
            (0, 1, State::Busy),
            (10, 1, State::Idle),
            (5000, 1, State::Idle),
            (5010, 1, State::Busy),
            (5020, 2, State::Busy),
        ] {
            vcpu.look(now, progress, 0, state);
        }
        assert_eq!(
            (vcpu.seen.open_gap_ns, vcpu.seen.longest_raw_gap_ns),
            (0, 10)
        );
    }

    #[test]
    fn a_gap_that_has_not_ended_is_told_apart() {
        let seen = watched(&[(0, 1, 70), (1000, 1, 370)]);
        assert_eq!((seen.open_gap_ns, seen.longest_raw_gap_ns), (1000, 0));
        assert_eq!(seen.open_delay_ns, 300);
        let seen = watched(&[(0, 1, 70), (1000, 1, 370), (1010, 2, 370)]);
        assert_eq!((seen.open_gap_ns, seen.open_delay_ns), (0, 0));
    }
}
