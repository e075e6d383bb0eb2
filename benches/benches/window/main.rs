//! The time in which a single page is unavailable, beside one bare MADV_DONTNEED of a page in the same
//! state of protection, and beside the bare primitives of the same way to move it. The pages are those
//! that a vCPU on the other CPU reads all the time.

mod engine;
mod floor;

use std::time::Duration;
use underfoot_abi::WorkloadId;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_benches::ring;

use underfoot_migrator::{BackendKind, StrategyKind};
use underfoot_vmm::Backing;

use engine::Way;
use floor::Floor;

/// The bars: the best window over a bare MADV_DONTNEED, and `move` over its own primitives.
const OVER_UNMAP: f64 = 1.5;
const OVER_PRIMITIVES: f64 = 1.15;

const SLICE: Duration = Duration::from_millis(60);
const ROUNDS: usize = 25;

/// A way to move pages, and what it is held against.
const WAYS: [(Way, Floor, Option<Floor>); 4] = [
    (
        Way(StrategyKind::ProtectCopy, BackendKind::Move),
        Floor::Unmap { protected: true },
        Some(Floor::ProtectedMove),
    ),
    (
        Way(StrategyKind::ProtectCopy, BackendKind::Copy),
        Floor::Unmap { protected: true },
        None,
    ),
    (
        Way(StrategyKind::Transactional, BackendKind::Move),
        Floor::Unmap { protected: false },
        Some(Floor::ComparedMove),
    ),
    (
        Way(StrategyKind::ProtectCopy, BackendKind::Remap),
        Floor::UnmapFile,
        None,
    ),
];

fn main() {
    if !noise::begin("window") {
        return;
    }
    noise::report("before");
    println!(
        "window of one 4 KiB page, which a vCPU on the other CPU reads; p50 in ns, {ROUNDS} interleaved slices of \
         {SLICE:?} a side"
    );
    println!(
        "strategy       backend  readers  writers  bare unmap  readers/unmap           bare moves  readers/moves           bar"
    );
    let mut bars = Bars::default();
    let mut best: Option<(Ratios, Way)> = None;
    // One after the other: they would take each other's CPU.
    for backing in [Backing::Small, Backing::File] {
        let on_file = backing == Backing::File;
        let ways = WAYS
            .iter()
            .filter(|(way, ..)| way.1.needs_file() == on_file);
        // On a thread of its own, which is bound to one CPU.
        let compared = std::thread::scope(|scope| {
            let compared = scope.spawn(|| compare(backing, ways, &mut bars));
            compared.join().expect("no panic")
        });
        for (ratios, way) in compared {
            if best
                .as_ref()
                .is_none_or(|(least, _)| ratios.median() < least.median())
            {
                best = Some((ratios, way));
            }
        }
    }
    noise::report("after");
    let (ratios, way) = best.expect("there are ways");
    let verdict = bars.hold(&ratios, OVER_UNMAP);
    println!(
        "the best, {} with {}: {ratios} of a bare unmap: {verdict}",
        way.0, way.1
    );
    bars.end();
}

/// Does the rounds of `ways`, which want memory of one `backing`; readers' windows over bare unmaps.
fn compare<'a>(
    backing: Backing,
    ways: impl Iterator<Item = &'a (Way, Floor, Option<Floor>)> + Clone + Send,
    bars: &mut Bars,
) -> Vec<(Ratios, Way)> {
    let [vcpu, here] = noise::cpus().expect("two CPUs: the vCPU must run beside the mover");
    let guest = Guest {
        backing,
        workload: WorkloadId::Chase,
        parameters: Guest::CHASE,
        placement: vcpu,
        ..Guest::default()
    };
    let machine = guest.boot();
    // Only now: threads that this one starts stay on its CPU.
    here.apply(0).expect("a CPU of ours");
    let ring = ring::find(&machine, Guest::RING);
    let floors: Vec<Floor> = ways
        .clone()
        .flat_map(|way| std::iter::once(way.1).chain(way.2))
        .collect();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push(Round {
            floors: floors
                .iter()
                .map(|floor| floor.p50_ns(&ring, SLICE))
                .collect(),
            windows: ways
                .clone()
                .map(|way| way.0.p50_ns(&machine, &ring, SLICE))
                .collect(),
        });
    }
    let mut ratios = Vec::new();
    for (nth, (way, unmap, moves)) in ways.enumerate() {
        let readers: Vec<_> = rounds
            .iter()
            .map(|round| round.windows[nth].readers)
            .collect();
        let writers = rounds.iter().map(|round| round.windows[nth].writers);
        let floor = |floor: Floor| -> Vec<Option<f64>> {
            let place = floors.iter().position(|known| *known == floor);
            let place = place.expect("every floor is measured");
            rounds.iter().map(|round| round.floors[place]).collect()
        };
        let unmaps = floor(*unmap);
        let over_unmap = Ratios::of(&readers, &unmaps);
        let moves = moves.map(floor);
        let over_moves = moves.as_ref().map(|moves| Ratios::of(&readers, moves));
        println!(
            "{:<13}  {:<7}  {:>7}  {:>7}  {:>10}  {over_unmap:<22}  {:>10}  {:<22}  {}",
            way.0.name(),
            way.1.name(),
            shown(median(readers)),
            shown(median(writers)),
            shown(median(unmaps)),
            shown(moves.and_then(median)),
            over_moves
                .as_ref()
                .map_or_else(|| "-".to_owned(), Ratios::to_string),
            over_moves.map_or_else(String::new, |ratios| bars.hold(&ratios, OVER_PRIMITIVES)),
        );
        ratios.push((over_unmap, *way));
    }
    guest::end(machine);
    ratios
}

/// What one round measured, in the order of the floors and of the ways.
struct Round {
    floors: Vec<Option<f64>>,
    windows: Vec<engine::Windows>,
}
