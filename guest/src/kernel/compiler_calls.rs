//! The functions that compiled code expects from a C library (the host target's
//! `compiler_builtins` leaves them out).

use core::arch::asm;

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's obligation: both ranges are valid and do not overlap.
    unsafe {
        asm!("cld", "rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") length => _,
            options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: going up, no byte is overwritten before it is read.
        return unsafe { memcpy(to, from, length) };
    }
    // SAFETY: going down, no byte is overwritten before it is read; the direction flag is put back.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rdi") to.add(length).sub(1) => _,
            inout("rsi") from.add(length).sub(1) => _, inout("rcx") length => _, options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller's obligation: the range is valid.
    unsafe {
        asm!("cld", "rep stosb", inout("rdi") to => _, in("al") byte as u8, inout("rcx") length => _,
            options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for i in 0..length {
        // SAFETY: the caller's obligation: both ranges are valid.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the same obligation.
    unsafe { memcmp(a, b, length) }
}

/// `core` was compiled for unwinding and names this; nothing here ever unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
