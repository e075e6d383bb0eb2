//! Pages in a row that move.

use std::ops::Range;
use underfoot_abi::{PAGE_SIZE, PageKind};
use underfoot_migrator::{Class, Gfn, PageMap};
use underfoot_vmm::Machine;

/// Guest pages in a row, in memory that is one mapping of this process.
#[derive(Clone, Debug)]
pub struct Span {
    /// Their frame numbers.
    pub gfns: Range<u64>,
    /// The host address of the first.
    address: usize,
}

impl Span {
    /// The pages `gfns` of memory whose first page is at `base` and has the number 0.
    #[must_use]
    pub fn at(base: usize, gfns: Range<u64>) -> Self {
        let address = base + gfns.start as usize * PAGE_SIZE;
        Self { gfns, address }
    }

    /// The pages `gfns` of `machine`, all in the low part of its memory.
    #[must_use]
    pub fn of(machine: &Machine, gfns: Range<u64>) -> Self {
        let low = machine.ram().ranges()[0];
        Self::at((low.hva - low.gpa) as usize, gfns)
    }

    /// The `nth` of `parts` equal parts.
    #[must_use]
    pub fn part(&self, nth: u64, parts: u64) -> Self {
        let each = (self.gfns.end - self.gfns.start) / parts;
        let skipped = nth * each;
        Self {
            gfns: self.gfns.start + skipped..self.gfns.start + skipped + each,
            address: self.address + skipped as usize * PAGE_SIZE,
        }
    }

    /// The host address of the first page.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.address
    }

    /// How many they are, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        (self.gfns.end - self.gfns.start) as usize * PAGE_SIZE
    }

    /// The host addresses of its batches of pages, in an order without pattern: the engine's plan has
    /// none either.
    #[must_use]
    pub fn shuffled(&self, batch: u32) -> Vec<usize> {
        let end = self.address + self.bytes();
        let mut starts: Vec<usize> = (self.address..end)
            .step_by(batch as usize * PAGE_SIZE)
            .collect();
        fastrand::Rng::with_seed(1).shuffle(&mut starts);
        starts
    }
}

/// They may move, whatever they hold; no others.
impl PageMap for Span {
    fn class(&self, gfn: Gfn) -> Option<Class> {
        let inside = self.gfns.contains(&gfn.0);
        inside.then(|| Class::new(PageKind::Free as u8).expect("kinds are classes"))
    }

    fn sleeps(&self, _: Gfn) -> bool {
        true
    }
}

/// All memory may move, whatever it holds.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl PageMap for Everything {
    fn class(&self, _: Gfn) -> Option<Class> {
        Class::new(PageKind::Free as u8)
    }

    fn sleeps(&self, _: Gfn) -> bool {
        true
    }
}
