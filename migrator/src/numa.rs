//! NUMA nodes: which there are, and sending pages from one to the next.
//!
//! Source: `Documentation/ABI/stable/sysfs-devices-node`, move_pages(2).

use std::fs;
use std::io;

use crate::PAGE_SIZE;

/// `linux/mempolicy.h`: move pages that this process alone maps.
const MPOL_MF_MOVE: libc::c_int = 1 << 1;
const WITH_MEMORY: &str = "/sys/devices/system/node/has_memory";

/// The nodes that have memory; one, numbered 0, where the kernel does not say.
pub(crate) fn nodes_with_memory() -> Vec<u32> {
    let list = fs::read_to_string(WITH_MEMORY).ok();
    let nodes = list.as_deref().and_then(parse_list);
    nodes
        .filter(|nodes| !nodes.is_empty())
        .unwrap_or_else(|| vec![0])
}

/// How many NUMA nodes have memory here: with fewer than two [`BackendKind::Kernel`] has nowhere to move
/// small pages to.
///
/// [`BackendKind::Kernel`]: crate::BackendKind::Kernel
#[must_use]
pub fn numa_nodes() -> usize {
    nodes_with_memory().len()
}

/// Numbers and ranges of them, as in `0-1,4`.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(all)
}

/// Sends pages away from the nodes on which they are. Its arrays are made once, for the largest batch.
pub(crate) struct Nodes {
    all: Box<[u32]>,
    addresses: Box<[usize]>,
    /// Where each page is, or is to go.
    wanted: Box<[libc::c_int]>,
    status: Box<[libc::c_int]>,
}

impl Nodes {
    pub(crate) fn new(all: &[u32], batch: u32) -> Self {
        let numbers = || vec![0; batch as usize].into_boxed_slice();
        Self {
            all: all.into(),
            addresses: vec![0; batch as usize].into_boxed_slice(),
            wanted: numbers(),
            status: numbers(),
        }
    }

    /// Moves `pages` pages from `start` on to the node after their own. How many moved, from the first
    /// on, and the errno of the one after them.
    pub(crate) fn move_away(&mut self, start: usize, pages: u32) -> (u32, i32) {
        let pages = pages as usize;
        for (nth, address) in self.addresses[..pages].iter_mut().enumerate() {
            *address = start + nth * PAGE_SIZE;
        }
        if let Err(errno) = self.call(pages, false) {
            return (0, errno);
        }
        for nth in 0..pages {
            let next = self.after(self.status[nth]);
            self.wanted[nth] = next;
        }
        if let Err(errno) = self.call(pages, true) {
            return (0, errno);
        }
        let stayed = (0..pages).find(|&nth| self.status[nth] != self.wanted[nth]);
        match stayed {
            None => (pages as u32, 0),
            // A status below 0 is an errno; a page that is on another node was pinned for a while.
            Some(nth) => (
                nth as u32,
                match self.status[nth] {
                    errno if errno < 0 => -errno,
                    _ => libc::EAGAIN,
                },
            ),
        }
    }

    fn after(&self, node: libc::c_int) -> libc::c_int {
        let position = self
            .all
            .iter()
            .position(|&one| i64::from(one) == i64::from(node));
        let next = position.map_or(0, |position| (position + 1) % self.all.len());
        self.all[next] as libc::c_int
    }

    /// Moves, or asks where the pages are: either way [`status`](Self::status) has the nodes.
    fn call(&mut self, pages: usize, moves: bool) -> Result<(), i32> {
        let wanted = match moves {
            true => self.wanted.as_ptr(),
            false => std::ptr::null(),
        };
        // SAFETY: three arrays of at least `pages` entries, of which the kernel writes the last; the
        // addresses are guest pages of this process, which keep their contents.
        let left = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages,
                self.addresses.as_ptr(),
                wanted,
                self.status.as_mut_ptr(),
                MPOL_MF_MOVE,
            )
        };
        // More than 0 is how many stayed: their status says why.
        match left {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_of_nodes_are_read() {
        for (text, nodes) in [
            ("0\n", Some(vec![0])),
            ("0-1,4\n", Some(vec![0, 1, 4])),
            ("\n", Some(vec![])),
            ("x", None),
            ("1-y", None),
        ] {
            assert_eq!(parse_list(text), nodes, "{text:?}");
        }
        assert!(!nodes_with_memory().is_empty());
    }

    #[test]
    fn pages_go_to_the_next_node_and_round() {
        let nodes = Nodes::new(&[0, 2, 5], 1);
        assert_eq!([0, 2, 5, -2].map(|node| nodes.after(node)), [2, 5, 0, 0]);
    }

    /// With one node a page is sent to where it is: the call succeeds and says so.
    #[test]
    fn the_kernel_is_asked_and_answers() {
        let page = vec![1u8; 3 * PAGE_SIZE];
        let start = (page.as_ptr() as usize).next_multiple_of(PAGE_SIZE);
        let node = nodes_with_memory()[0];
        let mut nodes = Nodes::new(&[node], 2);
        assert_eq!(nodes.move_away(start, 2), (2, 0));
        assert!(page.iter().all(|&byte| byte == 1));
    }
}
