//! Memory of this process in the form of guest memory, without a guest.

use std::sync::Arc;
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::area::advise;
use underfoot_benches::span::Span;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Between shards: so that they never are one mapping.
const GAP: u64 = 2 << 20;

/// Memory whose pages are all populated, small ones.
pub struct Memory {
    pub memory: Arc<GuestMemoryMmap>,
    /// One for each shard.
    pub spans: Vec<Span>,
}

impl Memory {
    /// `bytes` in `shards` mappings of one size.
    pub fn new(bytes: usize, shards: usize) -> Self {
        let each = bytes / shards;
        let ranges: Vec<_> = (0..shards as u64)
            .map(|nth| (GuestAddress(nth * (each as u64 + GAP)), each))
            .collect();
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("memory");
        let mut spans = Vec::with_capacity(shards);
        for (nth, region) in memory.iter().enumerate() {
            let hva = region.as_ptr() as usize;
            for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_POPULATE_WRITE] {
                advise(hva, each, advice).expect("enough memory");
            }
            if nth % 2 == 1 {
                // Neighbours that are advised alike would be one mapping.
                advise(hva, each, libc::MADV_DONTDUMP).expect("memory of our own");
            }
            let first = region.start_addr().0 / PAGE_SIZE as u64;
            let base = hva.wrapping_sub(first as usize * PAGE_SIZE);
            spans.push(Span::at(base, first..first + (each / PAGE_SIZE) as u64));
        }
        Self {
            memory: Arc::new(memory),
            spans,
        }
    }
}
