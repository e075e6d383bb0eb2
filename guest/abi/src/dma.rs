//! The DMA device: its queues, which lie in guest memory like any other page and move with it.

use core::sync::atomic::AtomicU64;

/// Descriptors in a queue.
pub const DMA_RING: usize = 64;
/// The most bytes that one descriptor may copy.
pub const DMA_MAX_BYTES: u64 = 16 << 10;
/// Addresses and lengths are multiples of this.
pub const DMA_ALIGN: u64 = size_of::<u64>() as u64;

/// What has become of a descriptor. The discriminants are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum DmaStatus {
    /// Guest: nothing to do.
    Idle = 0,
    /// Guest: to be done.
    Posted = 1,
    /// Device: the bytes are where they belong.
    Done = 2,
    /// Device: an address or the length is no multiple of [`DMA_ALIGN`].
    Unaligned = 3,
    /// Device: no byte, or more than [`DMA_MAX_BYTES`].
    Length = 4,
    /// Device: not all of it is memory that the device may reach.
    Address = 5,
}

impl DmaStatus {
    /// The status with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Idle,
            1 => Self::Posted,
            2 => Self::Done,
            3 => Self::Unaligned,
            4 => Self::Length,
            5 => Self::Address,
            _ => return None,
        })
    }
}

/// One copy. The guest fills it in and sets the status last, with release; the device sets the status
/// when it is done, with release.
#[derive(Debug)]
#[repr(C)]
pub struct DmaDescriptor {
    /// Guest physical address of the first byte to read.
    pub source: AtomicU64,
    /// Guest physical address of the first byte to write.
    pub target: AtomicU64,
    /// How many bytes.
    pub bytes: AtomicU64,
    /// [`DmaStatus`].
    pub status: AtomicU64,
}

/// One vCPU's queue, at the start of a page. [`VcpuArea::dma_queue`](crate::VcpuArea::dma_queue) says
/// where, and [`VcpuArea::dma_posted`](crate::VcpuArea::dma_posted) how many descriptors were posted
/// ever; number `n` is `descriptors[n % DMA_RING]`.
#[derive(Debug)]
#[repr(C)]
pub struct DmaQueue {
    /// The ring.
    pub descriptors: [DmaDescriptor; DMA_RING],
}

const _: () = assert!(size_of::<DmaQueue>() <= crate::PAGE_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_name_themselves() {
        for number in 0..6 {
            let status = DmaStatus::from_number(number).expect("there are six");
            assert_eq!(status as u64, number);
        }
        assert_eq!(DmaStatus::from_number(6), None);
    }
}
