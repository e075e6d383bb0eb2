//! Where the device learns of work.

use crate::shared::SharedRegion;
use std::sync::atomic::Ordering;

/// The words by which a guest tells the device of its queues: allegations all of them.
pub trait Doorbells: Send + Sync {
    /// How many queues there may be.
    fn queues(&self) -> u32;

    /// Guest physical address of queue `queue`, below [`Self::queues`]; 0 if it has none yet.
    fn queue_gpa(&self, queue: u32) -> u64;

    /// Descriptors posted there ever. Acquire: pairs with the guest's release, so that what was posted
    /// is seen.
    fn posted(&self, queue: u32) -> u64;
}

/// A queue for each vCPU.
impl Doorbells for SharedRegion {
    fn queues(&self) -> u32 {
        self.cpus()
    }

    fn queue_gpa(&self, queue: u32) -> u64 {
        self.vcpu(queue).dma_queue.load(Ordering::Relaxed)
    }

    fn posted(&self, queue: u32) -> u64 {
        self.vcpu(queue).dma_posted.load(Ordering::Acquire)
    }
}
