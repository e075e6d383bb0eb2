//! The floor: a handler that polls, reads and copies, and a loop that takes ranges out and brings what is left
//! of them.

use crate::demands::Demands;
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
use underfoot_vmm::Machine;

/// Between two ranges: what the engine lets pages rest.
const REST: Duration = Duration::from_micros(100);

/// Takes ranges of `span` out for `time`, each of them left to the guest for `delay`.
pub fn slice(_: &Machine, span: &Span, demands: &Arc<Demands>, time: Duration, delay: Duration) {
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
        away: Mutex::new(false),
    };
    let stop = Stop::new().expect("an event");
    thread::scope(|scope| {
        let serving = scope.spawn(|| pages.serve(demands, &stop));
        let began = Instant::now();
        // Where the engine's windows begin as well: anywhere.
        let starts = span.shuffled(1);
        for start in starts.iter().cycle() {
            pages.migrate(*start, delay).expect("pages that can move");
            if began.elapsed() >= time {
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
    /// Old frames are in limbo. While it is held they stay.
    away: Mutex<bool>,
}

impl Pages {
    fn in_limbo(&self, page: usize) -> usize {
        page - self.span.start() + self.limbo.address()
    }

    /// Takes the pages from `start` to the end of the span out, and brings those that nobody demanded.
    fn migrate(&self, start: usize, delay: Duration) -> io::Result<()> {
        let end = self.span.start() + self.span.bytes();
        let limbo = self.in_limbo(start);
        {
            let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            self.uffd.move_pages(limbo, start, end - start)?;
            *away = true;
        }
        thread::sleep(delay);
        for page in (start..end).step_by(PAGE_SIZE) {
            self.bring(page)?;
        }
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = false;
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

    fn serve(&self, demands: &Demands, stop: &Stop) -> io::Result<()> {
        while !stop.is_requested() {
            wait(self.uffd.as_raw_fd(), stop.as_raw_fd())?;
            while let Some(page) = self.uffd.fault()? {
                let read = clock::now();
                let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
                if *away && self.bring(page)? {
                    drop(away);
                    demands.note(
                        (page - self.span.start()) as u64 / PAGE_SIZE as u64 + self.span.gfns.start,
                        read,
                    );
                } else {
                    self.uffd.wake(page, PAGE_SIZE)?;
                }
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
