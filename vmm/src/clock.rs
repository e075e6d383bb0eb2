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

/// The host's TSC and CLOCK_MONOTONIC_RAW at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPair {
    /// The TSC, in ticks: the middle between a reading before that of the clock and one after it.
    pub tsc: u64,
    /// The clock, in ns.
    pub raw_ns: u64,
    /// Half of the ticks between the two readings: how wrong `tsc` can be.
    pub error_ticks: u64,
}

impl ClockPair {
    /// The closest of `tries` readings (at least one).
    #[must_use]
    pub fn read(tries: u32) -> Self {
        let readings = (0..tries.max(1)).map(|_| Self::read_once());
        let closest = readings.min_by_key(|reading| reading.error_ticks);
        closest.unwrap_or_else(Self::read_once)
    }

    fn read_once() -> Self {
        let before = sys::host_tsc();
        let raw_ns = sys::raw_clock_ns();
        let apart = sys::host_tsc().saturating_sub(before);
        Self {
            tsc: before + apart / 2,
            raw_ns,
            error_ticks: apart.div_ceil(2),
        }
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
