//! Walking the guest's page tables, as its processor does.

use crate::GuestRam;
use vm_memory::{Bytes, GuestAddress};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Bits of an entry that are an address (Intel SDM volume 3, 4.5).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Where the index of each level begins in an address, the root's first.
const SHIFTS: [u32; 4] = [39, 30, 21, 12];

impl GuestRam {
    /// The guest physical address that `gva` is mapped to by the four levels of tables whose root lies
    /// at `root`. `None` if it is not mapped, or the walk leaves guest memory. The guest must be at rest.
    #[must_use]
    pub fn walk(&self, root: u64, gva: u64) -> Option<u64> {
        let mut table = root & ADDRESS;
        for shift in SHIFTS {
            let index = gva >> shift & 511;
            let entry: u64 = self
                .memory()
                .read_obj(GuestAddress(table + index * 8))
                .ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            let is_leaf = shift == 12 || shift < 39 && entry & LARGE != 0;
            if is_leaf {
                let offset = (1 << shift) - 1;
                return Some(entry & ADDRESS & !offset | gva & offset);
            }
            table = entry & ADDRESS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backing, MemorySize};

    #[test]
    fn walks_small_and_large_entries_and_leaves_no_memory() {
        let size = MemorySize::new(16 << 20, u64::MAX).expect("a size");
        let ram = GuestRam::new(size, 1, Backing::Small).expect("memory");
        let set = |table: u64, index: u64, entry: u64| {
            let at = GuestAddress(table + index * 8);
            ram.memory().write_obj(entry, at).expect("in memory");
        };
        set(0x1000, 0, 0x2000 | PRESENT);
        set(0x2000, 0, 0x3000 | PRESENT);
        set(0x3000, 0, 0x4000 | PRESENT);
        set(0x3000, 1, 0x60_0000 | LARGE | PRESENT);
        set(0x3000, 2, 0x10_0000_0000 | PRESENT);
        set(0x4000, 5, 0x9000 | PRESENT);
        for (gva, gpa) in [
            (0x5123, Some(0x9123)),
            (0x6000, None),
            (0x23_4567, Some(0x63_4567)),
            (0x40_0000, None),
            (1 << 39, None),
        ] {
            assert_eq!(ram.walk(0x1000, gva), gpa, "{gva:#x}");
        }
        assert_eq!(ram.walk(0xffff_f000, 0), None);
    }
}
