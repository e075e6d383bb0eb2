//! The kernel's own moves: huge pages built from small ones, and pages sent to another NUMA node.
//!
//! Source: madvise(2), MADV_COLLAPSE (Linux 6.1); move_pages(2).

use std::io;
use std::sync::Arc;

use super::{Backend, Source};
use crate::numa::Nodes;
use crate::page_word::Lane;
use crate::registration::Registration;
use crate::uffd::{Transfer, UffdError};
use crate::{PAGE_SIZE, PageSize};

/// What the kernel is asked for.
enum Ask {
    /// One huge page in place of small ones.
    Collapse,
    /// Each page on another node than now.
    MoveToNode(Nodes),
}

/// One call of the kernel, which unmaps, copies and maps by itself: whoever touches a page meanwhile
/// sleeps in the kernel. The old frames are its own again at once, so that none is in limbo. Before the
/// call nothing is done that would have to be undone.
pub(crate) struct KernelIn {
    ask: Ask,
    registration: Arc<Registration>,
    /// The host address of the open migration.
    hva: usize,
}

impl KernelIn {
    /// For windows of up to `batch` pages of `size`. `nodes` are the NUMA nodes for small pages to go
    /// between.
    pub(crate) fn new(
        size: PageSize,
        batch: u32,
        nodes: &[u32],
        registration: Arc<Registration>,
    ) -> Self {
        let ask = match size {
            PageSize::Huge => Ask::Collapse,
            PageSize::Small => Ask::MoveToNode(Nodes::new(nodes, batch)),
        };
        Self {
            ask,
            registration,
            hva: 0,
        }
    }
}

fn collapse(hva: usize, pages: u32) -> Transfer {
    let bytes = pages as usize * PAGE_SIZE;
    // SAFETY: guest memory, which keeps its contents; nobody holds a reference to it.
    let result = unsafe { libc::madvise(hva as *mut libc::c_void, bytes, libc::MADV_COLLAPSE) };
    match result {
        0 => Transfer::of_pages(pages, 0),
        _ => Transfer::of_pages(
            0,
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        ),
    }
}

impl Backend for KernelIn {
    fn prepare(&mut self, _: u32) -> io::Result<u32> {
        Ok(0)
    }

    /// The table refuses who would protect.
    fn protect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        libc::ENOTSUP
    }

    fn unprotect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        0
    }

    /// Nothing is taken: the kernel does that in [`map`](Backend::map).
    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer {
        self.hva = hva;
        Transfer::of_pages(pages, 0)
    }

    fn copy(&mut self, _: Source, _: u32, _: usize) {}

    /// There is no copy to compare: the table refuses who would.
    fn is_copied(&self, _: Source, _: u32) -> bool {
        false
    }

    fn map(&mut self, _: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let start = hva + skip as usize * PAGE_SIZE;
        match &mut self.ask {
            Ask::Collapse => collapse(start, pages),
            Ask::MoveToNode(nodes) => {
                let (moved, errno) = nodes.move_away(start, pages);
                Transfer::of_pages(moved, errno)
            }
        }
    }

    /// The pages never went.
    fn put_back(&mut self, _: Lane, _: usize, _: u32, pages: u32) -> Transfer {
        Transfer::of_pages(pages, 0)
    }

    fn commit(&mut self, _: u32) {}

    fn forget(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.registration.wake(lane, hva, pages)
    }

    /// The kernel has the old frames: there is nothing of them to look at but the page's own address.
    fn limbo_address(&self, nth: u32) -> usize {
        self.hva + nth as usize * PAGE_SIZE
    }

    fn keeps_old_frames(&self) -> bool {
        false
    }

    /// The table refuses the variant: no old frame is in reach.
    fn scribble(&mut self) {}

    fn audit(&mut self) -> u32 {
        0
    }

    fn take_uncounted(&mut self) -> u32 {
        0
    }
}
