//! What goes together in an experiment.

use super::Experiment;
use crate::frame_pool;
use crate::names::{FramesAfter, Named, Role, Variant};
use crate::settings::ExperimentError;
use crate::targets::Targets;
use crate::units::Span;
use underfoot_abi::WorkloadId;
use underfoot_migrator::{BackendKind, PageSize, StrategyKind, WaitKind};

impl Experiment {
    pub(super) fn check_combination(&self) -> Result<(), ExperimentError> {
        if !self.variant.guest().concerns(self.workload) {
            let concerned = |workload: &&WorkloadId| self.variant.guest().concerns(**workload);
            let others = WorkloadId::ALL.iter().filter(concerned);
            return Err(ExperimentError::Elsewhere {
                variant: self.variant.name(),
                workload: self.workload.name(),
                others: others
                    .map(|one| one.name())
                    .collect::<Vec<_>>()
                    .join(" or "),
            });
        }
        if u32::from(self.cpus.get()) < self.variant.guest().least_cpus() {
            return Err(ExperimentError::Unsound {
                combination: format!("variant {}, --cpus {}", self.variant.name(), self.cpus),
                reason: "the variant forgets another vCPU, and there is none, so that nothing could be \
                         caught: give the guest --cpus 2 or more",
            });
        }
        let told = self.parameters.values();
        if let Some(idle) = self.variant.guest().idle_by(self.workload, &told) {
            let (value, remedy) = self
                .parameters
                .shown_with_others(idle.parameter, idle.values);
            return Err(ExperimentError::Idle {
                variant: self.variant.name(),
                workload: self.workload.name(),
                parameter: idle.parameter,
                value,
                remedy,
            });
        }
        let least = Span::from_ns(self.variant.guest().least_ns());
        if self.duration < least {
            return Err(ExperimentError::TooShort {
                variant: self.variant.name(),
                duration: self.duration,
                least,
            });
        }
        if !self.allocate.suits(self.backend) {
            return Err(ExperimentError::Unsound {
                combination: format!(
                    "allocate {}, backend {}",
                    self.allocate.name(),
                    self.backend.name()
                ),
                reason: "with move frames are staged before the window, and with copy the kernel always \
                         allocates them in it: choose --backend remap --strategy protect-copy",
            });
        }
        self.check_huge()?;
        self.check_frames()?;
        if self.variant.needs_replug() && self.replug.is_none() {
            return Err(ExperimentError::Unsound {
                combination: format!("variant {}, no replug", self.variant.name()),
                reason: "all of guest memory stays plugged, so that nothing could be caught: give --replug 1000 as well",
            });
        }
        self.check_page_events()?;
        self.check_roles()?;
        self.combination()
            .check()
            .map_err(|reason| ExperimentError::Unsound {
                combination: format!(
                    "strategy {}, backend {}, wait {}, page size {}, variant {}",
                    self.strategy.name(),
                    self.backend.name(),
                    self.wait.name(),
                    self.page_size.name(),
                    self.variant.name()
                ),
                reason,
            })?;
        self.check_slots() // what slots want of the rest, where the table lets them move at all
    }

    fn check_roles(&self) -> Result<(), ExperimentError> {
        let refused = |combination: String, reason| {
            Err(ExperimentError::Unsound {
                combination,
                reason,
            })
        };
        let bound = |role| self.affinity.as_ref().and_then(|roles| roles.get(role));
        let policy = self
            .sched
            .as_ref()
            .and_then(|roles| roles.get(Role::Antagonist));
        if let (Some(over), Some(cpus)) = (&self.overcommit, bound(Role::Vcpu)) {
            return refused(
                format!("overcommit {}, affinity vcpu={cpus}", over.per_cpu),
                "both say where vCPUs run: leave one of them out",
            );
        }
        if let Some(policy) = policy {
            return refused(
                format!("sched antagonist={policy}"),
                "antagonists run as ordinary threads, so that they leave the guest and this process some time: say \
                 their nice value as --antagonists N:DUTY:NICE",
            );
        }
        match (self.antagonists, bound(Role::Antagonist)) {
            (None, Some(cpus)) => refused(
                format!("affinity antagonist={cpus}, no antagonists"),
                "nobody would run there: give --antagonists as well, or leave that role out",
            ),
            _ => Ok(()),
        }
    }

    fn check_frames(&self) -> Result<(), ExperimentError> {
        let refused = |reason| {
            Err(ExperimentError::Unsound {
                combination: format!(
                    "frames {}, strategy {}, backend {}, page size {}, variant {}",
                    self.frames
                        .as_ref()
                        .map_or_else(|| "none".to_owned(), frame_pool::text),
                    self.strategy.name(),
                    self.backend.name(),
                    self.page_size.name(),
                    self.variant.name()
                ),
                reason,
            })
        };
        let pool = self.frames.is_some();
        if pool && self.backend.needs_file() {
            return refused(
                "the pool has anonymous memory, and guest memory lies in a file: use the backend move or copy",
            );
        }
        if pool && self.page_size != PageSize::Small {
            return refused("the pool has frames of 4KiB: use pages of 4KiB");
        }
        if self.frames_after == FramesAfter::Grace && !pool {
            return refused(
                "without a pool no old frame waits for the guest: give --frames as well, or leave --frames-after out",
            );
        }
        if self.variant == Variant::WindowWaitsFrames && self.frames_after != FramesAfter::Grace {
            return refused(
                "frames come back by themselves, so that nothing could be caught: give --frames 128 --frames-after \
                 grace as well",
            );
        }
        if self.variant.engine().is_of_frames() && !(pool && self.backend == BackendKind::Move) {
            return refused(
                "the variant is one of the pool of frames: give --frames and the backend move as well",
            );
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), ExperimentError> {
        let refused = |what: String, reason| {
            Err(ExperimentError::Unsound {
                combination: format!("backend {}, {what}", self.backend.name()),
                reason,
            })
        };
        if self.backend != BackendKind::Memslot {
            return match self.slot_size {
                None => Ok(()),
                Some(size) => refused(
                    format!("slot size {size}"),
                    "only memslot moves slots: leave the size out, or choose --backend memslot --strategy stop-world",
                ),
            };
        }
        if self.batch.get() != 1 {
            return refused(
                format!("batch {}", self.batch),
                "a slot moves whole, however many pages it has: leave the batch out, and say --slot-size",
            );
        }
        if self.uffds.get() != 1 {
            return refused(
                format!("uffds {}", self.uffds),
                "a slot lies under one userfaultfd: leave the number out",
            );
        }
        if self.targets != Targets::all() {
            return refused(
                format!("target {}", self.targets),
                "a slot moves whole, with pages of every kind: leave the kinds out",
            );
        }
        if self.hugepages {
            return refused(
                "hugepages true".to_owned(),
                "a slot moves into memory of small pages: leave --hugepages out",
            );
        }
        if self.frames.is_some() {
            return refused(
                "a pool of frames".to_owned(),
                "a slot moves into memory of its own: leave --frames out",
            );
        }
        Ok(())
    }

    fn check_page_events(&self) -> Result<(), ExperimentError> {
        let told = self.wait == WaitKind::Async && self.strategy != StrategyKind::None;
        if self.variant != Variant::LostWake || told {
            return Ok(());
        }
        Err(ExperimentError::Unsound {
            combination: format!(
                "variant {}, wait {}, strategy {}",
                self.variant.name(),
                self.wait.name(),
                self.strategy.name()
            ),
            reason: "the variant forgets that a page is there, and the guest is told of none: use --wait async, \
                     and a strategy that moves pages",
        })
    }

    fn check_huge(&self) -> Result<(), ExperimentError> {
        let refused = |reason| {
            Err(ExperimentError::Unsound {
                combination: format!(
                    "page size {}, hugepages {}, batch {}",
                    self.page_size.name(),
                    self.hugepages,
                    self.batch
                ),
                reason,
            })
        };
        match self.page_size {
            PageSize::Small => Ok(()),
            PageSize::Huge if self.backend == BackendKind::Kernel && self.hugepages => refused(
                "the backend kernel builds huge pages from small ones, and guest memory has none: leave \
                 --hugepages out",
            ),
            PageSize::Huge if self.backend == BackendKind::Kernel && self.batch.get() == 1 => {
                Ok(())
            }
            PageSize::Huge if !self.hugepages && self.backend != BackendKind::Kernel => {
                refused("guest memory lies in small pages: give --hugepages as well")
            }
            PageSize::Huge if self.batch.get() != 1 => {
                refused("one huge page is moved in one window: leave --batch out")
            }
            PageSize::Huge => Ok(()),
        }
    }
}
