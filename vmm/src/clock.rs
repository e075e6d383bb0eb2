//! How the guest's time-stamp counter relates to the host's.

use crate::sys;
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

const MSR_TSC: u32 = 0x10;

/// What is known of one vCPU's TSC, before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TscRelation {
    /// What KVM says that it adds to the host's TSC, after it was asked to add nothing; `None`
    /// when it cannot be asked.
    pub offset: Option<i64>,
    /// Guest TSC less host TSC lies in this range, by a reading of the guest's TSC between two of
    /// the host's; `None` when KVM does not give the guest's.
    pub measured: Option<(i64, i64)>,
}

impl TscRelation {
    /// Whether the readings allow that both counters are the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.measured
            .is_some_and(|(least, most)| least <= 0 && 0 <= most)
    }
}

/// Asks KVM for a guest TSC that equals the host's, and measures what it made of that.
pub(crate) fn align(vcpu: &VcpuFd) -> TscRelation {
    // A KVM before 5.16 has no such attribute; the measurement then says what the offset is.
    let offset = sys::set_tsc_offset(vcpu, 0).and_then(|()| sys::tsc_offset(vcpu));
    TscRelation {
        offset: offset.ok().map(u64::cast_signed),
        measured: measure(vcpu),
    }
}

fn measure(vcpu: &VcpuFd) -> Option<(i64, i64)> {
    let entry = kvm_msr_entry {
        index: MSR_TSC,
        ..Default::default()
    };
    let mut msrs = Msrs::from_entries(&[entry]).ok()?;
    let before = sys::host_tsc();
    let read = vcpu.get_msrs(&mut msrs).ok()?;
    let after = sys::host_tsc();
    let guest = msrs.as_slice().first().filter(|_| read == 1)?.data;
    let less = |host: u64| guest.wrapping_sub(host).cast_signed();
    Some((less(after), less(before)))
}
