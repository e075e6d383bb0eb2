//! The pages that the workload `chase` reads all the time and never writes.

use crate::span::Span;
use underfoot_abi::{PAGE_SIZE, PageKind};
use underfoot_vmm::Machine;

/// Finds the ring of `pages` pages of a guest that runs `chase`: the first words of its pages name the next
/// page each, all of them once.
///
/// # Panics
/// If there is none: the guest runs something else.
#[must_use]
pub fn find(machine: &Machine, pages: u64) -> Span {
    let map = machine.shared().page_map();
    let is_data = |gfn: u64| {
        let byte = machine.shared().page_byte(gfn);
        byte.is_some_and(|byte| byte.kind() == PageKind::Data)
    };
    // The allocator gives a power of two of pages at a multiple of it.
    let size = pages.next_power_of_two();
    (0..map.len() as u64 / size)
        .map(|block| Span::of(machine, block * size..block * size + pages))
        .find(|span| span.gfns.clone().all(is_data) && is_ring(span))
        .expect("a guest that runs chase with so many pages")
}

fn is_ring(span: &Span) -> bool {
    let pages = span.bytes() / PAGE_SIZE;
    let mut seen = vec![false; pages];
    (span.start()..span.start() + span.bytes())
        .step_by(PAGE_SIZE)
        .all(|address| {
            // SAFETY: guest memory, mapped and populated; the guest may write it, hence volatile.
            let next = unsafe { (address as *const u64).read_volatile() };
            let next = usize::try_from(next).unwrap_or(usize::MAX);
            seen.get_mut(next)
                .is_some_and(|seen| !std::mem::replace(seen, true))
        })
}
