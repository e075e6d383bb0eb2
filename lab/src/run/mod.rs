//! One run: a machine, the engine, the phases, and the record of it all.

mod antagonists;
mod backlog;
mod cpu_time;
mod dma;
mod engine;
mod frames;
mod guest_frames;
mod guest_moves;
mod header;
mod holder;
mod host_load;
mod integrity;
mod interrupts;
mod interval;
pub mod observer;
mod overlap;
mod replug;
mod results;
mod session;
mod snapshot;
mod stalls;
pub mod waiting;
mod watch;
mod window_log;
mod witness;

use crate::experiment::Experiment;
use crate::record::RunRecord;
use underfoot_migrator::{BuildError, NewMoverError};
use underfoot_vmm::dma::DmaError;
use underfoot_vmm::placement::PlacementError;
use underfoot_vmm::{Console, HostError, MachineError};

pub use interval::{Done, Interval, IntervalRecord};
pub use results::HYPERCALLS_REFUSED;
pub use session::{SILENCE, Stage};

/// Why there is no run. What happens to a guest that runs is in its record instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine.
    #[error("the machine cannot be made")]
    Machine(#[from] MachineError),
    /// What kind of host this is.
    #[error("the kind of host is not known")]
    Host(#[from] HostError),
    /// The engine.
    #[error("the guest's pages cannot be moved")]
    Engine(#[from] BuildError),
    /// A mover.
    #[error("a mover cannot be made")]
    Mover(#[from] NewMoverError),
    /// The device.
    #[error("the DMA device cannot be had")]
    Dma(#[from] DmaError),
    /// Where a mover is to run.
    #[error("a mover cannot be placed")]
    Placement(#[from] PlacementError),
    /// Where an antagonist is to run.
    #[error("an antagonist cannot be placed")]
    Antagonist(#[source] PlacementError),
    /// A thread.
    #[error("the thread {name} cannot be started")]
    Thread {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The guest cannot run at the level demanded.
    #[error(
        "--cpl 0: ring 0 is emulated on this host ({ticks} TSC ticks for 32 instructions), which cannot execute the kernel's SSE instructions: use --cpl 3 or auto"
    )]
    EmulatedRing0 {
        /// What the guest measured.
        ticks: u64,
    },
    /// The guest ended itself for want of memory.
    #[error("{0}")]
    TooLittleMemory(String),
    /// The guest did not say that it is up.
    #[error(
        "the guest did not come up within {seconds} s: only images that publish their page map can be run (see `underfoot guest --export`)"
    )]
    NotUp {
        /// How long it was given.
        seconds: u64,
    },
}

impl RunError {
    /// Whether the host lacks something, as opposed to something having gone wrong.
    #[must_use]
    pub fn is_host_lack(&self) -> bool {
        match self {
            Self::EmulatedRing0 { .. } | Self::Mover(_) | Self::Host(_) => true,
            Self::Machine(error) => {
                matches!(
                    error,
                    MachineError::OpenKvm { .. }
                        | MachineError::WaitPolicy { .. }
                        | MachineError::Kvm { .. }
                )
            }
            Self::Engine(error) => matches!(
                error,
                BuildError::Registration(_) | BuildError::OneNode | BuildError::NotCollapsible(_)
            ),
            Self::Dma(_)
            | Self::Placement(_)
            | Self::Antagonist(_)
            | Self::Thread { .. }
            | Self::TooLittleMemory(_)
            | Self::NotUp { .. } => false,
        }
    }
}

/// When the process began, as far as it can know.
#[derive(Clone, Copy, Debug)]
pub struct ProcessStart {
    tsc: u64,
    spent_ns: u64,
}

impl ProcessStart {
    /// To be taken first thing in `main`. What came before is counted by the CPU time spent since
    /// exec: the program's loading, that is.
    #[must_use]
    pub fn now() -> Self {
        Self {
            tsc: underfoot_migrator::clock::now(),
            spent_ns: cpu_time::process_ns(),
        }
    }

    /// Stands in for the process's start in a process that does several runs: now, with nothing
    /// spent before.
    #[must_use]
    pub fn of_later_run() -> Self {
        Self {
            tsc: underfoot_migrator::clock::now(),
            spent_ns: 0,
        }
    }
}

/// What a run needs beside the experiment.
pub struct Setting<'a> {
    /// The guest image.
    pub image: &'a [u8],
    /// Where its console goes.
    pub console: Console,
    /// When the process began.
    pub process_start: ProcessStart,
    /// Told how far the run is.
    pub progress: &'a mut dyn FnMut(Stage, u64),
    /// Whether it is told of while it goes on, and how often.
    pub interval: Option<Interval<'a>>,
}

/// Runs `experiment` from start to end.
///
/// # Errors
/// There was no run. A guest that crashed, an integrity error, a signal are in the record.
pub fn run<'a>(experiment: &'a Experiment, setting: Setting<'a>) -> Result<RunRecord, RunError> {
    let mut session = session::Session::start(experiment, setting)?;
    let outcome = session.run()?;
    Ok(results::collect(&session, outcome))
}
