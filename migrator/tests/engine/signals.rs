//! Pages that signal: who meets their window is told so by the kernel, and spins.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use underfoot_migrator::{Gfn, Handler, Migrator, PAGE_SIZE, Stop};

use crate::rig::{Rig, rights};

const PAGES: usize = 256;

/// Copies a word within this process by system call, so that a page in flight is an EFAULT and not
/// a SIGBUS.
fn transfer(word: &mut u64, remote: usize, write: bool) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: std::ptr::from_mut(word).cast(),
        iov_len: size_of::<u64>(),
    };
    let remote = libc::iovec {
        iov_base: remote as *mut libc::c_void,
        iov_len: size_of::<u64>(),
    };
    // SAFETY: both vectors describe one word: `word`, and a word of guest memory that only this
    // thread accesses.
    let bytes = unsafe {
        let pid = libc::getpid();
        if write {
            libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0)
        } else {
            libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
        }
    };
    match bytes {
        8 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Repeats a transfer until the window that it met is closed; returns how often it met one.
fn insist(migrator: &Migrator, word: &mut u64, remote: usize, write: bool) -> u64 {
    let windows = migrator.windows();
    let mut met = 0;
    loop {
        let closed = windows.closed();
        match transfer(word, remote, write) {
            Ok(()) => return met,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}");
                met += 1;
                while windows.is_open() && windows.closed() == closed {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn who_meets_a_window_is_told_and_loses_nothing() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES / 2);
    let migrator = rig
        .builder()
        .signal_faults(true)
        .batch(16)
        .build()
        .expect("sound");
    for gfn in 0..PAGES as u64 {
        assert_eq!(migrator.signals(Gfn(gfn)), gfn % 16 != 0);
    }
    let (stop, handler_stop) = (Stop::new().expect("eventfd"), Stop::new().expect("eventfd"));
    let (done, met) = (AtomicBool::new(false), AtomicU64::new(0));
    let base = rig.base;
    let handler = migrator.handler();
    let mut mover = migrator.mover().expect("a mover");
    let rounds = thread::scope(|scope| {
        let served = scope.spawn(|| Handler::run(&handler, &handler_stop));
        let writer = scope.spawn(|| {
            let mut rounds = 0u64;
            while !done.load(Ordering::Relaxed) {
                for page in 0..PAGES {
                    let (mut word, address) = (0, base + page * PAGE_SIZE + 8);
                    let mut windows = insist(&migrator, &mut word, address, false);
                    word += 1;
                    windows += insist(&migrator, &mut word, address, true);
                    met.fetch_add(windows, Ordering::Relaxed);
                }
                rounds += 1;
            }
            rounds
        });
        let moved = scope.spawn(|| mover.run(&stop));
        while !moved.is_finished()
            && (migrator.counters().total().committed < 20_000 || met.load(Ordering::Relaxed) == 0)
        {
            thread::yield_now();
        }
        stop.request().expect("eventfd");
        moved.join().expect("no panic").expect("asked to stop");
        done.store(true, Ordering::Relaxed);
        let rounds = writer.join().expect("the writer");
        handler_stop.request().expect("eventfd");
        served.join().expect("the handler").expect("faults served");
        rounds
    });
    for page in 0..PAGES {
        assert_eq!(rig.word(page, 8).load(Ordering::Relaxed), rounds, "{page}");
    }
    let counters = migrator.counters();
    assert!(counters.total().add_up(), "{counters:?}");
    assert_eq!(counters.integrity_errors(), 0);
    // Signalled ranges were populated, so that the only holes are pages that sleep.
    assert!(counters.by_class[0].skipped == 0, "{counters:?}");
    assert!(met.load(Ordering::Relaxed) > 0);
}
