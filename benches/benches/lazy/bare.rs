//! The floor: a handler that polls, reads and copies, and a loop that takes ranges out and brings what is left
//! of them.

use crate::demands::Demands;
use crate::rig::Rig;
use crate::{DELAY, SLICE};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::area::{Area, advise};
use underfoot_benches::span::Span;
use underfoot_benches::uffd::{Uffd, Watch};
use underfoot_migrator::{Stop, clock};

/// Between two ranges: what the engine lets pages rest.
const REST: Duration = Duration::from_micros(100);

/// Takes ranges of the ring out for a slice.
pub fn slice(rig: &Rig, demands: &Arc<Demands>) {
    let span = &rig.ring;
    let uffd = Uffd::new().expect("userfaultfd");
    let limbo = Area::anywhere(span.bytes()).expect("memory for old frames");
    limbo
        .advise(libc::MADV_DONTNEED)
        .expect("memory of our own");
    for (start, bytes) in [
        (span.start(), span.bytes()),
        (limbo.address(), limbo.bytes()),
    ] {
        uffd.register(start, bytes, Watch::Missing)
            .expect("memory that can be watched");
    }
    let pages = Pages {
        uffd,
        limbo,
        span: span.clone(),
        away: Mutex::new(None),
    };
    let stop = Stop::new().expect("an event");
    thread::scope(|scope| {
        let serving = scope.spawn(|| pages.serve(demands, rig.linger, &stop));
        let began = Instant::now();
        // Where the engine's windows begin as well: anywhere.
        let starts = span.shuffled(1);
        for start in starts.iter().cycle() {
            pages.migrate(*start).expect("pages that can move");
            if began.elapsed() >= SLICE {
                break;
            }
            thread::sleep(REST);
        }
        stop.request().expect("an event");
        let served = serving.join().expect("no panic");
        served.expect("faults that can be served");
    });
}

struct Pages {
    uffd: Uffd,
    /// As long as the span: each page has its place.
    limbo: Area,
    span: Span,
    /// From this page on old frames are in limbo, and stay while it is held. To copy from where there is none
    /// would wait for itself.
    away: Mutex<Option<usize>>,
}

impl Pages {
    fn in_limbo(&self, page: usize) -> usize {
        page - self.span.start() + self.limbo.address()
    }

    /// Takes the pages from `start` to the end of the span out, and brings those that nobody demanded.
    fn migrate(&self, start: usize) -> io::Result<()> {
        let end = self.span.start() + self.span.bytes();
        let limbo = self.in_limbo(start);
        {
            let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            self.uffd.move_pages(limbo, start, end - start)?;
            *away = Some(start);
        }
        thread::sleep(DELAY);
        for page in (start..end).step_by(PAGE_SIZE) {
            self.bring(page)?;
        }
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = None;
        advise(limbo, end - start, libc::MADV_DONTNEED)
    }

    /// Brings `page`, if that was not done; whether this did.
    fn bring(&self, page: usize) -> io::Result<bool> {
        match self.uffd.copy(page, self.in_limbo(page), PAGE_SIZE) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn serve(&self, demands: &Demands, linger: Duration, stop: &Stop) -> io::Result<()> {
        let mut last = None;
        while !stop.is_requested() {
            if last.is_none_or(|last: Instant| last.elapsed() >= linger) {
                wait(self.uffd.as_raw_fd(), stop.as_raw_fd())?;
            }
            while let Some(page) = self.uffd.fault()? {
                let read = clock::now();
                let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
                if away.is_some_and(|start| page >= start) && self.bring(page)? {
                    drop(away);
                    demands.note(
                        (page - self.span.start()) as u64 / PAGE_SIZE as u64 + self.span.gfns.start,
                        read,
                    );
                } else {
                    self.uffd.wake(page, PAGE_SIZE)?;
                }
                last = Some(Instant::now());
            }
        }
        Ok(())
    }
}

/// Waits until one of the two descriptors is readable.
fn wait(uffd: i32, stop: i32) -> io::Result<()> {
    let poll = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds = [poll(uffd), poll(stop)];
    // SAFETY: the array is valid for its length and outlives the call.
    match unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
