//! Everything that is seen beside the stalls while the run lasts, and the judgement of each stall.

use super::window_log::Window;
use crate::attribution::{Judge, Judged, Sources, Tally};
use crate::histogram::Histogram;
use crate::record::{AgreementRecord, Attribution, StallLine};
use crate::timeline::{self, ClockMap, OffCpu, PageWindows, Span, SpanLog};
use std::collections::BTreeMap;
use std::io;
use underfoot_abi::{Context, InterruptRecord, PAGE_SIZE, RecordedPhase, StallRecord};
use underfoot_vmm::{ClockPair, Machine, RunDelay, SharedRegion, SwitchRing};

/// How long after its end a stall is judged: a mover that was preempted tells of its window late.
const PATIENCE_MS: u64 = 100;
/// How long sources remember: longer than any stall that can be told in full.
const MEMORY_MS: u64 = 2_000;
/// How long windows are remembered.
const WINDOWS_MS: u64 = 1_000;
/// Readings of the clocks at each look, the closest of which counts.
const READINGS: u32 = 4;

/// Sees who takes the vCPUs' time.
pub struct Witness {
    /// By vCPU; why there are none otherwise.
    rings: Result<Vec<SwitchRing>, String>,
    /// By vCPU: how long its thread has waited for a CPU, and had when the control phase began. `None` where the kernel does
    /// not tell.
    delays: Vec<Option<(RunDelay, u64)>>,
    /// When the moving phase was over.
    agreement: Vec<AgreementRecord>,
    clock: ClockMap,
    sources: Sources,
    judge: Judge,
    /// Not judged yet, in no order.
    waiting: Vec<(u32, StallRecord)>,
    tallies: [Tally; 2],
    phase: Option<RecordedPhase>,
    began_tsc: u64,
    tsc_khz: u32,
    /// When the control phase began: interrupts that the guest had dropped, vCPUs together.
    interrupts_dropped_before: u64,
}

impl Witness {
    /// Begins with the control phase.
    pub fn start(machine: &Machine, seed: u64) -> Self {
        let thread_ids = machine.vcpus().thread_ids();
        let tsc_khz = machine.tsc_khz();
        let rings = thread_ids.iter().map(|id| SwitchRing::open(*id));
        let rings = rings.collect::<io::Result<Vec<_>>>();
        let rings = rings.map_err(|error| refused(&error));
        let pair = ClockPair::read(READINGS * 16);
        let memory = MEMORY_MS * u64::from(tsc_khz);
        let shared = machine.shared();
        let vcpus = shared.cpus() as usize;
        let off_cpu = match rings {
            Ok(_) => vcpus,
            Err(_) => 0,
        };
        Self {
            rings,
            delays: thread_ids.iter().map(|id| delay(*id)).collect(),
            agreement: Vec::new(),
            clock: ClockMap::new(tsc_khz, pair),
            sources: Sources {
                off_cpu: (0..off_cpu).map(|_| OffCpu::new(tsc_khz, memory)).collect(),
                interrupts: (0..vcpus).map(|_| SpanLog::new(memory)).collect(),
                windows: PageWindows::new(shared.frames(), WINDOWS_MS * u64::from(tsc_khz)),
            },
            judge: Judge::new(tsc_khz, WINDOWS_MS * u64::from(tsc_khz), seed),
            waiting: Vec::new(),
            tallies: Default::default(),
            phase: Some(RecordedPhase::Control),
            began_tsc: pair.tsc,
            tsc_khz,
            interrupts_dropped_before: interrupts_dropped(shared),
        }
    }

    /// Pages move from now on.
    pub fn begin_moving(&mut self) {
        self.phase = Some(RecordedPhase::Moving);
        self.judge.moving_since(underfoot_migrator::clock::now());
    }

    /// The moving phase is over; threads are still there.
    pub fn end_moving(&mut self) {
        self.look();
        self.phase = None;
        self.agreement = self.agreement();
    }

    /// A window that has closed.
    pub fn window(&mut self, window: &Window) {
        let span = Span::new(window.start_tsc, window.end_tsc);
        self.sources.windows.add(window.range, span);
    }

    /// A stall that was over when this was called.
    pub fn stall(&mut self, vcpu: u32, stall: StallRecord) {
        self.waiting.push((vcpu, stall));
    }

    /// An interrupt that was over when this was called.
    pub fn interrupt(&mut self, vcpu: u32, record: InterruptRecord) {
        if let Some(log) = self.sources.interrupts.get_mut(vcpu as usize) {
            log.add(Span::new(record.start_tsc, record.end_tsc));
        }
    }

    /// Reads what has come since the last call, and judges stalls that ended a while ago.
    pub fn look(&mut self) {
        let pair = ClockPair::read(READINGS);
        self.clock.look(pair);
        let (clock, phase) = (&self.clock, self.phase);
        let rings = self.rings.iter_mut().flatten();
        for (ring, off) in rings.zip(&mut self.sources.off_cpu) {
            ring.drain(|record| off.note(record, clock, phase));
        }
        let patience = PATIENCE_MS * u64::from(self.tsc_khz);
        self.judge_until(pair.tsc.saturating_sub(patience));
    }

    fn judge_until(&mut self, tsc: u64) {
        let is_ripe = |waiting: &mut (u32, StallRecord)| waiting.1.end_tsc <= tsc;
        let mut ripe: Vec<_> = self.waiting.extract_if(.., is_ripe).collect();
        ripe.sort_unstable_by_key(|(_, stall)| stall.end_tsc);
        for (vcpu, stall) in ripe {
            let judged = self.judge.judge(&self.sources, vcpu, stall);
            let phase = usize::from(stall.context & Context::MOVING != 0);
            self.tallies[phase].add(judged);
        }
    }

    /// Judges what is left, once guest and movers have ended, and says it all.
    pub fn finish(&mut self, shared: &SharedRegion) -> Attribution {
        self.look();
        self.judge_until(u64::MAX);
        let mut lines = Vec::new();
        let mut left_out = 0;
        for (phase, tally) in ["control", "moving"].into_iter().zip(&self.tallies) {
            let (longest, others) = tally.longest();
            left_out += others;
            let line = |judged: &Judged| self.line(shared, phase, judged);
            lines.extend(longest.iter().map(line));
        }
        let [control, moving] = self.tallies.each_ref();
        Attribution {
            moving: moving.record(self.tsc_khz),
            control: control.record(self.tsc_khz),
            clock: self.rings.is_ok().then(|| self.clock.record()),
            agreement: std::mem::take(&mut self.agreement),
            lost: BTreeMap::from([
                (
                    "switches",
                    self.sources.off_cpu.iter().map(OffCpu::lost).sum(),
                ),
                (
                    "interrupts",
                    interrupts_dropped(shared).saturating_sub(self.interrupts_dropped_before),
                ),
            ]),
            longest: lines,
            left_out,
        }
    }

    /// Lengths of the times in which vCPUs wanted a CPU, of `phase`; why they are not known otherwise.
    pub fn preempted(&self, phase: RecordedPhase) -> Result<Histogram, String> {
        self.rings.as_ref().map_err(String::clone)?;
        let mut all = Histogram::new();
        let off = self.sources.off_cpu.iter();
        off.for_each(|off| all.merge(off.lengths(phase)));
        Ok(all)
    }

    fn agreement(&self) -> Vec<AgreementRecord> {
        let agreement = (0..).zip(&self.delays).map(|(vcpu, delay)| {
            let off = self.sources.off_cpu.get(vcpu as usize);
            let phases = [RecordedPhase::Control, RecordedPhase::Moving];
            let sum = |off: &OffCpu| phases.map(|phase| off.lengths(phase).sum()).iter().sum();
            let since =
                |(delay, before): &(RunDelay, u64)| Some(delay.ns()?.saturating_sub(*before));
            AgreementRecord {
                vcpu,
                preempted_ns: off.map(sum),
                run_delay_ns: delay.as_ref().and_then(since),
            }
        });
        agreement.collect()
    }

    fn line(&self, shared: &SharedRegion, phase: &'static str, judged: &Judged) -> StallLine {
        let stall = judged.record;
        let context = Context(stall.context);
        let ns = |ticks: u64| timeline::ns(ticks, self.tsc_khz);
        let byte = shared.page_byte(stall.gva / PAGE_SIZE as u64);
        StallLine {
            phase,
            vcpu: judged.vcpu,
            start_ns: ns(stall.start_tsc.saturating_sub(self.began_tsc)),
            stall_ns: ns(judged.ticks()),
            gva: stall.gva,
            kind: byte.map(|byte| byte.kind().name()),
            code_page: stall.code_page,
            stack_page: stall.stack_page,
            rcu_depth: context.rcu_depth(),
            locks: context.locks(),
            masked: context.masked(),
            in_interrupt: context.in_interrupt(),
            causes: crate::attribution::causes(&judged.parts(), self.tsc_khz),
            pieces: judged
                .pieces
                .iter()
                .map(|piece| {
                    (
                        piece.cause.name(),
                        ns(piece.span.start.saturating_sub(stall.start_tsc)),
                    )
                })
                .collect(),
        }
    }
}

/// Why switches are not recorded, and what that means.
fn refused(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; CAP_PERFMON or kernel.perf_event_paranoid=2 allows it, in a container its profile of system calls too"
        }
        _ => "",
    };
    format!(
        "perf_event_open: {error}; time that vCPUs were without a CPU stays unexplained{remedy}"
    )
}

fn interrupts_dropped(shared: &SharedRegion) -> u64 {
    let dropped = |index| shared.vcpu(index).interrupts.dropped();
    (0..shared.cpus()).map(dropped).fold(0, u64::saturating_add)
}

fn delay(thread_id: i32) -> Option<(RunDelay, u64)> {
    let delay = RunDelay::of(thread_id)?;
    let before = delay.ns()?;
    Some((delay, before))
}
