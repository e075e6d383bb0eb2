//! What `mmap1` does to the middle of a region: its mapping is split, and merged again.

use super::stage::Stage;
use crate::{
    Cpu, record,
    space::{AccessError, FaultError, Protection, Space},
};
use core::ops::Range;
use underfoot_abi::{DENIED, PAGE_SIZE};

/// The middle pages of a region that is mapped for writing. Nobody else changes its mapping.
pub(super) struct Middle<'a> {
    stage: &'a Stage,
    space: &'static Space,
    range: Range<usize>,
}

impl<'a> Middle<'a> {
    /// That of the `pages` pages from `start` on: half of them, but one at least.
    pub(super) fn of(stage: &'a Stage, space: &'static Space, start: usize, pages: usize) -> Self {
        let start = start + pages / 4 * PAGE_SIZE;
        Self {
            stage,
            space,
            range: start..start + (pages / 2).max(1) * PAGE_SIZE,
        }
    }

    /// Makes it read-only for a while, in which no write may land there.
    pub(super) fn protect(&self, cpu: &Cpu) {
        // Else there would be nothing to take away from others.
        for address in self.range.clone().step_by(PAGE_SIZE) {
            let _ = self.access(cpu, address, true);
        }
        if !self.allow(cpu, Protection::Read) {
            return;
        }
        self.stage.settle(cpu);
        let before = self.written(cpu);
        for address in self.range.clone().step_by(PAGE_SIZE) {
            self.must_refuse(cpu, address, true);
            if self.access(cpu, address, false).is_ok() {
                record::count(cpu, DENIED, 1);
            }
        }
        cpu.sched.yield_now(cpu);
        // Less is no error: what was evicted begins anew.
        let after = self.written(cpu);
        record::checked(cpu, 1);
        if after > before {
            record::error(cpu, self.range.start, after - before);
        }
        if self.allow(cpu, Protection::Write) {
            self.must_allow(cpu);
        }
    }

    /// Unmaps it, and maps it again.
    pub(super) fn map_again(&self, cpu: &Cpu) {
        let Range { start, end } = self.range;
        let spaces = self.stage.spaces;
        if let Err(why) = spaces.unmap(cpu, self.space, start, end - start) {
            return self.stage.failed(cpu, "an unmapping of a part", why);
        }
        for address in [start, end - PAGE_SIZE] {
            self.must_refuse(cpu, address, false);
        }
        match spaces.map(cpu, self.space, start, end - start, Protection::Write) {
            Ok(()) => self.must_allow(cpu),
            Err(why) => self.stage.failed(cpu, "a mapping of a part", why),
        }
    }

    /// Changes what it allows; whether that could be done.
    fn allow(&self, cpu: &Cpu, protection: Protection) -> bool {
        let Range { start, end } = self.range;
        let spaces = self.stage.spaces;
        let changed = spaces.protect(cpu, self.space, start, end - start, protection);
        if let Err(why) = changed {
            self.stage.failed(cpu, "a change of protection", why);
        }
        changed.is_ok()
    }

    fn access(&self, cpu: &Cpu, address: usize, write: bool) -> Result<usize, AccessError> {
        let spaces = self.stage.spaces;
        spaces.access(cpu, self.space, address, write)
    }

    fn must_refuse(&self, cpu: &Cpu, address: usize, write: bool) {
        record::checked(cpu, 1);
        if self.access(cpu, address, write).is_ok() {
            record::error(cpu, address, u64::from(write));
        }
    }

    /// Both ends may be written. That memory is short is no error.
    fn must_allow(&self, cpu: &Cpu) {
        for address in [self.range.start, self.range.end - PAGE_SIZE] {
            record::checked(cpu, 1);
            if let Err(AccessError::Fault(FaultError::Refused { .. })) =
                self.access(cpu, address, true)
            {
                record::error(cpu, address, 0);
            }
        }
    }

    /// How often the pages that are there were written.
    fn written(&self, cpu: &Cpu) -> u64 {
        let pages = self.range.clone().step_by(PAGE_SIZE);
        pages
            .filter_map(|address| self.stage.spaces.written(cpu, self.space, address))
            .sum()
    }
}
