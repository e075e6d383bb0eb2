//! The end of a run: whoever still runs is stopped, the guest is audited.

use super::signs::Signs;
use super::{Session, Stage, host_waits};
use crate::guest_record::line;
use crate::record::{Ending, Outcome};
use crate::run::holder::Holder;
use crate::run::{dma, waiting};
use crate::units::Span;
use std::sync::atomic::Ordering;
use std::time::Duration;
use underfoot_abi::{GuestState, RecordedPhase, ReportKind};
use underfoot_vmm::Wake;

/// What the guest gets for its audit, and for each GiB of its memory on top of that; as long as it gives
/// signs.
const AUDIT: Duration = Duration::from_secs(20);
const AUDIT_EACH_GIB: Duration = Duration::from_secs(10);
/// What a guest gets that found itself damaged (where a lock's word was lost, nobody ever takes it),
/// or whose run was interrupted: somebody waits.
const HASTY_AUDIT: Duration = Duration::from_secs(5);
/// A guest that gives no sign for so long hangs: no host is so busy.
pub const SILENCE: Span = Span::from_ms(5_000);
/// Silence that is worth a word.
const TOLD_SILENCE: Duration = Duration::from_secs(1);
/// How long a vCPU got nowhere before the audit is told from here on.
const HANGING_NS: u64 = 1_000_000_000;

impl Session<'_> {
    /// Ends movers and who disturbs them, in this order, and keeps what they say of it; nothing happens the second time.
    pub(super) fn end_moving(&mut self) {
        if let Some(holder) = &self.holder {
            holder.request_end();
        }
        let Some(engine) = &mut self.engine else {
            return;
        };
        let replug = engine.end_replugging();
        let replug = replug.iter().map(|error| crate::error::chain(error));
        self.causes.extend(replug);
        let movers = engine.end_moving();
        self.causes
            .extend(movers.iter().map(|error| crate::error::chain(error)));
    }

    /// Stops movers, guest, device and fault service, in this order; nothing runs afterwards.
    pub(super) fn end(&mut self) -> Outcome {
        self.end_moving();
        let mut causes = std::mem::take(&mut self.causes);
        // What follows is not measured.
        if let Some(antagonists) = &mut self.antagonists {
            self.antagonist_records = antagonists.join();
        }
        (self.progress)(Stage::Audit, 0);
        let healthy = !matches!(
            self.ended,
            Some(Outcome {
                ending: Ending::Failed | Ending::Watchdog,
                ..
            })
        ) || !causes.is_empty();
        let patience = if healthy {
            self.audit_patience()
        } else {
            Duration::ZERO
        };
        let mut signs = Signs::new(self.machine.shared());
        // What the host saw when it lost its patience.
        let mut silent_by = None;
        let (threads, engine) = (self.machine.thread_ids(), self.engine.as_ref());
        let progress = &mut self.progress;
        let stopped = self.machine.stop_while(patience, |shared| {
            let silent = signs.look(shared);
            if silent >= TOLD_SILENCE {
                progress(Stage::Silent, silent.as_nanos() as u64);
            } else {
                progress(Stage::Audit, 0);
            }
            if silent >= SILENCE.duration() {
                silent_by = Some(host_waits::describe(&threads, engine));
            }
            silent_by.is_none()
        });
        // Now that every vCPU is gone, it waits for none.
        self.holds = self.holder.take().map_or(0, Holder::join);
        self.audited = self.machine.shared().state() == Some(GuestState::Done);
        self.backlog_record = self.backlog.finish(self.machine.shared());
        if let Some(reader) = &mut self.stalls {
            let (counts, own) = reader.finish(self.machine.shared());
            if self.moving_ns > 0 {
                (self.stall_counts, self.own_window) = (counts, own);
            }
            if let Some(witness) = reader.witness() {
                self.attribution = Some(witness.finish(self.machine.shared()));
                let phases = [RecordedPhase::Control, RecordedPhase::Moving];
                self.preempted = Some(phases.map(|phase| witness.preempted(phase)));
            }
            self.windows_dropped = reader.windows_dropped();
            // Nothing is in flight any more.
            self.compared = reader
                .guest_frames()
                .filter(|_| self.audited)
                .map(|frames| frames.compare(&self.machine, self.experiment.variant));
        }
        if let Some(signal) = stopped.signal {
            self.note(Wake::Signal(signal));
        }
        if healthy && !stopped.in_order && stopped.signal.is_none() {
            match stopped.exits.first() {
                Some(_) => self.end_by_exits(&stopped.exits),
                None => self.end_by_hanging(silent_by.as_deref()),
            }
        }
        self.end_by_want_of_memory();
        // While the device is registered, and nothing is being invalidated any more.
        if let Some(engine) = &self.engine {
            self.registry = dma::look(engine);
        }
        // The guest's last descriptors are done, and its pages are still brought in.
        causes.extend(dma::stop(self.dma.as_mut()).map(|error| crate::error::chain(&error)));
        if let Some(engine) = &mut self.engine {
            causes.extend(
                engine
                    .end_serving()
                    .iter()
                    .map(|error| crate::error::chain(error)),
            );
        }
        if !causes.is_empty() {
            self.ended = Some(Outcome {
                ending: Ending::Failed,
                message: Some(causes.join("; ")),
            });
        }
        self.ended.take().unwrap_or(Outcome {
            ending: Ending::Done,
            message: None,
        })
    }

    /// Who had got nowhere when the moving phase ended, and for how long, if that was long.
    fn hanging(&self) -> Option<(String, u64)> {
        let gaps = self.gaps.iter().map(|gap| gap.open_gap_ns).enumerate();
        let longest = gaps.max_by_key(|(_, gap)| *gap);
        let vcpu = longest.map(|(vcpu, gap)| (format!("vCPU {vcpu}"), gap));
        let guest = Some(("the guest".to_owned(), self.standstill_ns));
        vcpu.into_iter()
            .chain(guest)
            .find(|(_, gap)| *gap > HANGING_NS)
    }

    /// `silent_by` is what the host saw of a guest that did nothing for too long.
    fn end_by_hanging(&mut self, silent_by: Option<&str>) {
        let mut asked = "did not stop when it was asked to".to_owned();
        let mut waits = waiting::describe(self.machine.shared());
        if let Some(host) = silent_by {
            asked.push_str(&format!(", and did nothing for {SILENCE}"));
            waits.push_str(&format!(". On the host: {host}"));
        }
        let who = match self.hanging() {
            Some((who, ns)) => {
                format!(
                    "{who} got nowhere for {} and the guest",
                    crate::human::time(ns)
                )
            }
            None => "the guest".to_owned(),
        };
        self.end_by(Ending::Watchdog, format!("{who} {asked}: {waits}"));
    }

    /// A workload that came to the end of nothing while memory was short wants more of it.
    fn end_by_want_of_memory(&mut self) {
        let header = self.machine.shared().header();
        let reclaims = header.reclaims.load(Ordering::Relaxed);
        if self.audited && reclaims > 0 && self.did_nothing() {
            let what = format!(
                "its workload, which finished nothing while it was measured (room was made {} times)",
                crate::human::count(reclaims),
            );
            let mut message = self.too_little_memory_for(&what);
            let mut reports = self.machine.shared().reports().into_iter();
            let report = reports.find(|report| report.kind == Ok(ReportKind::OutOfMemory));
            if let Some(report) = report {
                message = format!("{message}; {}", line(&report));
            }
            self.end_by(Ending::Failed, message);
        }
    }

    fn audit_patience(&self) -> Duration {
        let shared = self.machine.shared();
        if shared.state() == Some(GuestState::Booting) {
            // It does not know the question yet, or is not ours.
            return Duration::ZERO;
        }
        let interrupted = matches!(
            self.ended,
            Some(Outcome {
                ending: Ending::Interrupted { .. },
                ..
            })
        );
        let damaged = |index| shared.vcpu(index).errors.load(Ordering::Relaxed) > 0;
        if interrupted || (0..shared.cpus()).any(damaged) {
            HASTY_AUDIT
        } else {
            let bytes = self.experiment.memory.bytes();
            AUDIT + AUDIT_EACH_GIB * u32::try_from(bytes.div_ceil(1 << 30)).unwrap_or(u32::MAX)
        }
    }
}
