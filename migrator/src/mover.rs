//! The loop that moves pages.

mod error;
mod tools;

pub use error::{MoverError, NewMoverError};

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::tools::make_backend;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::counters::{Counters, LiveCounters};
use crate::engine::Engine;
use crate::huge::HugePages;
use crate::inject::Injector;
use crate::pagemap::{Pagemap, Present};
use crate::plan::Plan;
use crate::rate::Limiter;
use crate::transaction::{Tools, Transaction};
use crate::verify::{Frame, Verifier};
use crate::watchdog::{Node, Waiter};
use crate::{
    AbortReason, BackendKind, Event, Observer, OpenRange, PageRange, PageSize, Stop, StrategyKind,
    clock,
};

/// Pages of the map that are read for each window, or as many as it moves at most if that is more.
const SCAN: u32 = 8;
/// Picks in vain before the mover sleeps.
const PATIENCE: u32 = 64;
/// Pages of a transactional window that are compared after they were unmapped: it is one flush of the
/// TLBs less, and comparing so few is short.
const COMPARED_UNMAPPED: u32 = 16;
/// How long it sleeps when there is nothing to move, or everything rests.
const IDLE: Duration = Duration::from_micros(50);
/// The longest sleep after a slot was moved: a request to stop is seen after that.
const LONGEST_BREAK: Duration = Duration::from_millis(100);
/// The longest sleep: a request to stop is seen after this.
const NAP: Duration = Duration::from_millis(2);

/// Moves pages on the thread that runs it.
///
/// Several movers of one [`Migrator`](crate::Migrator) never move the same page at once. Each has a
/// frame pool of its own.
pub struct Mover {
    engine: Arc<Engine>,
    observer: Arc<dyn Observer>,
    backend: Box<dyn Backend + Send>,
    counters: Arc<LiveCounters>,
    plan: Plan,
    batch: Batch,
    injector: Injector,
    /// Its number among the movers, or the last that there is.
    nth: u16,
    /// None if the wait-for graph has no place for it.
    waiter: Option<Waiter>,
    verifier: Verifier,
    pagemap: Pagemap,
    present: Present,
    /// Only for huge pages.
    huge: Option<HugePages>,
}

impl Mover {
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Self, NewMoverError> {
        let config = engine.config;
        let backend = make_backend(&engine)?;
        let verifier =
            Verifier::new(config.verify, config.batch).map_err(NewMoverError::Pagemap)?;
        let pagemap = Pagemap::open(1).map_err(NewMoverError::Pagemap)?;
        let huge = match config.page_size {
            PageSize::Small => None,
            PageSize::Huge => Some(HugePages::open().map_err(NewMoverError::Pagemap)?),
        };
        let (counters, nth) = engine.new_counters();
        // Movers of one seed must not do the same.
        let seed = config.seed.wrapping_add(nth as u64);
        let nth = u16::try_from(nth).unwrap_or(u16::MAX);
        Ok(Self {
            observer: Arc::clone(&engine.observer),
            plan: Plan::new(config.targets, seed, engine.regions.pages()),
            batch: Batch::new(config.batch),
            injector: Injector::new(config.inject, config.torment, seed),
            nth,
            waiter: engine.waits.waiter(Node::Migration(nth)).ok(),
            backend,
            counters,
            verifier,
            pagemap,
            present: Present::new(config.batch).map_err(NewMoverError::Pagemap)?,
            huge,
            engine,
        })
    }

    /// Has this mover tell `observer` what it does, in place of the migrator's observer.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// This mover's counters; exact while it does not run.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.snapshot()
    }

    /// Moves pages until `stop` is requested. At the end every old frame in limbo is checked.
    ///
    /// May be called again afterwards, after an error as well.
    ///
    /// # Errors
    /// What ended it early. The migration that was open was rolled back.
    pub fn run(&mut self, stop: &Stop) -> Result<(), MoverError> {
        let engine = Arc::clone(&self.engine);
        let moving = engine.activity.enter();
        let result = catch_unwind(AssertUnwindSafe(|| self.run_until(stop)));
        drop(moving);
        let stale = self.backend.audit();
        self.report_stale(stale);
        result.unwrap_or_else(|payload| {
            Err(MoverError::Panicked {
                message: message_of(&*payload),
            })
        })
    }

    fn run_until(&mut self, stop: &Stop) -> Result<(), MoverError> {
        let config = self.engine.config;
        let mut limiter = Limiter::new(config.rate, config.tsc_hz, clock::now());
        let mut in_vain = 0;
        // The first pass is made at once: there is nothing to pick from before.
        self.scan(u32::MAX);
        while !stop.is_requested() {
            let wait = limiter.wait(clock::now);
            if wait > 0 || config.strategy == StrategyKind::None {
                sleep_ticks(wait, config.tsc_hz);
                continue;
            }
            self.scan(SCAN.max(config.batch));
            match self.step()? {
                0 => in_vain += 1,
                pages => {
                    limiter.count(pages);
                    in_vain = 0;
                }
            }
            if in_vain == PATIENCE {
                in_vain = 0;
                thread::sleep(IDLE);
            }
        }
        Ok(())
    }

    fn scan(&mut self, budget: u32) {
        let engine = &*self.engine;
        self.plan.scan(budget, |page| engine.target_class(page));
    }

    /// Migrates one batch, if a page can be found; returns how many pages were claimed for it.
    fn step(&mut self) -> Result<u32, MoverError> {
        let engine = &*self.engine;
        let picked = self.plan.pick(|page| engine.target_class(page));
        let Some(page) = picked else {
            return Ok(0);
        };
        if !self.is_whole(page)? {
            return Ok(0);
        }
        let reach = self.engine.reach(page);
        let stale = self.backend.prepare(reach).map_err(MoverError::Discard)?;
        self.report_stale(stale);
        let migrated = match self.backend.is_ready(reach) {
            true if self.engine.slots.is_some() => self.migrate_slot(page),
            true => self.migrate(page),
            // Frames are short: this one waits its turn.
            false => Ok(0),
        };
        if let Some(frames) = &self.engine.frames {
            frames.ring();
        }
        migrated
    }

    /// Whether a page can move whole. Huge pages that the kernel has split meanwhile cannot; by itself it
    /// makes one of 512 pages that are there and are none yet.
    fn is_whole(&mut self, page: u32) -> Result<bool, MoverError> {
        let Some(huge) = &self.huge else {
            return Ok(true);
        };
        let region = self.engine.regions.of(page);
        let first = page - page % PageSize::Huge.pages();
        if first + PageSize::Huge.pages() > region.end() {
            return Ok(false);
        }
        let hva = region.hva(first);
        let is_huge = huge.is_huge(hva).map_err(MoverError::Pagemap)?;
        if self.engine.config.backend != BackendKind::Kernel {
            return Ok(is_huge);
        }
        let pages = PageSize::Huge.pages();
        let present = self.present.count(hva, pages);
        Ok(!is_huge && present.map_err(MoverError::Pagemap)? == pages)
    }

    /// Every vCPU is stopped while a slot moves, and faults on all of it afterwards: they get as much time as it took
    /// before the next.
    fn migrate_slot(&mut self, page: u32) -> Result<u32, MoverError> {
        let start = clock::now();
        let pages = self.migrate(page)?;
        if pages > 0 {
            let took = clock::now().saturating_sub(start);
            thread::sleep(clock::duration(took, self.engine.config.tsc_hz).min(LONGEST_BREAK));
        }
        Ok(pages)
    }

    fn migrate(&mut self, page: u32) -> Result<u32, MoverError> {
        let engine = &*self.engine;
        let start = clock::now();
        // Let go last: nothing of the migration is left by then.
        let Some(_hold) = engine.keep_blocks(page) else {
            return Ok(0);
        };
        let Some(claim) = self.batch.claim(engine, page, start) else {
            return Ok(0);
        };
        let (hva, classes) = (claim.hva, claim.classes);
        let range = PageRange::new(claim.gfn, classes.len() as u32);
        let consumers = pin!(OpenRange::new(&engine.invalidations));
        // From here on the claims are let go whatever happens.
        let first = claim.first;
        let mut transaction = Transaction::new(
            claim,
            Tools {
                backend: &mut *self.backend,
                injector: &mut self.injector,
                counters: &self.counters,
                windows: &engine.windows,
                frames: engine.frames.as_deref(),
                consumers: consumers.as_ref(),
                nth: self.nth,
                waiter: self.waiter.as_mut(),
                grace: engine.grace_periods.as_deref(),
                observer: &*self.observer,
                demanded: (&engine.demanded, first),
                strategy: engine.config.strategy,
                compared_unmapped: COMPARED_UNMAPPED,
                max_window: engine.config.max_window,
                prefetch_after: engine.config.prefetch_after,
                variant: engine.config.variant,
            },
            start,
        );
        if engine.config.strategy.copies_mapped() && engine.alias.is_none() {
            // A copy that met a hole would wait for itself.
            let present = self.present.count(hva, range.pages);
            let present = present.map_err(MoverError::Pagemap)?;
            if present < range.pages {
                transaction.stop_at_hole(present);
            }
        }
        let verify = self.verifier.wants(classes);
        let mut looked = Ok(());
        if verify {
            looked = transaction
                .backend()
                .populate(hva, range.pages)
                .and_then(|()| self.verifier.before(hva, range.pages));
        }
        run_window(engine, &mut transaction)?;
        let mapped = transaction.mapped();
        let verify = verify && mapped > 0 && looked.is_ok();
        if verify {
            let backend = transaction.backend();
            looked = backend
                .populate(hva, mapped)
                .and_then(|()| self.verifier.after(hva, mapped, backend));
        }
        if let Some(address) = transaction.doubtful() {
            match self.pagemap.one(address) {
                Ok(entry) if entry.is_hole() => transaction.set_hole(),
                Ok(_) => {}
                Err(error) => looked = Err(error),
            }
        }
        let finished = transaction.finish();
        self.counters
            .uncounted_pages
            .add(self.backend.take_uncounted().into());
        finished?;
        looked.map_err(MoverError::Pagemap)?;
        if verify {
            let committed = &self.batch.classes()[..mapped as usize];
            report_frames(
                &mut self.verifier,
                committed,
                range,
                &self.counters,
                &*self.observer,
            );
        }
        Ok(range.pages)
    }

    fn report_stale(&self, frames: u32) {
        if frames > 0 {
            self.counters.stale_writes.add(frames.into());
            self.observer.on(&Event::StaleWrite {
                frames,
                tsc: clock::now(),
            });
        }
    }
}

fn run_window(engine: &Engine, transaction: &mut Transaction<'_>) -> Result<(), MoverError> {
    let _paused = match (&engine.vcpus, engine.config.strategy) {
        (Some(vcpus), StrategyKind::StopWorld) => match transaction.pause(&**vcpus) {
            Ok(Some(paused)) => Some(paused),
            Ok(None) => {
                transaction.give_up(AbortReason::Deadlock);
                return Ok(());
            }
            Err(error) => {
                transaction.give_up(AbortReason::NotPaused);
                return Err(MoverError::Pause(error));
            }
        },
        _ => None,
    };
    transaction.run();
    Ok(())
}

fn report_frames(
    verifier: &mut Verifier,
    classes: &[Option<crate::Class>],
    range: PageRange,
    counters: &LiveCounters,
    observer: &dyn Observer,
) {
    let (mut changed, mut same) = (0, 0);
    for (class, frame) in classes.iter().zip(verifier.verdicts(classes)) {
        match frame {
            Frame::Changed => {
                changed += 1;
                if let Some(class) = class {
                    counters.by_class[class.index()].verified.add(1);
                }
            }
            Frame::Same => same += 1,
            Frame::Unknown => {}
        }
    }
    counters.checked_frames.add(u64::from(changed + same));
    counters.same_frames.add(same.into());
    observer.on(&Event::Verified {
        range: PageRange::new(range.start, classes.len() as u32),
        changed,
        same,
    });
}

/// Waits part of `ticks`, so that a request to stop is seen in time; a long nap for 0.
fn sleep_ticks(ticks: u64, hz: u64) {
    let wanted = match clock::duration(ticks, hz) {
        Duration::ZERO => NAP,
        wanted => wanted,
    };
    thread::sleep(wanted.min(NAP));
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
