//! The thread that serves faults: holes are filled, faults in windows are left to the movers.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::clock::Tsc;
use crate::engine::Engine;
use crate::frames::StagedFrame;
use crate::page_word::{Lane, serve};
use crate::plug::FaultCells;
use crate::sync::Ordering;
use crate::uffd::{Fault, Messages, UffdError, is_transient};
use crate::{Event, Observer, PAGE_SIZE, Served, Stop, Variant, clock};

/// What a page holds that is touched for the first time.
#[repr(C, align(4096))]
struct ZeroPage([u8; PAGE_SIZE]);
static ZERO: ZeroPage = ZeroPage([0; PAGE_SIZE]);

/// Tries to fill a page when the kernel asks to repeat.
const TRIES: u32 = 1 << 16;

/// Why the handler ended before it was asked to. Who touches a hole then waits until a handler runs again, or the
/// migrator is dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// It cannot wait for faults.
    #[error("cannot wait for faults by poll")]
    Poll(#[source] io::Error),
    /// It cannot read them, or wake who waits.
    #[error("cannot serve faults")]
    Uffd(#[from] UffdError),
    /// A hole could not be filled.
    #[error("the hole at host address {address:#x} could not be filled; is there enough memory?")]
    Fill {
        /// Where.
        address: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Serves faults on the thread that runs it. It must run while the guest runs.
pub struct Handler {
    engine: Arc<Engine>,
    observer: Arc<dyn Observer>,
    /// The userfaultfds that it serves.
    uffds: Range<usize>,
    counts: Arc<FaultCells>,
}

/// Why a fault was not served.
enum NotServed {
    /// Its block was changed after it was looked up.
    Overtaken,
    Failed(HandlerError),
}

impl<E: Into<HandlerError>> From<E> for NotServed {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Handler {
    pub(crate) fn new(engine: Arc<Engine>, uffds: Range<usize>) -> Self {
        Self {
            uffds,
            observer: Arc::clone(&engine.observer),
            counts: engine.blocks.new_handler(),
            engine,
        }
    }

    /// Has this handler tell `observer` what it does, in place of the migrator's observer.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Serves faults until `stop` is requested. It may be run again after an error.
    ///
    /// # Errors
    /// What ended it early.
    pub fn run(&self, stop: &Stop) -> Result<(), HandlerError> {
        // Of faults that a run before this one read and did not serve, nobody will tell again unless they are woken.
        self.engine.registration.wake_all(self.uffds.clone())?;
        // Pages that signal make no events.
        let uffds = &self.engine.registration.blocking()[self.uffds.clone()];
        let mut messages = Messages::default();
        let mut descriptors: Vec<_> = uffds
            .iter()
            .map(|uffd| poll_for(uffd.as_raw_fd()))
            .collect();
        descriptors.push(poll_for(stop.as_raw_fd()));
        let linger_ticks = self.engine.config.linger_ticks;
        let mut last_tsc = None;
        while !stop.is_requested() {
            let lingers = |last| clock::now().saturating_sub(last) < linger_ticks;
            wait(&mut descriptors, !last_tsc.is_some_and(lingers))?;
            for (uffd, _) in uffds
                .iter()
                .zip(&descriptors)
                .filter(|(_, found)| found.revents != 0)
            {
                uffd.read(&mut messages)?;
                for fault in messages.faults() {
                    last_tsc = Some(self.serve(fault)?);
                }
            }
            // Nobody waits for us just now.
            if let Some(frames) = &self.engine.frames {
                frames.ring();
            }
        }
        Ok(())
    }

    /// Serves one fault; when that was done.
    fn serve(&self, fault: Fault) -> Result<Tsc, HandlerError> {
        let read = clock::now();
        let Some(page) = self.engine.regions.by_hva(fault.address) else {
            return Ok(read);
        };
        let Some(hold) = self.engine.blocks.enter_fault(page, &self.counts) else {
            return Ok(read);
        };
        let word = &self.engine.words[page as usize];
        let served = serve(
            word,
            |source| match hold.is_current() {
                true => Ok(self.fill(page, fault.address, source)?),
                false => Err(NotServed::Overtaken),
            },
            || Ok(self.wake(fault.address)?),
        );
        drop(hold);
        let done = clock::now();
        let served = match served {
            Ok(served) => served,
            Err(NotServed::Overtaken) => {
                // It was woken, and finds out what the block is now.
                self.counts.retried.add(1);
                return Ok(done);
            }
            Err(NotServed::Failed(error)) => return Err(error),
        };
        self.observer.on(&Event::Fault {
            gfn: self.engine.regions.of(page).gfn(page),
            served,
            thread: fault.thread,
            read,
            done,
        });
        Ok(done)
    }

    /// Gives the page a frame with what is at `source`, or a zeroed one, and wakes who waits, unless
    /// there is one.
    ///
    /// A frame of its own, not the shared zero page: the guest's first touch is mostly a write, and
    /// a frame that is shared could not be told from its successor when it is migrated.
    fn fill(
        &self,
        page: u32,
        address: usize,
        source: Option<usize>,
    ) -> Result<Served, HandlerError> {
        let uffd = self.engine.registration.uffd(Lane::Blocking, address);
        let zero = ZERO.0.as_ptr() as usize;
        let served = match source {
            Some(_) => Served::Fetched,
            None => Served::Hole,
        };
        let source = match source {
            Some(source) if self.engine.config.variant != Variant::ZeroFill => source,
            _ => zero,
        };
        if served == Served::Fetched {
            self.engine.demanded.store(page, Ordering::Relaxed);
        }
        let frames = self.engine.frames.as_deref();
        let mut staged = frames.and_then(StagedFrame::take);
        match (&mut staged, frames) {
            // SAFETY: a page of ours that nobody writes: zeroes, or an old frame that waits to be fetched.
            (Some(staged), _) => unsafe { staged.fill(source as *const u8) },
            (None, Some(frames)) => frames.count_without(),
            (None, None) => {}
        }
        for _ in 0..TRIES {
            let errno = match &mut staged {
                Some(staged) => staged.map(uffd, address),
                None => uffd.copy(address, source, PAGE_SIZE).errno,
            };
            match errno {
                0 => return Ok(served),
                libc::EEXIST => return Ok(Served::Present),
                errno if is_transient(errno) => std::thread::yield_now(),
                errno => return Err(fill_error(address, errno)),
            }
        }
        Err(fill_error(address, libc::EAGAIN))
    }

    fn wake(&self, address: usize) -> Result<(), UffdError> {
        self.engine.registration.wake(Lane::Blocking, address, 1)
    }
}

fn fill_error(address: usize, errno: i32) -> HandlerError {
    HandlerError::Fill {
        address,
        source: io::Error::from_raw_os_error(errno),
    }
}

fn poll_for(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Waits until one of the descriptors is readable, or only looks unless it may sleep; those that are say so. After
/// a signal none does.
fn wait(fds: &mut [libc::pollfd], sleep: bool) -> Result<(), HandlerError> {
    let timeout_ms = if sleep { -1 } else { 0 };
    fds.iter_mut().for_each(|fd| fd.revents = 0);
    // SAFETY: the array is valid for its length and outlives the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    if ready >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(HandlerError::Poll(error)),
    }
}
