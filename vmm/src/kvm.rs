//! The virtual machine as KVM knows it: address space, interrupt controllers, vCPUs.

use crate::boot::Entry;
use crate::cpuid;
use crate::machine_error::{MachineError, kvm_error};
use crate::wait::{WaitKind, disables_halt_exits};
use kvm_bindings::{KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Three pages and one that KVM uses on processors without unrestricted guests; far above RAM.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;
pub(crate) fn open(path: &Path) -> Result<Kvm, MachineError> {
    let failed = |source| MachineError::OpenKvm {
        path: path.to_owned(),
        source,
    };
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
    Kvm::new_with_path(&name).map_err(|e| failed(io::Error::from_raw_os_error(e.errno())))
}

pub(crate) fn create_vm(kvm: &Kvm, wait: WaitKind) -> Result<VmFd, MachineError> {
    let vm = kvm.create_vm().map_err(kvm_error("to create a VM"))?;
    if disables_halt_exits(wait) {
        let offered = kvm.check_extension_raw(KVM_CAP_X86_DISABLE_EXITS.into());
        if offered.cast_unsigned() & KVM_X86_DISABLE_EXITS_HLT == 0 {
            return Err(MachineError::WaitPolicy { policy: wait });
        }
        let mut cap = kvm_enable_cap {
            cap: KVM_CAP_X86_DISABLE_EXITS,
            ..Default::default()
        };
        cap.args[0] = KVM_X86_DISABLE_EXITS_HLT.into();
        // Must come before the first vCPU.
        vm.enable_cap(&cap)
            .map_err(kvm_error("to disable HLT exits"))?;
    }
    // Intel processors without unrestricted guests need both; the others take no notice.
    vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)
        .map_err(kvm_error("the identity map's address"))?;
    vm.set_tss_address(TSS_ADDRESS)
        .map_err(kvm_error("the TSS address"))?;
    vm.create_irq_chip()
        .map_err(kvm_error("to create the interrupt controllers"))?;
    Ok(vm)
}

pub(crate) fn create_vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    cpus: u32,
    entry: &Entry,
) -> Result<Vec<VcpuFd>, MachineError> {
    let supported = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(kvm_error("to name its CPUID"))?;
    (0..cpus)
        .map(|index| {
            let vcpu = vm
                .create_vcpu(index.into())
                .map_err(kvm_error("to create a vCPU"))?;
            vcpu.set_cpuid2(&cpuid::for_vcpu(&supported, index, cpus))
                .map_err(kvm_error("the vCPU's CPUID"))?;
            if index == 0 {
                let reset = vcpu.get_sregs().map_err(kvm_error("to read registers"))?;
                vcpu.set_sregs(&Entry::special_registers(reset))
                    .map_err(kvm_error("the entry's special registers"))?;
                vcpu.set_regs(&entry.registers())
                    .map_err(kvm_error("the entry's registers"))?;
            }
            Ok(vcpu)
        })
        .collect()
}
