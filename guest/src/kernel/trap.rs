//! What the kernel does with interrupts and traps.

use super::grace::{FLAVOURS, SAMPLER};
use super::threads::{CALLBACKS, SCHEDULER};
use super::{fail, ipi, mover, page_event, state, work};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Context, Cpl};
use underfoot_firmware::{
    CpuHeader, INTERRUPT_FLAG, PENDING_IPI, PENDING_READY, PENDING_TIMER, TrapFrame, VECTOR_IPI,
    VECTOR_NOT_PRESENT, VECTOR_PENDING, VECTOR_READY, VECTOR_TIMER, kernel_cpl,
};
use underfoot_guest::arch::tsc;
use underfoot_guest::{Cpu, record};

const TIMER: u64 = VECTOR_TIMER as u64;
const IPI: u64 = VECTOR_IPI as u64;
const READY: u64 = VECTOR_READY as u64;
/// #PF (Intel SDM volume 3, 6.15).
const PAGE_FAULT: u64 = 14;

/// The trap layer's upcall: on the interrupted stack, interrupts masked.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(header: &'static CpuHeader, frame: &mut TrapFrame) {
    let id = header.id.load(Relaxed) as usize;
    let Some(cpu) = state::cpu(id) else {
        fail::unexpected_trap(id, frame)
    };
    let bits = match frame.vector {
        TIMER | IPI | READY if frame.rflags & INTERRUPT_FLAG == 0 => {
            fail::interrupt_while_masked(id, frame)
        }
        TIMER => PENDING_TIMER,
        IPI => PENDING_IPI,
        READY => PENDING_READY,
        PAGE_FAULT => return page_fault(cpu, frame),
        VECTOR_NOT_PRESENT => 0,
        VECTOR_PENDING => header.pending.swap(0, Relaxed),
        _ => fail::unexpected_trap(id, frame),
    };
    if kernel_cpl() == Cpl::Zero {
        // The interrupt flag is the mask here, clear until the thread opens it: another thread may,
        // if this trap ends with a change of threads.
        header.masked.store(0, Relaxed);
    }
    if frame.vector == VECTOR_NOT_PRESENT {
        return page_event::not_present(cpu, frame.cr2 as u32);
    }
    let interrupted = cpu.context();
    cpu.area.context.store(in_interrupt(interrupted), Relaxed);
    record::interrupt(cpu, due_tsc(cpu, bits), || {
        handle(cpu, bits, interrupted, frame.rip);
        SCHEDULER.interrupt_exit(cpu, interrupted);
    });
    cpu.area.context.store(interrupted.0, Relaxed);
}

/// A page that is in flight; whatever was interrupted goes on where it was. What it holds and masks,
/// it goes on holding and masking.
fn page_fault(cpu: &Cpu, frame: &TrapFrame) {
    let interrupted = cpu.context();
    cpu.set_masked(true);
    if !mover::page_fault(cpu, frame) {
        fail::unexpected_trap(cpu.id, frame);
    }
    cpu.area.context.store(interrupted.0, Relaxed);
}

/// Interrupts that came while the kernel had them masked, now that it opens them; a tick among them
/// had come at `rip`.
pub fn pending(cpu: &Cpu, bits: u64, rip: u64) {
    let interrupted = cpu.context();
    cpu.area.context.store(in_interrupt(interrupted), Relaxed);
    record::interrupt(cpu, due_tsc(cpu, bits), || {
        handle(cpu, bits, interrupted, rip)
    });
    cpu.area.context.store(interrupted.0, Relaxed);
}

/// When the tick among `bits` was due, if one is.
fn due_tsc(cpu: &Cpu, bits: u64) -> Option<u64> {
    (bits & PENDING_TIMER != 0).then(|| cpu.tick_phase.note(tsc()))
}

/// The context word in an interrupt: what it interrupted may have been a bottom half, it is none.
const fn in_interrupt(interrupted: Context) -> u64 {
    interrupted.0 & !Context::BOTTOM_HALF | Context::INTERRUPT | Context::MASKED
}

fn grace_tick(cpu: &Cpu, interrupted: Context) {
    for rcu in &FLAVOURS {
        rcu.tick(cpu, interrupted);
        if rcu.needs_cpu(cpu) {
            rcu.advance(cpu);
            cpu.raise(CALLBACKS);
        }
    }
    SAMPLER.tick(cpu, &FLAVOURS);
}

fn handle(cpu: &Cpu, bits: u64, interrupted: Context, rip: u64) {
    let Some(kernel) = state::kernel() else {
        return;
    };
    if bits & PENDING_TIMER != 0 {
        cpu.area
            .ticks
            .store(cpu.area.ticks.load(Relaxed) + 1, Relaxed);
        cpu.sightings.note(cpu.id, rip);
        grace_tick(cpu, interrupted);
        SCHEDULER.tick(cpu);
        kernel.apic.end_of_interrupt();
        work::tick(kernel.shared.header, cpu);
    }
    if bits & PENDING_IPI != 0 {
        cpu.area
            .ipis
            .store(cpu.area.ipis.load(Relaxed) + 1, Relaxed);
        kernel.apic.end_of_interrupt();
        ipi::TLB.answer(cpu);
        for rcu in &FLAVOURS {
            rcu.ipi(cpu, interrupted);
            if rcu.is_hurried(cpu) {
                cpu.raise(CALLBACKS);
            }
        }
        SCHEDULER.interrupt(cpu);
    }
    if bits & PENDING_READY != 0 {
        kernel.apic.end_of_interrupt();
        page_event::ready(cpu);
    }
}
