//! Cutting one stall: a pure function over stretches of time.

use super::{Cause, Piece};
use crate::timeline::Span;

/// What is known of the time of one stall, in TSC ticks. The stretches of each kind may overlap and be in any order.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Its vCPU's thread wanted a CPU.
    pub preempted: Vec<Span>,
    /// Its vCPU's thread slept.
    pub slept: Vec<Span>,
    /// The guest handled interrupts, from the handler's first line to its last.
    pub interrupts: Vec<Span>,
    /// Windows of the pages of the access.
    pub windows: Vec<Span>,
    /// From when on one of those pages needed a fault: it was moved then, and not touched since.
    pub moved_tsc: Option<u64>,
}

/// What is believed of times that no source tells, in TSC ticks.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a fault on a page in its window works before its vCPU sleeps; the window may have closed meanwhile.
    pub to_sleep: u64,
    /// What the processor, the hypervisor and the trap layer take to come to the handler of an interrupt.
    pub delivery: u64,
    /// The longest piece that is fault work.
    pub fault: u64,
}

impl Bounds {
    /// For a counter that runs at `tsc_khz`.
    #[must_use]
    pub fn new(tsc_khz: u32) -> Self {
        let us = |us: u64| us * u64::from(tsc_khz) / 1000;
        Self {
            to_sleep: us(50),
            delivery: us(100),
            fault: us(200),
        }
    }
}

/// Cuts `stall` by what overlaps it, [`Cause::ALL`] being the order of precedence. The pieces are in the order of time, and
/// each begins where the one before it ends.
#[must_use]
pub fn attribute(stall: Span, evidence: &Evidence, bounds: Bounds) -> Vec<Piece> {
    let mut left = Left::new(stall);
    left.take(Cause::VcpuPreempted, evidence.preempted.iter().copied());
    left.take(Cause::Window, evidence.windows.iter().copied());
    let by_window = |sleep: &&Span| {
        let mut windows = evidence.windows.iter();
        windows.any(|window| {
            let latest = window.end.saturating_add(bounds.to_sleep);
            (window.start..=latest).contains(&sleep.start)
        })
    };
    let woken = evidence.slept.iter().filter(by_window).copied();
    left.take(Cause::WindowWake, woken);
    left.take(Cause::HostSleep, evidence.slept.iter().copied());
    let delivered = evidence.interrupts.iter().map(|handler| {
        let start = handler.start.saturating_sub(bounds.delivery);
        Span::new(start, handler.end)
    });
    left.take(Cause::Interrupt, delivered);
    let from = evidence.moved_tsc.unwrap_or(u64::MAX);
    for piece in left.open.clone() {
        let worked = Span::new(from, u64::MAX).and(piece);
        let worked = worked.filter(|work| work.ticks() <= bounds.fault);
        left.take(Cause::Stage2, worked.into_iter());
    }
    left.end()
}

/// What of a stall has no cause yet, and what has.
struct Left {
    open: Vec<Span>,
    pieces: Vec<Piece>,
}

impl Left {
    fn new(stall: Span) -> Self {
        Self {
            open: (stall.ticks() > 0).then_some(stall).into_iter().collect(),
            pieces: Vec::new(),
        }
    }

    /// What `spans` share with what is left has this cause, and is left no more.
    fn take(&mut self, cause: Cause, spans: impl Iterator<Item = Span>) {
        for span in spans {
            let mut rest = Vec::with_capacity(self.open.len() + 1);
            for open in &self.open {
                let Some(both) = open.and(span) else {
                    rest.push(*open);
                    continue;
                };
                self.pieces.push(Piece { cause, span: both });
                let around = [
                    Span::new(open.start, both.start),
                    Span::new(both.end, open.end),
                ];
                rest.extend(around.into_iter().filter(|open| open.ticks() > 0));
            }
            self.open = rest;
        }
    }

    fn end(mut self) -> Vec<Piece> {
        let unexplained = self.open.into_iter().map(|span| Piece {
            cause: Cause::Unexplained,
            span,
        });
        self.pieces.extend(unexplained);
        self.pieces.sort_unstable_by_key(|piece| piece.span.start);
        self.pieces.dedup_by(|piece, before| {
            let is_same = piece.cause == before.cause;
            if is_same {
                before.span.end = piece.span.end;
            }
            is_same
        });
        self.pieces
    }
}
