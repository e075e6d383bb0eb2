//! Threads that take CPU time from the guest on purpose, as other work of a busy host does.

use super::{RunError, cpu_time};
use crate::experiment::Experiment;
use crate::names::Role;
use crate::record::AntagonistRecord;
use fastrand::Rng;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};
use underfoot_abi::Phase;

/// In each of these an antagonist wants a CPU once, for its duty's share.
const PERIOD_NS: u64 = 10_000_000;
/// Looks at the clock are that many spins apart.
const SPINS: u32 = 64;
/// Sets these choices apart from others of the same seed.
const STREAM: u64 = 0x616e_7461_676f_0000;

/// The antagonists of a run. When it is dropped, they have ended.
pub struct Antagonists {
    gate: Arc<Gate>,
    threads: Vec<Antagonist>,
}

/// What all of them look at.
#[derive(Default)]
struct Gate {
    /// When periods begin to be counted, or `None` if there will be none; until it is set they wait.
    start: OnceLock<Option<Instant>>,
    end: AtomicBool,
}

struct Antagonist {
    thread: Option<JoinHandle<()>>,
    /// Spent so far, as it says itself once a period at least, and when it ends.
    cpu_ns: Arc<AtomicU64>,
    record: AntagonistRecord,
}

impl Antagonists {
    /// Starts all that are asked for. None spins before every one is where it belongs.
    pub fn start(experiment: &Experiment) -> Result<Self, RunError> {
        let mut all = Self {
            gate: Arc::default(),
            threads: Vec::new(),
        };
        let Some(asked) = experiment.antagonists else {
            return Ok(all);
        };
        let mut rng = Rng::with_seed(experiment.seed.0 ^ STREAM);
        let placement = experiment.placement(Role::Antagonist);
        for index in 0..asked.count() {
            let beat = Beat::new(asked.duty(), rng.u64(..PERIOD_NS));
            let cpu_ns = Arc::new(AtomicU64::new(0));
            let (gate, theirs, placement) = (all.gate.clone(), cpu_ns.clone(), placement.clone());
            let (told, placed) = sync_channel(1);
            let name = format!("antagonist-{index}");
            let body = move || {
                let applied = placement.apply(index);
                let go = applied.is_ok();
                // The receiver waits for exactly this.
                let _ = told.send(applied);
                if go {
                    take_until(&gate, &beat, &theirs);
                }
            };
            let thread = Builder::new().name(name.clone()).spawn(body);
            let thread = thread.map_err(|source| RunError::Thread { name, source })?;
            all.threads.push(Antagonist {
                thread: Some(thread),
                cpu_ns,
                record: AntagonistRecord::default(),
            });
            if let Ok(applied) = placed.recv() {
                applied.map_err(RunError::Antagonist)?;
            }
        }
        let _ = all.gate.start.set(Some(Instant::now()));
        Ok(all)
    }

    /// What each has spent so far.
    pub fn spent_ns(&self) -> Vec<u64> {
        let spent = |one: &Antagonist| one.cpu_ns.load(Ordering::Relaxed);
        self.threads.iter().map(spent).collect()
    }

    /// `phase` is over, in whose beginning each had spent `before`.
    pub fn note(&mut self, phase: Phase, before: &[u64]) {
        let now = self.spent_ns();
        for ((one, now), before) in self.threads.iter_mut().zip(now).zip(before) {
            match phase {
                Phase::Control => one.record.control_cpu_ns = now - before,
                Phase::Moving => one.record.moving_cpu_ns = now - before,
                _ => {}
            }
        }
    }

    /// Ends and joins all of them; what each took.
    pub fn join(&mut self) -> Vec<AntagonistRecord> {
        self.request_end();
        let join = |one: &mut Antagonist| {
            if let Some(Err(panic)) = one.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            AntagonistRecord {
                cpu_ns: one.cpu_ns.load(Ordering::Relaxed),
                ..one.record
            }
        };
        self.threads.iter_mut().map(join).collect()
    }

    fn request_end(&self) {
        // Nothing else is told by it.
        self.gate.end.store(true, Ordering::Relaxed);
        // Those who still wait, as not all could be started, go home.
        let _ = self.gate.start.set(None);
    }
}

impl Drop for Antagonists {
    fn drop(&mut self) {
        self.request_end();
        for thread in self.threads.iter_mut().filter_map(|one| one.thread.take()) {
            // Only reached on the way out of another failure, which is told instead.
            let _ = thread.join();
        }
    }
}

/// When an antagonist wants a CPU.
struct Beat {
    /// Of each period.
    busy_ns: u64,
    /// By so much its periods begin later than those of the gate.
    offset_ns: u64,
}

/// What an antagonist does next, and until when, in ns behind the gate's opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Spin(u64),
    Sleep(u64),
}

impl Beat {
    fn new(duty: u8, offset_ns: u64) -> Self {
        Self {
            busy_ns: PERIOD_NS * u64::from(duty) / 100,
            offset_ns,
        }
    }

    fn turn(&self, now_ns: u64) -> Turn {
        let Some(since_first) = now_ns.checked_sub(self.offset_ns) else {
            return Turn::Sleep(self.offset_ns);
        };
        let begun = now_ns - since_first % PERIOD_NS;
        let (busy_until, next) = (begun + self.busy_ns, begun + PERIOD_NS);
        if now_ns < busy_until {
            Turn::Spin(busy_until)
        } else {
            Turn::Sleep(next)
        }
    }
}

fn take_until(gate: &Gate, beat: &Beat, cpu_ns: &AtomicU64) {
    let Some(start) = *gate.start.wait() else {
        return;
    };
    let now_ns = || start.elapsed().as_nanos() as u64;
    // A number that is read by itself: nothing is ordered by it.
    let publish = || cpu_ns.store(cpu_time::thread_ns(), Ordering::Relaxed);
    while !gate.end.load(Ordering::Relaxed) {
        match beat.turn(now_ns()) {
            Turn::Spin(until_ns) => {
                while now_ns() < until_ns && !gate.end.load(Ordering::Relaxed) {
                    (0..SPINS).for_each(|_| spin_loop());
                }
                publish();
            }
            Turn::Sleep(until_ns) => sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns()))),
        }
    }
    publish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_spun_for_its_share_and_slept_for_the_rest() {
        const MS: u64 = 1_000_000;
        for (duty, now_ms, turn) in [
            (30, 0, Turn::Sleep(4 * MS)),
            (30, 4, Turn::Spin(7 * MS)),
            (30, 6, Turn::Spin(7 * MS)),
            (30, 7, Turn::Sleep(14 * MS)),
            (30, 13, Turn::Sleep(14 * MS)),
            (30, 25, Turn::Spin(27 * MS)),
            (100, 13, Turn::Spin(14 * MS)),
            (100, 14, Turn::Spin(24 * MS)),
        ] {
            assert_eq!(
                Beat::new(duty, 4 * MS).turn(now_ms * MS),
                turn,
                "{duty} {now_ms}"
            );
        }
    }

    #[test]
    fn every_instant_has_a_turn_that_ends_later() {
        for duty in 1..=100 {
            let beat = Beat::new(duty, 3);
            let mut now = 0;
            let mut spun = 0;
            while now < 3 + 5 * PERIOD_NS {
                let until = match beat.turn(now) {
                    Turn::Spin(until) => {
                        spun += until - now;
                        until
                    }
                    Turn::Sleep(until) => until,
                };
                assert!(until > now);
                now = until;
            }
            assert_eq!(spun, 5 * PERIOD_NS * u64::from(duty) / 100, "{duty}");
        }
    }

    #[test]
    fn who_waits_at_the_gate_goes_home() {
        let gate = Arc::new(Gate::default());
        let (theirs, cpu_ns) = (gate.clone(), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn(move || take_until(&theirs, &Beat::new(100, 0), &cpu_ns));
        let all = Antagonists {
            gate,
            threads: vec![Antagonist {
                thread: Some(thread),
                cpu_ns: Arc::default(),
                record: AntagonistRecord::default(),
            }],
        };
        drop(all);
    }
}
