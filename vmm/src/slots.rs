//! KVM's memory slots, and how one is forgotten and known again.

use crate::machine_error::{MachineError, kvm_error};
use crate::memory::{GuestRam, RamRange};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use std::fmt;
use std::io;
use std::sync::Arc;
use underfoot_abi::PAGE_SIZE;
use underfoot_migrator::{Gfn, MemorySlots, PageRange};

/// The slots that guest memory is known to KVM by.
pub struct VmSlots {
    vm: Arc<VmFd>,
    /// By number.
    slots: Vec<RamRange>,
    /// Where they lie, for as long as KVM may know them.
    _ram: GuestRam,
}

impl VmSlots {
    /// Has KVM know `ram`, in slots of `size` bytes at most if that is said.
    ///
    /// # Errors
    /// [`MachineError::Kvm`], of more slots than it has too.
    pub(crate) fn register(
        vm: &Arc<VmFd>,
        ram: &GuestRam,
        size: Option<u64>,
    ) -> Result<Self, MachineError> {
        let slots = Self {
            vm: Arc::clone(vm),
            slots: ram.slots(size),
            _ram: ram.clone(),
        };
        for (number, slot) in (0..).zip(&slots.slots) {
            slots
                .set(number, slot, slot.len)
                .map_err(kvm_error("guest memory"))?;
        }
        Ok(slots)
    }

    /// Has KVM know `bytes` bytes of a slot: all of it, or none.
    fn set(&self, number: u32, slot: &RamRange, bytes: u64) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: 0,
            guest_phys_addr: slot.gpa,
            memory_size: bytes,
            userspace_addr: slot.hva,
        };
        // SAFETY: the range is part of a mapping of the guest's memory, which this value keeps for as long as it keeps the
        // VM; nobody in this process takes plain references into it. Who replaces its pages does so while KVM does not
        // know the slot.
        unsafe { self.vm.set_user_memory_region(region) }
    }

    fn find(&self, slot: PageRange) -> io::Result<(u32, &RamRange)> {
        (0..)
            .zip(&self.slots)
            .find(|(_, range)| pages_of(range) == slot)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn pages_of(range: &RamRange) -> PageRange {
    let pages = range.len / PAGE_SIZE as u64;
    PageRange::new(
        Gfn::containing(range.gpa),
        u32::try_from(pages).unwrap_or(u32::MAX),
    )
}

impl fmt::Debug for VmSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.slots).finish()
    }
}

impl MemorySlots for VmSlots {
    fn ranges(&self) -> Vec<PageRange> {
        self.slots.iter().map(pages_of).collect()
    }

    /// KVM drops every mapping of the slot's pages, and waits until no vCPU looks at the old slots any more.
    fn remove(&self, slot: PageRange) -> io::Result<()> {
        let (number, range) = self.find(slot)?;
        self.set(number, range, 0).map_err(io::Error::from)
    }

    fn restore(&self, slot: PageRange) -> io::Result<()> {
        let (number, range) = self.find(slot)?;
        self.set(number, range, range.len).map_err(io::Error::from)
    }
}
