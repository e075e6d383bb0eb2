//! What `UFFDIO_MOVE` really moved.
//!
//! Linux since 6.18, where the call moves pages in batches, does not clear the EAGAIN of an inner
//! try that failed (a page-table entry changed under it, as when a vCPU makes its page dirty). The
//! pages that the next try moves are then not counted, and the one after that finds them at their
//! destination: the call ends with EEXIST, or short, although they moved. Taken at its word, it
//! would leave the guest a page of zeroes. Source: `move_pages()` in `mm/userfaultfd.c`.
//!
//! The arena tells the truth: nobody else fills or empties its slots.

use crate::PAGE_SIZE;
use crate::uffd::Transfer;

/// `transfer` of `pages` pages with those counted that were moved all the same: `moved` looks at
/// the slot of the nth. Second, how many these are.
pub(super) fn settle(
    transfer: Transfer,
    pages: usize,
    mut moved: impl FnMut(usize) -> bool,
) -> (Transfer, u32) {
    if !matches!(transfer.errno, libc::EEXIST | libc::EAGAIN) {
        return (transfer, 0);
    }
    let counted = transfer.done / PAGE_SIZE;
    let uncounted = (counted..pages).take_while(|&nth| moved(nth)).count();
    if uncounted == 0 {
        return (transfer, 0);
    }
    let done = counted + uncounted;
    let settled = Transfer {
        done: done * PAGE_SIZE,
        // What is left was not tried.
        errno: if done == pages { 0 } else { libc::EAGAIN },
    };
    (settled, uncounted as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_decide_what_was_moved() {
        use libc::{EAGAIN, EEXIST, ENOENT};
        // Pages counted, the call's errno, pages really moved of four; then pages and errno as they
        // are, and pages uncounted.
        for (counted, errno, really, done, left, uncounted) in [
            (4, 0, 4, 4, 0, 0),
            (0, EEXIST, 4, 4, 0, 4),
            (0, EEXIST, 2, 2, EAGAIN, 2),
            (0, EEXIST, 0, 0, EEXIST, 0),
            (1, EAGAIN, 4, 4, 0, 3),
            (1, EAGAIN, 3, 3, EAGAIN, 2),
            (1, EAGAIN, 1, 1, EAGAIN, 0),
            (0, EAGAIN, 0, 0, EAGAIN, 0),
            (2, ENOENT, 2, 2, ENOENT, 0),
        ] {
            let transfer = Transfer {
                done: counted * PAGE_SIZE,
                errno,
            };
            let (settled, extra) = settle(transfer, 4, |nth| nth < really);
            assert_eq!(
                (settled.done / PAGE_SIZE, settled.errno, extra),
                (done, left, uncounted),
                "{counted} counted, errno {errno}, {really} moved"
            );
        }
    }
}
