//! All vCPUs of a machine: to pause, to hold, to end.

use crate::vcpu::VcpuHandle;
use crate::wait::WaitCounts;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two looks whether a pause goes on.
const LOOK: Duration = Duration::from_millis(1);

/// The vCPUs of one machine. Any thread but theirs may stop and resume them.
pub struct VcpuSet {
    vcpus: Vec<VcpuHandle>,
}

/// Every vCPU is out of the guest and parked; dropping this lets them go on.
#[must_use = "the vCPUs go on as soon as this is dropped"]
pub struct Paused<'a>(&'a VcpuSet);

/// One vCPU is out of the guest and parked; dropping this lets it go on.
#[must_use = "the vCPU goes on as soon as this is dropped"]
pub struct Held<'a>(&'a VcpuSet, u32);

impl VcpuSet {
    pub(crate) fn new(vcpus: Vec<VcpuHandle>) -> Self {
        Self { vcpus }
    }

    /// How many vCPUs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vcpus.len()
    }

    /// Whether there are none: never, for a machine that was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty()
    }

    /// Gets every vCPU out of the guest and returns once all are parked. Pauses and holds add up:
    /// a vCPU runs when nobody wants it out.
    ///
    /// Only a vCPU that the kernel itself keeps waiting on a page in its window cannot be parked
    /// before that window closes, so don't pause from inside one.
    pub fn pause(&self) -> Paused<'_> {
        self.hold_all();
        Paused(self)
    }

    /// As [`VcpuSet::pause`]; each call needs its `release_all`.
    pub(crate) fn hold_all(&self) {
        // All are asked before any is waited for, so that they leave the guest side by side.
        for vcpu in &self.vcpus {
            vcpu.shared.gate.hold(|| vcpu.poke());
        }
        for vcpu in &self.vcpus {
            vcpu.shared.gate.wait_outside();
        }
    }

    /// As [`VcpuSet::hold_all`], as long as `goes_on` says so, which is asked every millisecond with the vCPU
    /// that is waited for; false if it said no, and none is held.
    pub(crate) fn hold_all_while(&self, goes_on: &mut dyn FnMut(u16) -> bool) -> bool {
        for vcpu in &self.vcpus {
            vcpu.shared.gate.hold(|| vcpu.poke());
        }
        for (index, vcpu) in (0..).zip(&self.vcpus) {
            while !vcpu.shared.gate.wait_outside_for(LOOK) {
                if !goes_on(index) {
                    self.release_all();
                    return false;
                }
            }
        }
        true
    }

    /// Gets vCPU `index` out of the guest and returns once it is parked.
    ///
    /// # Panics
    /// If there is no such vCPU.
    pub fn hold(&self, index: u32) -> Held<'_> {
        let vcpu = &self.vcpus[index as usize];
        vcpu.shared.gate.hold(|| vcpu.poke());
        vcpu.shared.gate.wait_outside();
        Held(self, index)
    }

    /// Takes back the hold that every vCPU is born with.
    pub(crate) fn start(&self) {
        self.release_all();
    }

    pub(crate) fn release_all(&self) {
        self.vcpus
            .iter()
            .for_each(|vcpu| vcpu.shared.gate.release());
    }

    /// Ends every thread and waits for it. Can be called again.
    pub(crate) fn stop(&self) {
        for vcpu in &self.vcpus {
            vcpu.shared.gate.stop(|| vcpu.poke());
        }
        self.vcpus.iter().for_each(VcpuHandle::join);
    }

    /// Times that vCPU `index` entered KVM_RUN.
    ///
    /// # Panics
    /// If there is no such vCPU.
    #[must_use]
    pub fn entries(&self, index: u32) -> u64 {
        self.vcpus[index as usize]
            .shared
            .entries
            .load(Ordering::Relaxed)
    }

    /// How vCPU `index` really waited for pages in flight, as far as this process sees it.
    ///
    /// # Panics
    /// If there is no such vCPU.
    #[must_use]
    pub fn wait_counts(&self, index: u32) -> WaitCounts {
        self.vcpus[index as usize].shared.waits.counts()
    }

    /// The vCPU whose thread has this id of the kernel's.
    #[must_use]
    pub fn by_thread(&self, id: i32) -> Option<u32> {
        let is_it = |vcpu: &VcpuHandle| vcpu.shared.thread_id.load(Ordering::Relaxed) == id;
        let index = self.vcpus.iter().position(is_it)?;
        u32::try_from(index).ok()
    }

    /// The kernel's ids of the vCPU threads, by vCPU.
    #[must_use]
    pub fn thread_ids(&self) -> Vec<i32> {
        let id = |vcpu: &VcpuHandle| vcpu.shared.thread_id.load(Ordering::Relaxed);
        self.vcpus.iter().map(id).collect()
    }
}

impl Drop for VcpuSet {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.release_all();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.vcpus[self.1 as usize].shared.gate.release();
    }
}
