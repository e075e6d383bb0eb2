//! Faults at the system-call boundary: a thread's calls of one kind are held up by seccomp, and another
//! thread decides for each whether it is made or fails. The engine's code is the one that ships.
//!
//! Source: `Documentation/userspace-api/seccomp_filter.rst`, section "Userspace Notification".

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
/// Offsets in `struct seccomp_data`: the number, and the low halves of arguments.
const NUMBER: u32 = 0;
const ARGUMENT: [u32; 6] = [16, 24, 32, 40, 48, 56];

/// Which system calls are held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `ioctl` with this request.
    Ioctl(u32),
    /// Any with this number.
    Number(libc::c_long),
    /// `mmap` that replaces what is there.
    MapFixed,
}

/// What happens to a call that is hit.
#[derive(Clone, Copy, Debug)]
pub enum Hit {
    /// It is not made, and fails.
    Errno(i32),
    /// A read that ends early, after so many bytes.
    Short(usize),
}

/// Which of the calls are hit: after every `spared` of them the next `burst`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub call: Call,
    pub hit: Hit,
    pub spared: u64,
    pub burst: u64,
}

/// Holds up the calls of threads that [`enter`](Self::enter).
pub struct Interposer {
    rule: Rule,
    /// Of threads that were started before, as who starts them has no filter yet.
    desks: Mutex<Vec<Sender<OwnedFd>>>,
    supervisors: Vec<JoinHandle<()>>,
    hits: Arc<AtomicU64>,
}

impl Interposer {
    /// For up to `threads` threads.
    pub fn new(rule: Rule, threads: usize) -> Self {
        let (calls, hits) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let start = |_| {
            let (desk, inbox) = channel();
            let (calls, hits) = (Arc::clone(&calls), Arc::clone(&hits));
            (
                desk,
                thread::spawn(move || supervise(rule, &inbox, &calls, &hits)),
            )
        };
        let (desks, supervisors) = (0..threads).map(start).unzip();
        Self {
            rule,
            desks: Mutex::new(desks),
            supervisors,
            hits,
        }
    }

    /// From here on this thread's calls are held up; for good.
    pub fn enter(&self) {
        let desk = self.desks.lock().expect("no panic").pop();
        let listener = install(self.rule.call).expect("seccomp with notifications");
        desk.expect("as many threads as were told")
            .send(listener)
            .expect("it waits");
    }

    /// How many calls were hit so far.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many calls were hit, once every thread that entered has ended.
    pub fn end(self) -> u64 {
        drop(self.desks);
        for supervisor in self.supervisors {
            supervisor.join().expect("no panic");
        }
        self.hits.load(Ordering::Relaxed)
    }
}

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn install(call: Call) -> io::Result<OwnedFd> {
    let (number, argument) = match call {
        Call::Ioctl(request) => (libc::SYS_ioctl, Some((1, libc::BPF_JEQ, request))),
        Call::Number(number) => (number, None),
        Call::MapFixed => (
            libc::SYS_mmap,
            Some((3, libc::BPF_JSET, libc::MAP_FIXED as u32)),
        ),
    };
    let (load, test) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_K,
    );
    let give = libc::BPF_RET | libc::BPF_K;
    let mut filter = vec![
        statement(load, NUMBER),
        jump(test | libc::BPF_JEQ, number as u32, 1, 0),
        statement(give, libc::SECCOMP_RET_ALLOW),
    ];
    if let Some((nth, how, value)) = argument {
        filter.extend([
            statement(load, ARGUMENT[nth]),
            jump(test | how, value, 1, 0),
            statement(give, libc::SECCOMP_RET_ALLOW),
        ]);
    }
    filter.push(statement(give, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: changes this thread's rights only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the program and its instructions outlive the call, which copies them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn supervise(rule: Rule, inbox: &Receiver<OwnedFd>, calls: &AtomicU64, hits: &AtomicU64) {
    let Ok(listener) = inbox.recv() else { return };
    while let Some(notice) = receive(&listener) {
        let nth = calls.fetch_add(1, Ordering::Relaxed) % (rule.spared + rule.burst);
        let mut answer = libc::seccomp_notif_resp {
            id: notice.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        if nth >= rule.spared && hit(rule.hit, &notice.data, &mut answer) {
            hits.fetch_add(1, Ordering::Relaxed);
            answer.flags = 0;
        }
        // SAFETY: the kernel reads the answer. One to a thread that is gone is refused, as it may be.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const answer) };
    }
}

/// Fills in the answer to a call that is hit; false if it is to be made after all.
fn hit(hit: Hit, call: &libc::seccomp_data, answer: &mut libc::seccomp_notif_resp) -> bool {
    match hit {
        Hit::Errno(errno) => answer.error = -errno,
        Hit::Short(bytes) => {
            let [fd, buffer, len, at, ..] = call.args;
            let len = bytes.min(len as usize);
            let buffer = buffer as *mut libc::c_void;
            // SAFETY: the buffer is this process's own, and its thread waits for the answer to the very
            // call that was to fill it.
            let read = unsafe {
                match call.nr as libc::c_long {
                    libc::SYS_pread64 => libc::pread(fd as i32, buffer, len, at as i64),
                    _ => libc::read(fd as i32, buffer, len),
                }
            };
            if read <= 0 {
                return false;
            }
            answer.val = read as i64;
        }
    }
    true
}

/// The next call; `None` once the thread has ended.
fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut fd = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut fd, 1, -1) };
        if fd.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: plain integers, for which the kernel wants zeroes.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one notice.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notice) };
        if result == 0 {
            return Some(notice);
        }
    }
}
