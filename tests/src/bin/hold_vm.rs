//! Keeps a VM with one vCPU that never runs, until it is killed, so that KVM's static keys stay as they
//! are while other VMs come and go.
//!
//! KVM patches code of the running kernel when its first VM comes and its last one goes, and when no local
//! APIC is left that software has disabled. QEMU's TCG with a thread for each CPU lets a CPU run into code
//! that another one is patching, so that the kernel in the box dies by a breakpoint that nobody set, or
//! goes on with the old code. One VM that stays, whose APIC is as reset left it, spares the patching.

use kvm_ioctls::Kvm;

fn main() -> Result<(), kvm_ioctls::Error> {
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    vm.create_irq_chip()?;
    let _vcpu = vm.create_vcpu(0)?;
    println!("a VM is held");
    loop {
        std::thread::park();
    }
}
