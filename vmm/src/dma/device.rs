//! The device: its threads, and how they end.

use super::channel::Channel;
use super::copy::WORDS;
use super::counts::{DmaCounts, LiveCounts};
use super::doorbells::Doorbells;
use super::worker::Worker;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use underfoot_abi::Histogram;
use underfoot_migrator::{Invalidations, PageRange, RegisterError, Translate};

/// How often an ending thread is looked at.
const LOOK: Duration = Duration::from_micros(200);

/// Why the device cannot be had, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// No thread at all.
    #[error("a DMA device with 0 threads does nothing; give it 1 or more")]
    NoThreads,
    /// Its memory could not be registered.
    #[error("the DMA device cannot register guest memory")]
    Register(#[from] RegisterError),
    /// A thread could not be made.
    #[error("cannot start a thread of the DMA device")]
    Thread(#[source] std::io::Error),
    /// A thread does not end: it waits for a page that nobody brings.
    #[error("{name} did not end within {patience:?}; it waits for a page, and is left behind")]
    Stuck {
        /// The thread's name.
        name: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// A thread panicked.
    #[error("{name} panicked")]
    Panicked {
        /// The thread's name.
        name: String,
    },
}

/// What a device is made of.
pub struct DmaOptions {
    /// Where it learns of work.
    pub doorbells: Arc<dyn Doorbells>,
    /// The guest memory that it may reach, each part in one region of it.
    pub ranges: Vec<PageRange>,
    /// Who tells it what moves.
    pub invalidations: Arc<Invalidations>,
    /// Where it finds pages.
    pub translate: Arc<dyn Translate>,
    /// Its threads, 1 or more; the queues are theirs by turns.
    pub threads: u32,
    /// Translations that each thread caches, rounded up to a power of two.
    pub cache: usize,
    /// Each thread registers its ranges anew after so many descriptors, in the midst of whatever moves.
    pub renew_every: Option<NonZeroU64>,
    /// It does so too with the range of a page that it finds being moved.
    pub renew_busy: bool,
}

type Ending = Result<(), RegisterError>;

/// A DMA engine at work. Dropping it asks its threads to end and waits for none.
pub struct DmaDevice {
    threads: Vec<(String, JoinHandle<Ending>)>,
    counts: Vec<Arc<LiveCounts>>,
    stop: Arc<AtomicBool>,
}

impl DmaDevice {
    /// Starts it.
    ///
    /// # Errors
    /// No thread was asked for or could be made, or its ranges cannot be registered.
    pub fn start(options: DmaOptions) -> Result<Self, DmaError> {
        if options.threads == 0 {
            return Err(DmaError::NoThreads);
        }
        let mut device = Self {
            threads: Vec::new(),
            counts: Vec::new(),
            stop: Arc::default(),
        };
        for number in 0..options.threads {
            let name = format!("dma-{number}");
            let channel = Channel::new(&name, &options, Arc::clone(&device.stop))?;
            device.counts.push(Arc::clone(&channel.counts));
            let queues = number..options.doorbells.queues();
            let mut worker = Worker {
                channel,
                doorbells: Arc::clone(&options.doorbells),
                queues: queues
                    .step_by(options.threads as usize)
                    .map(|queue| (queue, 0))
                    .collect(),
                renew_every: options.renew_every,
                since_renewal: 0,
                fifo: Box::new([0; WORDS]),
            };
            let thread = Builder::new()
                .name(name.clone())
                .spawn(move || worker.run())
                .map_err(DmaError::Thread)?;
            device.threads.push((name, thread));
        }
        Ok(device)
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> DmaCounts {
        let mut sum = DmaCounts::default();
        for live in &self.counts {
            sum.add(&live.snapshot());
        }
        sum
    }

    /// How long accesses that were put off had to wait, in ns, one for each thread; exact once it was
    /// stopped.
    pub fn waited(&self) -> impl Iterator<Item = &Histogram> {
        self.counts.iter().map(|live| &*live.waited)
    }

    /// Ends it, waiting for its threads no longer than `patience`. What they have not begun stays
    /// undone. Called again it does nothing.
    ///
    /// # Errors
    /// A thread ended badly, or not at all: that one is left behind, and ends once the page comes
    /// that it waits for or the migrator goes.
    pub fn stop(&mut self, patience: Duration) -> Result<(), DmaError> {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience;
        let mut result = Ok(());
        for (name, thread) in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            let ended = if !thread.is_finished() {
                Err(DmaError::Stuck { name, patience })
            } else {
                match thread.join() {
                    Ok(ended) => ended.map_err(DmaError::Register),
                    Err(_) => Err(DmaError::Panicked { name }),
                }
            };
            result = result.and(ended);
        }
        result
    }
}

impl Drop for DmaDevice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
