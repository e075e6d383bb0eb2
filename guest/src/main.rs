//! bring-up
#![no_std]
#![no_main]
#[path = "kernel/compiler_calls.rs"]
mod compiler_calls;
#[path = "kernel/start_info.rs"]
mod start_info;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::Cpl;
use underfoot_firmware as fw;
use underfoot_guest::arch::*;
struct Con;
impl Write for Con {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        match fw::kernel_cpl() { Cpl::Zero => Ring0.console(s.as_bytes()), _ => console_from_ring3(s.as_bytes()) }
        Ok(())
    }
}
static TICKS: AtomicU64 = AtomicU64::new(0);
static IPIS: AtomicU64 = AtomicU64::new(0);
static UP: AtomicU64 = AtomicU64::new(0);
static STACK: [AtomicU64; 2048] = [const { AtomicU64::new(0) }; 2048];
#[unsafe(no_mangle)]
extern "C" fn kernel_entry(id: u32, header: &'static fw::CpuHeader, start_info: usize) -> ! {
    let t0 = tsc();
    let apic = unsafe { Apic::new() };
    if id != 0 {
        apic.start(250);
        header.masked.store(0, Relaxed);
        if fw::kernel_cpl() == Cpl::Zero { unsafe { core::arch::asm!("sti") } }
        UP.store(1, Relaxed);
        loop { core::hint::spin_loop() }
    }
    fw::build_idt();
    let li = unsafe { start_info::LoaderInfo::read(start_info) }.unwrap();
    let _ = writeln!(Con, "hello cpl {:?} ring0 {} ticks shared {:?}", fw::kernel_cpl(), fw::ring0_ticks(), li.shared_region());
    for r in li.ram() { let _ = writeln!(Con, "ram {r:x?}"); }
    for (s, r) in fw::sections() { let _ = writeln!(Con, "{s:?} {r:x?}"); }
    if let Some(sh) = li.shared_region() {
        let h = unsafe { &*(sh as *const underfoot_abi::Header) };
        if h.cpl == 3 && fw::kernel_cpl() == Cpl::Zero { unsafe { fw::enter_ring3(header) }; }
    } else if cfg!(feature = "force3") { unsafe { fw::enter_ring3(header) }; }
    let _ = writeln!(Con, "cpl now {:?}", fw::kernel_cpl());
    apic.start(250);
    header.masked.store(0, Relaxed);
    if fw::kernel_cpl() == Cpl::Zero { unsafe { core::arch::asm!("sti") } }
    while TICKS.load(Relaxed) < 10 { core::hint::spin_loop() }
    let _ = writeln!(Con, "10 ticks in {} tsc", tsc() - t0);
    unsafe { core::ptr::copy_nonoverlapping(fw::trampoline().as_ptr(), fw::AP_TRAMPOLINE as *mut u8, fw::trampoline().len()) };
    fw::set_next_ap(1, STACK.as_ptr() as usize + 2048 * 8);
    let t = tsc();
    apic.init(1);
    apic.startup(1, fw::AP_TRAMPOLINE);
    while UP.load(Relaxed) == 0 && tsc() - t < 2_000_000_000 { core::hint::spin_loop() }
    let _ = writeln!(Con, "AP up {} in {} tsc", UP.load(Relaxed), tsc() - t);
    let t = tsc();
    for i in 0..100 { apic.send(1, fw::VECTOR_IPI); while IPIS.load(Relaxed) <= i { core::hint::spin_loop() } }
    let _ = writeln!(Con, "ipi {} tsc each; ticks {}", (tsc() - t) / 100, TICKS.load(Relaxed));
    match fw::kernel_cpl() { Cpl::Zero => Ring0.exit(0), _ => exit_from_ring3(0) }
}
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(_header: &'static fw::CpuHeader, frame: &mut fw::TrapFrame) {
    let apic = unsafe { Apic::new() };
    match frame.vector {
        0x40 => { TICKS.fetch_add(1, Relaxed); apic.end_of_interrupt(); }
        0x41 => { IPIS.fetch_add(1, Relaxed); apic.end_of_interrupt(); }
        0x100 => { let p = _header.pending.swap(0, Relaxed);
            if p & 1 != 0 { TICKS.fetch_add(1, Relaxed); apic.end_of_interrupt(); }
            if p & 2 != 0 { IPIS.fetch_add(1, Relaxed); apic.end_of_interrupt(); } }
        _ => { let _ = writeln!(Con, "{frame:x?}"); match fw::kernel_cpl() { Cpl::Zero => Ring0.exit(1), _ => exit_from_ring3(1) } }
    }
}
#[panic_handler]
fn panic(i: &core::panic::PanicInfo) -> ! { let _ = writeln!(Con, "{i}"); match fw::kernel_cpl() { Cpl::Zero => Ring0.exit(1), _ => exit_from_ring3(1) } }
