//! Changing stacks.

use core::arch::global_asm;

/// What [`switch`] leaves on the stack of a thread that does not run: the registers that a call
/// keeps (System V x86-64 ABI, 3.2.1), then where to go on.
const SAVED_REGISTERS: usize = 6;

global_asm!(
    ".text",
    ".balign 16",
    ".global underfoot_switch",
    "underfoot_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // A new thread's first instruction: RBX is its main function, RBP its argument.
    ".balign 16",
    ".global underfoot_thread_start",
    "underfoot_thread_start:",
    "mov rdi, rbp",
    "xor ebp, ebp",
    "call rbx",
    "ud2",
);

unsafe extern "sysv64" {
    fn underfoot_switch(save: *mut usize, to: usize);
    fn underfoot_thread_start();
}

/// Leaves this stack, putting its pointer into `save`, and goes on on the stack `to`. Returns when
/// somebody switches back.
///
/// # Safety
/// `to` must come from [`new_stack`] or from an earlier `save`, once; `save` must stay valid until
/// the switch back. Interrupts must be masked on this CPU.
#[inline]
pub unsafe fn switch(save: *mut usize, to: usize) {
    // SAFETY: the caller's promise; the assembly keeps what a call must keep.
    unsafe { underfoot_switch(save, to) };
}

/// Makes a stack, whose highest address is `top`, one to switch to: it calls `main(argument)`, which
/// must not return. Returns the stack pointer.
///
/// # Safety
/// The stack must be mapped, nobody else's, aligned to 16 bytes, and large enough for `main`.
pub unsafe fn new_stack(
    top: usize,
    main: unsafe extern "sysv64" fn(usize) -> !,
    argument: usize,
) -> usize {
    // After `ret` has popped the address, RSP is a multiple of 16, as before a call.
    let pointer = top - 16 - (SAVED_REGISTERS + 1) * size_of::<usize>();
    let mut frame = [0; SAVED_REGISTERS + 1];
    frame[4] = main as usize; // RBX
    frame[5] = argument; // RBP
    frame[6] = underfoot_thread_start as unsafe extern "sysv64" fn() as usize;
    // SAFETY: within the stack, by the caller's promise.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<[usize; SAVED_REGISTERS + 1]>(pointer)
            .write(frame);
    }
    pointer
}
