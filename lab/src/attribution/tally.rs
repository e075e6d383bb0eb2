//! The stalls of one phase, added up.

use super::{Cause, Parts, Piece};
use crate::record::{AttributionRecord, Causes, PlaceboRecord, TailRecord, VcpuAttribution};
use crate::timeline::ns;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use underfoot_abi::StallRecord;

/// Stalls that are kept whole: the longest.
const KEPT: usize = 4096;

/// One stall with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whose.
    pub vcpu: u32,
    /// What the guest said of it.
    pub record: StallRecord,
    /// What it was made of, in the order of time.
    pub pieces: Vec<Piece>,
    /// The parts with windows at another time; `None` if it was not tried.
    pub by_chance: Option<Parts>,
}

/// By length, the shortest first out of a heap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept(Judged);

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |kept: &Self| (kept.0.ticks(), kept.0.record.start_tsc, kept.0.vcpu);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Sums over the stalls of one phase.
#[derive(Debug, Default)]
pub struct Tally {
    stalls: u64,
    by_vcpu: Vec<Parts>,
    longest: BinaryHeap<Kept>,
    /// Of stalls of which it was tried: really, and by chance.
    tried: [Parts; 2],
    /// Stalls whose parts were not the whole.
    wrong: u64,
}

impl Tally {
    /// Adds one.
    pub fn add(&mut self, judged: Judged) {
        self.stalls += 1;
        self.wrong += u64::from(!judged.adds_up());
        let vcpu = judged.vcpu as usize;
        if self.by_vcpu.len() <= vcpu {
            self.by_vcpu.resize(vcpu + 1, Parts::default());
        }
        let parts = judged.parts();
        self.by_vcpu[vcpu] += parts;
        if let Some(by_chance) = judged.by_chance {
            self.tried[0] += parts;
            self.tried[1] += by_chance;
        }
        self.longest.push(Kept(judged));
        if self.longest.len() > KEPT {
            self.longest.pop();
        }
    }

    /// The longest stalls, the longest first, and how many others there were.
    #[must_use]
    pub fn longest(&self) -> (Vec<Judged>, u64) {
        let mut kept: Vec<Kept> = self.longest.iter().cloned().collect();
        kept.sort_unstable();
        let left_out = self.stalls - kept.len() as u64;
        (kept.into_iter().map(|kept| kept.0).collect(), left_out)
    }

    /// The sums, on a counter that runs at `tsc_khz`.
    #[must_use]
    pub fn record(&self, tsc_khz: u32) -> AttributionRecord {
        let mut all = Parts::default();
        self.by_vcpu.iter().for_each(|parts| all += *parts);
        let causes = causes(&all, tsc_khz);
        let by_vcpu = self.by_vcpu.iter().map(|parts| {
            let causes = self::causes(parts, tsc_khz);
            VcpuAttribution {
                stalled_ns: sum(&causes),
                causes,
            }
        });
        AttributionRecord {
            stalled_ns: sum(&causes),
            stalls: self.stalls,
            wrong: self.wrong,
            causes,
            placebo: self.placebo(tsc_khz),
            by_vcpu: by_vcpu.collect(),
            tail: self.tail(tsc_khz),
        }
    }

    fn placebo(&self, tsc_khz: u32) -> Option<PlaceboRecord> {
        let [real, chance] = self.tried.map(|parts| causes(&parts, tsc_khz));
        let stalled_ns = sum(&real);
        let of_windows = |causes: Causes| -> Causes {
            let named = Cause::OF_WINDOWS.map(|cause| (cause.name(), causes[cause.name()]));
            named.into()
        };
        (stalled_ns > 0).then(|| {
            let (real, chance) = (of_windows(real), of_windows(chance));
            let share = |causes: &Causes| sum(causes) as f64 / stalled_ns as f64;
            PlaceboRecord {
                stalled_ns,
                share: share(&chance),
                real_share: share(&real),
                causes: chance,
                real,
            }
        })
    }

    /// The stalls at and above p99.9, or the longest of them that were kept.
    fn tail(&self, tsc_khz: u32) -> Option<TailRecord> {
        let (longest, _) = self.longest();
        let wanted = usize::try_from(self.stalls.div_ceil(1000)).unwrap_or(usize::MAX);
        let tail = &longest[..wanted.min(longest.len())];
        let shortest = tail.last()?;
        let mut all = Parts::default();
        tail.iter().for_each(|judged| all += judged.parts());
        let causes = causes(&all, tsc_khz);
        Some(TailRecord {
            from_ns: ns(shortest.ticks(), tsc_khz),
            stalls: tail.len() as u64,
            stalled_ns: sum(&causes),
            causes,
        })
    }
}

/// Every cause, those of which there is nothing too.
pub(crate) fn causes(parts: &Parts, tsc_khz: u32) -> Causes {
    let named = Cause::ALL.map(|cause| (cause.name(), ns(parts.of(cause), tsc_khz)));
    BTreeMap::from(named)
}

fn sum(causes: &Causes) -> u64 {
    causes.values().sum()
}
