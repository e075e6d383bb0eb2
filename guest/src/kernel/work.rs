use super::fail;
use super::state::Kernel;
use core::sync::atomic::Ordering::Relaxed;
use underfoot_guest::Cpu;
use underfoot_guest::arch::tsc;
pub fn run(kernel: &'static Kernel, cpu: &'static Cpu) -> ! {
    if cpu.id != 0 {
        loop {
            kernel.rcu.quiescent(cpu);
            core::hint::spin_loop()
        }
    }
    fail::print(format_args!(
        "up: {} cpus, cpl {}, entered to here {} tsc, free {}",
        kernel.shared.header.cpus_up.load(Relaxed),
        kernel.shared.header.cpl_in_force.load(Relaxed),
        tsc() - kernel.shared.header.entered_tsc.load(Relaxed),
        kernel.pages.free_pages(cpu)
    ));
    let t = tsc();
    for _ in 0..10 {
        kernel.shootdown.run(kernel, cpu, 0x1000);
        kernel.rcu.synchronize(cpu);
    }
    fail::print(format_args!(
        "10 shootdowns and grace periods {} tsc",
        tsc() - t
    ));
    while cpu.area.ticks.load(Relaxed) < 20 {
        kernel.rcu.quiescent(cpu);
        core::hint::spin_loop()
    }
    fail::print(format_args!("20 ticks"));
    fail::exit(0)
}
