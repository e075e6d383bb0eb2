//! The workload `mmap1`: mappers map and unmap a region, accessors access it meanwhile (LTP,
//! testcases/kernel/mem/mtest06/mmap1.c).

use super::{
    Audit,
    middle::Middle,
    plan::{Parameters, Workload, is_over},
    stage::{OWN, SpaceParts, Stage},
};
use crate::random::Random;
use crate::{
    Cpu,
    mm::watermark::Watermarks,
    record::{self, Span},
    space::{AccessError, ChangeError, FaultError, Protection, Space},
};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use underfoot_abi::{DENIED, MAX_CPUS, MOVES, Metric, PAGE_SIZE};

const ACCESSORS: usize = OWN;
const PAGES: usize = OWN + 1;
const REMAP: usize = OWN + 2;
const PROTECT: usize = OWN + 3;

/// Always mapped: the first region shares tables of all levels but the leaves with it, the second
/// one only the root.
const NEIGHBOUR: usize = 1 << 30;
const REGIONS: [usize; 2] = [NEIGHBOUR + (2 << 20), 3 << 36];
/// Where regions are moved: not a multiple of what a leaf table spans further on, so that one table's
/// pages come into two.
const MOVED: usize = (5 << 36) + (1 << 20) - 3 * PAGE_SIZE;

/// Groups of one mapper and its accessors, each in an address space of its own.
pub struct Mmap1 {
    stage: Stage,
    spaces: [Option<&'static Space>; MAX_CPUS],
    /// The region that each group's mapper has mapped last.
    regions: [AtomicUsize; MAX_CPUS],
    accessors: usize,
    pages: usize,
    /// Regions are moved before they are unmapped.
    remap: bool,
    /// Parts of regions are protected, or unmapped and mapped again.
    protect: bool,
    seed: u64,
}

impl Mmap1 {
    /// Makes the address spaces. `None` if there is too little memory.
    #[must_use]
    pub fn build(cpu: &Cpu, parts: SpaceParts, parameters: &Parameters) -> Option<Self> {
        let accessors = parameters[ACCESSORS].max(1) as usize;
        let groups = groups(cpu.header.cpus as usize, accessors);
        let stage = Stage::build(cpu, parts, parameters, groups, false)?;
        let mut spaces = [None; MAX_CPUS];
        for space in &mut spaces[..groups] {
            let new = stage.spaces.create(cpu).ok()?;
            let neighbour = stage
                .spaces
                .map(cpu, new, NEIGHBOUR, PAGE_SIZE, Protection::Write);
            neighbour.ok()?;
            *space = Some(new);
        }
        Some(Self {
            stage,
            spaces,
            regions: [const { AtomicUsize::new(REGIONS[0]) }; MAX_CPUS],
            accessors,
            pages: parameters[PAGES].max(1) as usize,
            remap: parameters[REMAP] != 0,
            protect: parameters[PROTECT] != 0,
            seed: cpu.header.seed,
        })
    }

    /// Maps a region, uses it, lets others use it, and unmaps it.
    fn map(&self, cpu: &Cpu, group: usize, space: &'static Space, turn: u64) {
        let spaces = self.stage.spaces;
        let start = REGIONS[turn as usize % REGIONS.len()];
        let len = self.pages * PAGE_SIZE;
        let span = Span::start(cpu);
        // Without memory the region is not there this time.
        let mapped = spaces.map(cpu, space, start, len, Protection::Write);
        if mapped.is_ok() {
            self.regions[group].store(start, Relaxed);
            for address in [start, start + len - PAGE_SIZE, NEIGHBOUR] {
                let _ = spaces.access(cpu, space, address, true);
            }
            cpu.sched.yield_now(cpu);
            if self.protect {
                let middle = Middle::of(&self.stage, space, start, self.pages);
                match turn % 3 {
                    1 => middle.protect(cpu),
                    2 => middle.map_again(cpu),
                    _ => {}
                }
            }
            if self.remap {
                self.move_away(cpu, group, space, start);
            }
            self.stage.changed(cpu);
        }
        // Nor is it if this fails: it then stays for the next turn.
        let unmapped = spaces.unmap(cpu, space, start, len);
        if mapped.is_ok() && unmapped.is_ok() {
            span.finish(cpu, Metric::Operation);
            record::operation(cpu);
        }
        for why in [mapped, unmapped].into_iter().filter_map(Result::err) {
            if !matches!(why, ChangeError::Mapped { .. }) {
                self.stage.failed(cpu, "a change of mappings", why);
            }
        }
    }

    /// Moves a region to another place, where others find it, and unmaps it there. Its pages must come along:
    /// each says where it belongs, and an update that stays behind is missed by the audit.
    fn move_away(&self, cpu: &Cpu, group: usize, space: &'static Space, start: usize) {
        let (spaces, len) = (self.stage.spaces, self.pages * PAGE_SIZE);
        // The first time also what an earlier turn had no memory to unmap.
        let unmap = || spaces.unmap(cpu, space, MOVED, len);
        match unmap().and_then(|()| spaces.remap(cpu, space, start, len, MOVED)) {
            Ok(()) => {}
            // Its parts have stayed apart: there was no memory, or no slot, to merge them.
            Err(ChangeError::NotMapped { .. }) if self.protect => return,
            Err(why) => return self.stage.failed(cpu, "a move", why),
        }
        record::count(cpu, MOVES, 1);
        self.regions[group].store(MOVED, Relaxed);
        for address in (MOVED..MOVED + len).step_by(PAGE_SIZE) {
            let _ = spaces.access(cpu, space, address, address == MOVED);
        }
        cpu.sched.yield_now(cpu);
        if let Err(why) = unmap() {
            self.stage.failed(cpu, "an unmapping", why);
        }
    }

    /// Accesses the region, which may go away at any time: whatever comes of it.
    fn access(&self, cpu: &Cpu, group: usize, space: &'static Space, random: &mut Random) {
        let page = random.below(self.pages) * PAGE_SIZE;
        let address = self.regions[group].load(Relaxed) + page + 8 * random.below(512);
        let write = random.below(2) == 0;
        let accessed = self.stage.spaces.access(cpu, space, address, write);
        let refused = |why| matches!(why, AccessError::Fault(FaultError::Refused { .. }));
        if accessed.is_ok() {
            record::operation(cpu);
        } else if self.protect
            && write
            && accessed.is_err_and(refused)
            && self.stage.spaces.access(cpu, space, address, false).is_ok()
        {
            record::count(cpu, DENIED, 1);
        }
    }
}

/// Groups on `cpus` CPUs: as many as have a CPU for each of their threads, but one at least.
fn groups(cpus: usize, accessors: usize) -> usize {
    (cpus / (1 + accessors)).clamp(1, MAX_CPUS)
}

impl Workload for Mmap1 {
    fn threads(&self, _cpus: usize) -> usize {
        self.spaces.iter().flatten().count() * (1 + self.accessors)
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let (group, role) = (number / (1 + self.accessors), number % (1 + self.accessors));
        let Some(space) = self.spaces[group] else {
            return;
        };
        let mut random = Random::new(self.seed, number as u64);
        let mut operations = 0;
        while !is_over(cpu) {
            match role {
                0 => self.map(cpu, group, space, operations),
                _ => self.access(cpu, group, space, &mut random),
            }
            self.stage.between(cpu, &mut operations);
        }
    }

    fn memory(&self) -> Option<&'static Watermarks> {
        Some(self.stage.memory)
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        // SAFETY: the caller's promise.
        unsafe { self.stage.audit(cpu, self.spaces.iter().copied().flatten()) }
    }
}
