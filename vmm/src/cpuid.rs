//! What each vCPU says of itself.

use kvm_bindings::CpuId;

const LEAF_FEATURES: u32 = 0x1;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;

/// What KVM supports, with vCPU `index`'s own APIC id wherever CPUID names one.
///
/// Source: Intel SDM vol. 2A, CPUID, leaves 1, 0BH and 1FH; AMD APM vol. 3, Fn8000_001E.
pub(crate) fn for_vcpu(supported: &CpuId, index: u32, cpus: u32) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            LEAF_FEATURES => {
                let logical = cpus.min(0xff);
                entry.ebx = entry.ebx & 0x0000_ffff | logical << 16 | index << 24;
            }
            LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 => entry.edx = index,
            LEAF_AMD_TOPOLOGY => entry.eax = index,
            _ => {}
        }
    }
    cpuid
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_cpuid_entry2;

    #[test]
    fn each_vcpu_has_its_own_apic_id_and_nothing_else_changes() {
        let entry = |function, ebx| kvm_cpuid_entry2 {
            function,
            ebx,
            ..Default::default()
        };
        let supported =
            CpuId::from_entries(&[entry(0, 5), entry(1, 0x0b02_1234), entry(0xb, 7)]).unwrap();
        let cpuid = for_vcpu(&supported, 3, 4);
        let entries = cpuid.as_slice();
        assert_eq!(entries[0], supported.as_slice()[0]);
        assert_eq!(entries[1].ebx, 0x0304_1234);
        assert_eq!((entries[2].ebx, entries[2].edx), (7, 3));
    }
}
