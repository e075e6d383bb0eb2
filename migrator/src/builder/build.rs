//! What a builder makes of what it was told.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::engine::{Config, Engine};
use crate::frames::{FrameError, FrameOptions, FramePool, PoolWaits, Purpose};
use crate::lock_order::{self, Ordered};
use crate::memory_slots::SlotTable;
use crate::numa::nodes_with_memory;
use crate::plug::{Blocks, ChangeWaits};
use crate::regions::Regions;
use crate::registration::Registration;
use crate::sync::AtomicU32;
use crate::uffd::Watch;
use crate::watchdog::{Activity, LiveVerdicts};
use crate::windows::Windows;
use crate::{
    BackendKind, Combination, InvalidationOptions, Invalidations, MAX_BATCH, MAX_SLOTS, Migrator,
    PageRange, PageSize, SlotError, StrategyKind, Variant, WaitGraph, WaitKind, clock,
};

use super::{BuildError, Builder, MAX_LIMBO, MAX_UFFDS};

impl Builder {
    /// Puts guest memory under userfaultfd. From here on a [`Handler`](crate::Handler) must run
    /// while anybody touches it.
    ///
    /// # Errors
    /// What was asked for cannot be, or the host refuses.
    pub fn build(self) -> Result<Migrator, BuildError> {
        self.check()?;
        let frames = self.frame_pool()?.map(Arc::new);
        let page_map = self.page_map.ok_or(BuildError::NoPageMap)?;
        let remaps = self.backend.needs_file();
        let whole = Regions::new(&self.memory, remaps)?;
        let regions = whole.split(self.uffds);
        let alias = match remaps {
            true => Some(Arc::new(Alias::new(&self.memory, &regions)?)),
            false => None,
        };
        let slots = match (self.backend, &self.memory_slots) {
            (BackendKind::Memslot, Some(slots)) => {
                let table = SlotTable::new(Arc::clone(slots), &regions)?;
                // Before it is registered: who populates would wait for himself.
                table.populate(&regions, &self.excluded)?;
                Some(table)
            }
            (BackendKind::Memslot, None) => return Err(SlotError::Missing.into()),
            _ => None,
        };
        if self.page_size == PageSize::Huge {
            regions.check_huge()?;
        }
        let nodes = nodes_with_memory();
        if self.backend == BackendKind::Kernel && self.strategy != StrategyKind::None {
            match self.page_size {
                PageSize::Small if nodes.len() < 2 => return Err(BuildError::OneNode),
                PageSize::Small => {}
                PageSize::Huge => regions.let_collapse().map_err(BuildError::NotCollapsible)?,
            }
        }
        let signal = self.signal_faults.then_some(&*page_map);
        let watch = if self.strategy.protects() {
            Watch::MissingAndWrites
        } else {
            Watch::Missing
        };
        let (registration, words) =
            Registration::new(&regions, &self.excluded, watch, remaps, signal)?;
        let memory = whole
            .iter()
            .map(|region| PageRange::new(region.gfn, region.pages));
        let options = InvalidationOptions {
            tracking: self.tracking,
            slots: self.slots,
            exhausted: self.exhausted,
            patience: self
                .max_window
                .map_or(self.patience, |longest| longest.min(self.patience)),
            variant: self.variant,
        };
        let invalidations = Arc::new(Invalidations::new(memory, options));
        let tsc_hz = self.tsc_hz.unwrap_or_else(clock::measured_hz);
        let mut wait_sources = self.wait_sources;
        if let Some(pool) = frames.as_ref().filter(|pool| pool.has_grace()) {
            wait_sources.push(Arc::new(PoolWaits(Arc::clone(pool))));
        }
        let blocks = Blocks::new(&regions, self.fault_lock, self.variant);
        let windows = Arc::new(Windows::default());
        wait_sources.push(Arc::new(ChangeWaits {
            wait: Arc::clone(&blocks.waiting),
            windows: Arc::clone(&windows),
        }));
        Ok(Migrator::new(Engine {
            config: Config {
                strategy: self.strategy,
                backend: self.backend,
                allocate: self.allocate,
                variant: self.variant,
                targets: self.targets,
                batch: slots
                    .as_ref()
                    .map_or(self.batch * self.page_size.pages(), SlotTable::largest),
                page_size: self.page_size,
                limbo: self.limbo.next_multiple_of(self.page_size.pages()),
                rate: self.rate,
                seed: self.seed,
                verify: self.verify,
                inject: self.inject,
                torment: self.torment,
                tsc_hz,
                rest_ticks: clock::ticks(self.rest, tsc_hz),
                prefetch_after: self.prefetch_after,
                linger_ticks: clock::ticks(self.linger, tsc_hz),
                max_window: self.max_window.map(|longest| clock::ticks(longest, tsc_hz)),
            },
            regions,
            blocks,
            nodes: nodes.into(),
            alias,
            slots,
            watch,
            words,
            registration: Arc::new(registration),
            frames,
            windows,
            demanded: AtomicU32::new(u32::MAX),
            invalidations,
            waits: Arc::new(WaitGraph::new(self.members, wait_sources)),
            activity: Activity::default(),
            verdicts: LiveVerdicts::default(),
            page_map,
            observer: self.observer,
            vcpus: self.vcpus,
            grace_periods: self.grace_periods,
            counters: Ordered::new(lock_order::Class::Counters, Vec::new()),
            memory: self.memory,
        }))
    }

    /// The pool that was asked for, or that is needed.
    fn frame_pool(&self) -> Result<Option<FramePool>, FrameError> {
        let limbo = self.limbo;
        let needed = self.strategy == StrategyKind::Lazy && self.backend == BackendKind::Move;
        let options = match self.frames {
            Some(options) => options,
            None if needed => FrameOptions::fit(self.batch, limbo),
            None if self.variant.is_of_frames() => {
                return Err(FrameError::NoPool {
                    variant: self.variant,
                });
            }
            None => return Ok(None),
        };
        if !matches!(self.backend, BackendKind::Move | BackendKind::Copy) {
            return Err(FrameError::Backend {
                backend: self.backend,
            });
        }
        if self.page_size != PageSize::Small {
            return Err(FrameError::PageSize {
                page_size: self.page_size,
            });
        }
        let purpose = Purpose {
            batch: self.batch,
            limbo,
            stride: self.verify.limbo_stride(self.batch),
            variant: self.variant,
            grace: self.grace.clone(),
        };
        FramePool::new(options, purpose).map(Some)
    }

    fn check(&self) -> Result<(), BuildError> {
        let Self { batch, limbo, .. } = *self;
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(BuildError::Batch { batch });
        }
        if self.page_size == PageSize::Huge && batch != 1 {
            return Err(BuildError::HugeBatch { batch });
        }
        let uffds = self.uffds;
        if !(1..=MAX_UFFDS).contains(&uffds) {
            return Err(BuildError::Uffds { uffds });
        }
        if self.backend == BackendKind::Memslot && (batch, uffds) != (1, 1) {
            return Err(BuildError::SlotParts { batch, uffds });
        }
        if limbo > MAX_LIMBO {
            return Err(BuildError::Limbo { limbo });
        }
        if self.max_window == Some(Duration::ZERO) {
            return Err(BuildError::MaxWindow);
        }
        if !self.allocate.suits(self.backend) {
            let backend = self.backend;
            return Err(BuildError::Allocate { backend });
        }
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            return Err(BuildError::Slots { slots: self.slots });
        }
        if self.targets.is_empty() {
            return Err(BuildError::NoTargets);
        }
        let way = Combination {
            strategy: self.strategy,
            backend: self.backend,
            wait: if self.signal_faults {
                WaitKind::Spin
            } else {
                WaitKind::Block
            },
            page_size: self.page_size,
            variant: self.variant,
        };
        way.check().map_err(|reason| BuildError::Unsound {
            strategy: way.strategy,
            backend: way.backend,
            variant: way.variant,
            reason,
        })?;
        if self.strategy == StrategyKind::StopWorld && self.vcpus.is_none() {
            return Err(BuildError::NoVcpus);
        }
        if self.variant == Variant::WindowWaitsGracePeriod && self.grace_periods.is_none() {
            return Err(BuildError::NoGracePeriods);
        }
        if self.variant == Variant::FramesInWindow && !lock_order::IS_CHECKED {
            return Err(BuildError::NoLockOrder);
        }
        Ok(())
    }
}
