//! What goes together with the guest as its own mover, and what it is told.

use crate::experiment::Experiment;
use crate::names::{Mover, Named};
use crate::settings::{ExperimentError, Key, Settings};
use crate::units::Size;
use underfoot_abi::{PageKind, refusal};
use underfoot_migrator::StrategyKind;
use underfoot_vmm::MoverInit;

/// The mover's records of all frames are one block each of the guest's memory.
const MOST_MEMORY: Size = Size::from_mib(2048);

/// What belongs to the host's engine alone.
const ENGINE: [Key; 15] = [
    Key::Backend,
    Key::Allocate,
    Key::Wait,
    Key::PageSize,
    Key::Batch,
    Key::Frames,
    Key::FramesAfter,
    Key::Uffds,
    Key::FaultLock,
    Key::Replug,
    Key::SlotSize,
    Key::Movers,
    Key::MaxWindow,
    Key::Verify,
    Key::Torment,
];

/// Refuses what does not go together with who moves.
///
/// # Errors
/// [`ExperimentError::Unsound`] with the reason and the remedy.
pub fn check(experiment: &Experiment, settings: &Settings) -> Result<(), ExperimentError> {
    let refuse = |what: String, reason| {
        Err(ExperimentError::Unsound {
            combination: format!("mover {}, {what}", experiment.mover.name()),
            reason,
        })
    };
    let variant = experiment.variant;
    if variant
        .mover()
        .is_some_and(|mover| mover != experiment.mover)
    {
        return refuse(
            format!("variant {}", variant.name()),
            "the variant makes the moves of the other mover wrong: choose that one by --mover",
        );
    }
    if experiment.mover == Mover::Host {
        return Ok(());
    }
    let set = |key: &Key| Some((*key, settings.text(*key)?));
    if let Some((key, value)) = ENGINE.iter().find_map(set) {
        return refuse(
            format!("{} {value}", key.name()),
            "the guest moves its own pages, one at a time, and the host's engine rests: leave it out",
        );
    }
    match experiment.strategy {
        StrategyKind::UnmapCopy => {}
        StrategyKind::None if variant.mover() == Some(Mover::Guest) => {
            return refuse(
                format!("strategy none, variant {}", variant.name()),
                "nothing moves, so that nothing could be caught: leave the strategy out",
            );
        }
        StrategyKind::None => {}
        other => {
            return refuse(
                format!("strategy {}", other.name()),
                "the guest clears an entry and copies its page: leave it out, or say none, by which \
                 nothing moves",
            );
        }
    }
    if experiment.memory > MOST_MEMORY {
        return refuse(
            format!("memory {}", experiment.memory),
            "the guest's mover keeps its records in blocks of 2MiB: give the guest 2GiB or less",
        );
    }
    let kinds = experiment.targets.kinds();
    match kinds
        .iter()
        .map(|kind| refusal(*kind))
        .collect::<Option<Vec<_>>>()
    {
        Some(reasons) if !reasons.is_empty() => {
            refuse(format!("target {}", experiment.targets), reasons[0])
        }
        _ => Ok(()),
    }
}

/// The target kinds that the guest leaves alone, and why.
pub fn refused(experiment: &Experiment) -> impl Iterator<Item = (PageKind, &'static str)> {
    let guest = experiment.mover == Mover::Guest;
    let kinds = experiment.targets.kinds().iter().filter(move |_| guest);
    kinds.filter_map(|kind| Some((*kind, refusal(*kind)?)))
}

/// What the guest is told of moving.
#[must_use]
pub fn init(experiment: &Experiment) -> MoverInit {
    if experiment.mover == Mover::Host {
        return MoverInit::HOST;
    }
    // The control has all that the mover needs, and no page to move.
    let moves = |_: &&PageKind| experiment.strategy != StrategyKind::None;
    let kinds = experiment.targets.kinds().iter().filter(moves);
    MoverInit {
        mover: underfoot_abi::Mover::Guest,
        targets: kinds.map(|kind| kind.bit()).sum(),
        rate: experiment
            .rate
            .pages_per_second()
            .map_or(0, |rate| rate.get()),
    }
}
