//! What each CPU measures about itself: no lock, no allocation, no system call.
//!
//! Every histogram has one writer, the CPU whose [`VcpuArea`](underfoot_abi::VcpuArea) it lies in,
//! outside of interrupts; what an interrupt handler records must be a metric of its own.

mod probe;
mod report;

pub use probe::Probe;
pub use report::report;

use crate::Cpu;
use crate::arch::{place, tsc};
use core::panic::Location;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, Release};
use underfoot_abi::{
    Context, InterruptRecord, Metric, PAGE_SIZE, PLACE_BYTES, Phase, RecordedPhase, StallRecord,
};

/// The recorded phase that this word of [`Header::phase`](underfoot_abi::Header) names, if any.
#[inline]
const fn recorded(phase: u32) -> Option<RecordedPhase> {
    if phase == Phase::Control as u32 {
        Some(RecordedPhase::Control)
    } else if phase == Phase::Moving as u32 {
        Some(RecordedPhase::Moving)
    } else {
        None
    }
}

/// The set of histograms that this CPU fills at the moment; `None` while nothing is recorded.
#[inline]
#[must_use]
pub fn phase(cpu: &Cpu) -> Option<RecordedPhase> {
    recorded(cpu.header.phase.load(Relaxed))
}

/// Records `ns` in the histogram of `metric` for `phase`.
#[inline]
pub fn record(cpu: &Cpu, phase: RecordedPhase, metric: Metric, ns: u64) {
    cpu.preempt_disable();
    cpu.area.histograms[phase as usize][metric as usize].record(ns);
    cpu.preempt_enable();
}

/// A stretch of time that is being measured. One that begins in one phase and ends in another is
/// recorded in neither.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Span {
    start_tsc: u64,
    phase: Option<RecordedPhase>,
}

impl Span {
    /// Begins now.
    #[inline]
    pub fn start(cpu: &Cpu) -> Self {
        let phase = phase(cpu);
        Self {
            // An unrecorded span needs no time, and the fenced TSC read is the dear part.
            start_tsc: if phase.is_some() { tsc() } else { 0 },
            phase,
        }
    }

    /// When it began, and the header's phase then: what [`Self::resume`] takes.
    #[inline]
    pub(crate) fn into_parts(self) -> (u64, u32) {
        let phase = match self.phase {
            Some(RecordedPhase::Control) => Phase::Control,
            Some(RecordedPhase::Moving) => Phase::Moving,
            None => Phase::Warmup,
        };
        (self.start_tsc, phase as u32)
    }

    /// A span that began at `start_tsc`, when the header's phase was `phase_word`.
    #[inline]
    pub(crate) const fn resume(start_tsc: u64, phase_word: u32) -> Self {
        Self {
            start_tsc,
            phase: recorded(phase_word),
        }
    }

    /// Ends now, and is recorded as `metric`.
    #[inline]
    pub fn finish(self, cpu: &Cpu, metric: Metric) {
        if let Some(now) = self.now() {
            self.finish_at(cpu, metric, now);
        }
    }

    /// Ends at the TSC value `end_tsc`, and is recorded as `metric`.
    #[inline]
    pub(crate) fn finish_at(self, cpu: &Cpu, metric: Metric, end_tsc: u64) {
        let Some(set) = self.phase else { return };
        if phase(cpu) == Some(set) {
            record(
                cpu,
                set,
                metric,
                cpu.ns(end_tsc.saturating_sub(self.start_tsc)),
            );
        }
    }

    /// The TSC now, if the span is recorded at all.
    #[inline]
    pub(crate) fn now(self) -> Option<u64> {
        self.phase.map(|_| tsc())
    }

    /// The span that begins at `tsc` in the phase in which this one began.
    #[inline]
    pub(crate) const fn follow(self, tsc: u64) -> Self {
        Self {
            start_tsc: tsc,
            phase: self.phase,
        }
    }
}

/// Does one access to `address` and times it: [`Metric::Access`], and above the threshold
/// [`Metric::Stall`] and a [`StallRecord`] too. `op` should touch one page only.
#[inline]
pub fn access<T>(cpu: &Cpu, address: usize, op: impl FnOnce() -> T) -> T {
    let Some(set) = phase(cpu) else { return op() };
    // Another thread's turn is no part of the access.
    cpu.preempt_disable();
    let outer = begin_access(cpu, address);
    let start_tsc = tsc();
    cpu.area.access_began_tsc.store(start_tsc, Release);
    let value = op();
    let end_tsc = tsc();
    end_access(cpu, outer);
    cpu.preempt_enable();
    let page = address / PAGE_SIZE;
    if phase(cpu) == Some(set) {
        let ns = cpu.ns(end_tsc.saturating_sub(start_tsc));
        record(cpu, set, Metric::Access, ns);
        if ns > u64::from(cpu.header.stall_threshold_ns) {
            let [code_page, stack_page] = place().map(|at| (at / PAGE_SIZE as u64) as u32);
            stall(
                cpu,
                set,
                ns,
                StallRecord {
                    start_tsc,
                    end_tsc,
                    gva: address as u64,
                    context: 0,
                    code_page,
                    stack_page,
                    touched_tsc: cpu.area.touches.last(page, start_tsc),
                },
            );
        }
    }
    cpu.area.touches.note(page, end_tsc);
    value
}

/// Publishes what is about to be accessed, so that whoever finds this CPU waiting knows for which page.
/// Returns what was published before, by what an interrupt came in the midst of.
#[inline]
fn begin_access(cpu: &Cpu, address: usize) -> [u64; 2] {
    let area = cpu.area;
    let outer = [&area.access_began_tsc, &area.access_gva].map(|word| word.load(Relaxed));
    area.access_began_tsc.store(0, Relaxed);
    // Release, as the time that follows: the host reads time, address and time again, and who reads this
    // address sees the time before it gone.
    area.access_gva.store(address as u64, Release);
    outer
}

/// The access is over.
#[inline]
fn end_access(cpu: &Cpu, outer: [u64; 2]) {
    let area = cpu.area;
    area.access_began_tsc.store(0, Relaxed);
    if outer[0] != 0 {
        area.access_gva.store(outer[1], Release);
        area.access_began_tsc.store(outer[0], Release);
    }
}

/// The running thread met a page of which KVM said that it is away, and waits as `how` says
/// ([`SWITCHED`](underfoot_abi::Context::SWITCHED), [`EARLY`](underfoot_abi::Context::EARLY) or
/// [`HALTED`](underfoot_abi::Context::HALTED)).
pub fn page_wait(cpu: &Cpu, how: u64) {
    let local = cpu.sched.local(cpu);
    local.page_wait_tsc.store(tsc(), Relaxed);
    local.page_wait.store(how, Relaxed);
}

/// An access whose thread lost its CPU in the midst of it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Suspended([u64; 2]);

/// The access that this CPU is in the midst of, if it is in one.
#[must_use]
pub fn is_in_access(cpu: &Cpu) -> bool {
    cpu.area.access_began_tsc.load(Relaxed) != 0
}

/// Does the work of an interrupt, and tells the host of it if it came in the midst of a timed access. Interrupts are
/// masked before and after it. `due_tsc` is when a tick that is part of it was due.
#[inline]
pub fn interrupt(cpu: &Cpu, due_tsc: Option<u64>, work: impl FnOnce()) {
    let told = is_in_access(cpu) && phase(cpu).is_some();
    let start_tsc = if told { tsc() } else { 0 };
    work();
    if told {
        let end_tsc = tsc();
        cpu.area.interrupts.push(InterruptRecord {
            start_tsc,
            end_tsc,
            due_tsc,
        });
    }
}

/// Another thread is about to run: the access that this one is in the midst of is not the CPU's meanwhile.
pub fn suspend_access(cpu: &Cpu) -> Suspended {
    let area = cpu.area;
    let access = [&area.access_began_tsc, &area.access_gva].map(|word| word.load(Relaxed));
    area.access_began_tsc.store(0, Relaxed);
    Suspended(access)
}

/// Undoes [`suspend_access`], when its thread runs again.
pub fn resume_access(cpu: &Cpu, Suspended(access): Suspended) {
    end_access(cpu, access);
}

#[cold]
fn stall(cpu: &Cpu, set: RecordedPhase, ns: u64, stall: StallRecord) {
    record(cpu, set, Metric::Stall, ns);
    let local = cpu.sched.local(cpu);
    let told = local.page_wait_tsc.load(Relaxed) >= stall.start_tsc;
    let how = if told {
        local.page_wait.load(Relaxed)
    } else {
        0
    };
    let phase = match set {
        RecordedPhase::Control => 0,
        RecordedPhase::Moving => Context::MOVING,
    };
    cpu.preempt_disable();
    cpu.area.stalls.push(StallRecord {
        context: cpu.context().0 | how | phase,
        ..stall
    });
    cpu.preempt_enable();
}

/// From now on the running thread's counters are those from `first` on: it is one of a part of
/// `mix`.
pub fn count_from(cpu: &Cpu, first: usize) {
    cpu.sched.local(cpu).counters.store(first as u32, Relaxed);
}

/// Where the running thread's counters begin.
#[inline]
fn first_counter(cpu: &Cpu) -> usize {
    cpu.sched.local(cpu).counters.load(Relaxed) as usize
}

/// What `counter` names among the counters of the running thread's workload, if anything is recorded
/// now.
#[inline]
fn counter(cpu: &Cpu, counter: usize) -> Option<&AtomicU64> {
    let set = phase(cpu)? as usize;
    Some(&cpu.area.counters[set][first_counter(cpu) + counter])
}

/// Counts `n` of what `which` names among the workload's counters, if anything is recorded now. By
/// threads alone: in a bottom half the running thread may be another workload's.
#[inline]
pub fn count(cpu: &Cpu, which: usize, n: u64) {
    if let Some(word) = counter(cpu, which) {
        add(cpu, word, n);
    }
}

/// Counts one operation of the workload, and in a part one of the whole.
#[inline]
pub fn operation(cpu: &Cpu) {
    add(cpu, &cpu.area.progress, 1);
    let Some(set) = phase(cpu) else { return };
    let counters = &cpu.area.counters[set as usize];
    add(cpu, &counters[0], 1);
    let first = first_counter(cpu);
    if first != 0 {
        add(cpu, &counters[first], 1);
    }
}

/// Adds to a word that only threads of this CPU write.
#[inline]
fn add(cpu: &Cpu, word: &AtomicU64, n: u64) {
    cpu.preempt_disable();
    word.store(word.load(Relaxed) + n, Relaxed);
    cpu.preempt_enable();
}

/// Raises what `which` names among the workload's counters to `value`, if anything is recorded now. By
/// threads alone, as [`count`].
#[inline]
pub fn peak(cpu: &Cpu, which: usize, value: u64) {
    let Some(cell) = counter(cpu, which) else {
        return;
    };
    cpu.preempt_disable();
    cell.store(cell.load(Relaxed).max(value), Relaxed);
    cpu.preempt_enable();
}

/// Counts `words` check words as verified.
#[inline]
pub fn checked(cpu: &Cpu, words: u64) {
    add(cpu, &cpu.area.checked, words);
}

/// Tells the host, which waits for it, that the audit has looked at something more.
pub fn audited(cpu: &Cpu) {
    cpu.header.audited.fetch_add(1, Relaxed);
}

/// Counts an update that this CPU made to what the audit will look at.
#[inline]
pub fn updated(cpu: &Cpu) {
    add(cpu, &cpu.area.updates, 1);
}

/// Counts an integrity error: the word at `address` held `found`. The first one of each CPU is kept,
/// and who found it.
#[cold]
#[track_caller]
pub fn error(cpu: &Cpu, address: usize, found: u64) {
    let area = cpu.area;
    // From interrupts too.
    if area.errors.fetch_add(1, Relaxed) == 0 {
        area.first_error[0].store(address as u64, Relaxed);
        area.first_error[1].store(found, Relaxed);
        let place = Location::caller();
        area.first_error_line.store(place.line(), Relaxed);
        let path = place.file().as_bytes();
        let end = &path[path.len().saturating_sub(PLACE_BYTES)..];
        report::copy(&area.first_error_file, end);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
