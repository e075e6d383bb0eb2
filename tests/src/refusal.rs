//! A system call that fails for a command and all that it starts, as the profiles of containers have it.
//!
//! Source: seccomp(2).

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command as Std;

/// Offset of the call's number in `struct seccomp_data`.
const NUMBER: u32 = 0;

/// Makes system call `number` of `command` fail with `errno`.
pub(crate) fn refuse(command: &mut Std, number: libc::c_long, errno: i32) {
    let give = libc::BPF_RET | libc::BPF_K;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER, 0),
        instruction(equal, number as u32, 1),
        instruction(give, libc::SECCOMP_RET_ALLOW, 0),
        instruction(give, libc::SECCOMP_RET_ERRNO | errno as u32, 0),
    ];
    // SAFETY: between fork and exec `install` makes two system calls, and takes neither memory nor a lock.
    unsafe { command.pre_exec(move || install(filter)) };
}

/// One that skips `skip` instructions if its test holds.
const fn instruction(code: u32, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: skip,
        jf: 0,
        k,
    }
}

fn install(mut filter: [libc::sock_filter; 4]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: changes this process's rights only; a filter may be had by anybody then.
    let renounced = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its instructions outlive the call, which copies them.
    let installed = || unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if renounced != 0 || installed() != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
