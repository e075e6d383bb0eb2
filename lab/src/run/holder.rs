//! Holds vCPUs out of the guest at random while pages move, as a busy host does.

use super::RunError;
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;
use underfoot_vmm::VcpuSet;

/// The longest time between two holds.
const BETWEEN_NS: u64 = 4_000_000;
/// The longest hold; each halving of it is as likely as the others.
const HOLD_NS: u64 = 2_000_000;
const HALVINGS: u64 = 8;
/// One hold in so many is of all vCPUs at once.
const ALL_ONE_IN: u64 = 16;
/// Sets these choices apart from others of the same seed.
const STREAM: u64 = 0x686f_6c64_6572_0000;

/// A thread that holds vCPUs. To be dropped when no vCPU is in the guest any more: it may be waiting
/// for one that waits for a page.
pub struct Holder {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Holder {
    /// Starts to hold `vcpus`, chosen by `seed`.
    pub fn start(vcpus: &Arc<VcpuSet>, seed: u64) -> Result<Self, RunError> {
        let name = "holder".to_owned();
        let end = Arc::new(AtomicBool::new(false));
        let (vcpus, ends) = (Arc::clone(vcpus), Arc::clone(&end));
        let thread = Builder::new()
            .name(name.clone())
            .spawn(move || hold_until(&vcpus, &ends, Rng::with_seed(seed ^ STREAM)))
            .map_err(|source| RunError::Thread { name, source })?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }

    /// Asks it to end.
    pub fn request_end(&self) {
        // Nothing else is told by it.
        self.end.store(true, Ordering::Relaxed);
    }

    /// Waits for its end; says how many vCPUs it held.
    pub fn join(mut self) -> u64 {
        self.request_end();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(holds)) => holds,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => 0,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.request_end();
        if let Some(thread) = self.thread.take() {
            // Only reached on the way out of another failure, which is told instead.
            let _ = thread.join();
        }
    }
}

fn hold_until(vcpus: &VcpuSet, end: &AtomicBool, mut rng: Rng) -> u64 {
    let count = vcpus.len() as u32;
    let mut holds = 0;
    loop {
        sleep(Duration::from_nanos(rng.u64(..BETWEEN_NS)));
        if end.load(Ordering::Relaxed) {
            return holds;
        }
        let longest = HOLD_NS >> rng.u64(..HALVINGS);
        let length = Duration::from_nanos(rng.u64(..longest));
        if rng.u64(..ALL_ONE_IN) == 0 {
            let _paused = vcpus.pause();
            holds += u64::from(count);
            sleep(length);
        } else {
            let _held = vcpus.hold(rng.u32(..count));
            holds += 1;
            sleep(length);
        }
    }
}
