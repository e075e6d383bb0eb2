//! Where things lie in the shared region.

use crate::{Header, MoverArea, VcpuArea};

/// Size of a small page and of a frame.
pub const PAGE_SIZE: usize = 4096;

/// Offsets into the shared region, the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes from the header to the page map, one byte per frame.
    pub page_map: usize,
    /// Bytes from the header to vCPU 0's area; the others follow.
    pub vcpus: usize,
    /// Bytes from the header to the area of the guest's own mover.
    pub mover: usize,
    /// Size of the whole region: a multiple of [`PAGE_SIZE`].
    pub size: usize,
}

impl Layout {
    /// The layout for a guest of `frames` frames (holes included) and `cpus` vCPUs.
    #[must_use]
    pub const fn new(frames: u64, cpus: u32) -> Self {
        let page_map = size_of::<Header>();
        let vcpus = page_map + (frames as usize).next_multiple_of(PAGE_SIZE);
        let mover = vcpus + cpus as usize * size_of::<VcpuArea>();
        Self {
            page_map,
            vcpus,
            mover,
            size: mover + size_of::<MoverArea>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_and_apart() {
        for frames in [4096, 16384, 16385, 2_359_296] {
            for cpus in [1, 2, 64] {
                let layout = Layout::new(frames, cpus);
                assert!(
                    layout.vcpus.is_multiple_of(PAGE_SIZE) && layout.size.is_multiple_of(PAGE_SIZE)
                );
                assert!(layout.vcpus >= layout.page_map + frames as usize);
                assert_eq!(
                    (layout.mover - layout.vcpus) / size_of::<VcpuArea>(),
                    cpus as usize
                );
                assert_eq!(layout.size - layout.mover, size_of::<MoverArea>());
            }
        }
    }
}
