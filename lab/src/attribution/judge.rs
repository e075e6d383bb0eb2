//! What is known of each stall, and what windows at other times would have explained of it.

use super::parts::tile;
use super::{Bounds, Cause, Evidence, Judged, Parts, attribute};
use crate::timeline::{OffCpu, PageWindows, Span, SpanLog};
use std::collections::HashMap;
use underfoot_abi::{PAGE_SIZE, StallRecord};

/// Placebo trials: by how much later the windows are said to have been.
const TRIALS: usize = 16;
/// The least and the greatest shift, in ms: far from any echo of the real ones, and soon to be had.
const SHIFTS_MS: (u64, u64) = (20, 250);

/// All that was seen beside the stalls.
#[derive(Debug)]
pub struct Sources {
    /// By vCPU; empty where the host does not tell.
    pub off_cpu: Vec<OffCpu>,
    /// By vCPU: interrupts in timed accesses.
    pub interrupts: Vec<SpanLog>,
    /// Of all movers.
    pub windows: PageWindows,
}

/// Judges stalls in the order of their ends.
#[derive(Debug)]
pub struct Judge {
    bounds: Bounds,
    /// How long sources remember, in ticks.
    memory_ticks: u64,
    /// When the last stall on each page of the guest's ended.
    ended: HashMap<u64, u64>,
    shifts: [u64; TRIALS],
    next_shift: usize,
    /// From when on windows can be shifted, in TSC ticks: not before pages move.
    placebo_from_tsc: u64,
}

impl Judge {
    /// With shifts by `seed`, on a counter that runs at `tsc_khz`; sources remember `memory_ticks`.
    #[must_use]
    pub fn new(tsc_khz: u32, memory_ticks: u64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (least, most) = SHIFTS_MS;
        let khz = u64::from(tsc_khz);
        Self {
            bounds: Bounds::new(tsc_khz),
            memory_ticks,
            ended: HashMap::new(),
            shifts: std::array::from_fn(|_| random.u64(least * khz..most * khz)),
            next_shift: 0,
            placebo_from_tsc: u64::MAX,
        }
    }

    /// Pages move from `tsc` on.
    pub fn moving_since(&mut self, tsc: u64) {
        let longest = self.shifts.iter().max().copied().unwrap_or(0);
        self.placebo_from_tsc = tsc.saturating_add(longest);
    }

    /// Cuts the stall `record` of `vcpu` by what `sources` saw.
    pub fn judge(&mut self, sources: &Sources, vcpu: u32, record: StallRecord) -> Judged {
        let stall = Span::new(record.start_tsc, record.end_tsc);
        let mut evidence = self.of_vcpu(sources, vcpu, stall);
        let page = record.gva / PAGE_SIZE as u64;
        let others = self.ended.get(&page).copied();
        let touched = others.filter(|end| *end <= stall.start).unwrap_or(0);
        let touched = touched.max(record.touched_tsc).min(stall.start);
        // The code had just run, on that stack, when the access began.
        let pages = [
            (page, touched),
            (u64::from(record.code_page), stall.start),
            (u64::from(record.stack_page), stall.start),
        ];
        let mut by_chance = None;
        if stall.start >= self.placebo_from_tsc {
            self.next_shift = (self.next_shift + 1) % TRIALS;
            self.windows(
                sources,
                stall,
                pages,
                self.shifts[self.next_shift],
                &mut evidence,
            );
            by_chance = Some(attribute(stall, &evidence, self.bounds).iter().collect());
        }
        self.windows(sources, stall, pages, 0, &mut evidence);
        if sources.windows.has(page) {
            self.ended.insert(page, stall.end);
        }
        Judged {
            vcpu,
            record,
            pieces: attribute(stall, &evidence, self.bounds),
            by_chance,
        }
    }

    /// What has nothing to do with windows.
    fn of_vcpu(&self, sources: &Sources, vcpu: u32, stall: Span) -> Evidence {
        let off = sources.off_cpu.get(vcpu as usize);
        let over = |log: &SpanLog| log.over(stall).collect();
        // Its handler may begin behind the stall only if it did not delay it.
        let interrupts = sources.interrupts.get(vcpu as usize);
        Evidence {
            preempted: off.map(|off| over(off.preempted())).unwrap_or_default(),
            slept: off.map(|off| over(off.slept())).unwrap_or_default(),
            interrupts: interrupts.map(over).unwrap_or_default(),
            windows: Vec::new(),
            moved_tsc: None,
        }
    }

    /// What windows say, if they had been `shift` ticks later. `pages` are those of the access, each with when it
    /// was touched last.
    fn windows(
        &self,
        sources: &Sources,
        stall: Span,
        pages: [(u64, u64); 3],
        shift: u64,
        evidence: &mut Evidence,
    ) {
        evidence.windows.clear();
        evidence.moved_tsc = None;
        // A sleep that a window caused may begin a little behind it.
        let near = Span::new(stall.start.saturating_sub(self.bounds.to_sleep), stall.end);
        for (page, touched) in pages {
            let known = stall.start.saturating_sub(self.memory_ticks).max(touched);
            let since = Span::new(known.min(near.start), stall.end);
            let before = Span::new(
                since.start.saturating_sub(shift),
                since.end.saturating_sub(shift),
            );
            for window in sources.windows.over(page, before) {
                let window = window.later(shift);
                if window.and(near).is_some() {
                    evidence.windows.push(window);
                }
                if window.end > known {
                    let moved = evidence.moved_tsc.unwrap_or(u64::MAX);
                    evidence.moved_tsc = Some(moved.min(window.start));
                }
            }
        }
    }
}

impl Judged {
    /// When it was.
    #[must_use]
    pub const fn span(&self) -> Span {
        Span::new(self.record.start_tsc, self.record.end_tsc)
    }

    /// How many ticks the stall lasted.
    #[must_use]
    pub const fn ticks(&self) -> u64 {
        self.span().ticks()
    }

    /// Its pieces by cause.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.pieces.iter().collect()
    }

    /// Whether the pieces are all of the stall and nothing more, and the sum with windows elsewhere is.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let by_chance = self.by_chance.as_ref();
        tile(&self.pieces, self.span()) && by_chance.is_none_or(|parts| parts.sum() == self.ticks())
    }

    /// What windows explained by chance, in ticks of `cause`.
    #[must_use]
    pub fn by_chance_of(&self, cause: Cause) -> u64 {
        self.by_chance.as_ref().map_or(0, |parts| parts.of(cause))
    }
}
