//! The one place where the machine's owner waits: doorbell, exits, signals, timers.

use crate::sys;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::signal::{block_signal, clear_signal, get_blocked_signals, unblock_signal};
use vmm_sys_util::timerfd::TimerFd;

/// The signals that end a run in order.
const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Why the event loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EventLoopError {
    /// A file that the loop needs cannot be made or set.
    #[error("the event loop's {what} cannot be set up")]
    Setup {
        /// What it was.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Waiting failed.
    #[error("the event loop cannot wait")]
    Wait(#[source] event_manager::Error),
}

fn setup(what: &'static str) -> impl FnOnce(io::Error) -> EventLoopError {
    move |source| EventLoopError::Setup { what, source }
}

/// Why [`Machine::wait`](crate::Machine::wait) returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Wake {
    /// The deadline passed.
    Deadline,
    /// The guest rang: its state has changed.
    Doorbell,
    /// One or more vCPUs will not run again, in the order in which they ended.
    Exited(Vec<crate::ExitReport>),
    /// SIGINT or SIGTERM.
    Signal(i32),
}

/// What the subscribers saw since the last look.
#[derive(Debug, Default)]
struct Seen {
    doorbell: AtomicBool,
    exited: AtomicBool,
    signal: AtomicI32,
    deadline: AtomicBool,
    tick: AtomicBool,
}

enum Source {
    Doorbell(EventFd),
    Exited(EventFd),
    Signal(File),
    Deadline(TimerFd),
    Tick(TimerFd),
}

struct Subscriber {
    source: Source,
    seen: Arc<Seen>,
}

impl Subscriber {
    fn fd(&self) -> RawFd {
        match &self.source {
            Source::Doorbell(fd) | Source::Exited(fd) => fd.as_raw_fd(),
            Source::Signal(file) => file.as_raw_fd(),
            Source::Deadline(timer) | Source::Tick(timer) => timer.as_raw_fd(),
        }
    }

    /// Takes what is ready, so that the level-triggered loop does not come back for it.
    fn take(&mut self) {
        match &mut self.source {
            Source::Doorbell(fd) => self.seen.doorbell.store(fd.read().is_ok(), Relaxed),
            Source::Exited(fd) => self.seen.exited.store(fd.read().is_ok(), Relaxed),
            Source::Signal(file) => {
                let mut info = [0; size_of::<libc::signalfd_siginfo>()];
                if file.read_exact(&mut info).is_ok() {
                    // ssi_signo is the first field of signalfd_siginfo: signalfd(2).
                    let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    self.seen.signal.store(number, Relaxed);
                }
            }
            Source::Deadline(timer) => self.seen.deadline.store(timer.wait().is_ok(), Relaxed),
            Source::Tick(timer) => self.seen.tick.store(timer.wait().is_ok(), Relaxed),
        }
    }
}

impl MutEventSubscriber for Subscriber {
    fn init(&mut self, ops: &mut EventOps) {
        let fd = self.fd();
        // The fd is fresh and belongs to this subscriber alone, so epoll has no reason to refuse.
        ops.add(Events::new_raw(fd, EventSet::IN))
            .expect("epoll takes a fresh descriptor");
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.take();
    }
}

/// Blocks SIGINT, SIGTERM and SIGHUP in the calling thread, and unblocks on drop those that were not
/// blocked; what is pending then is taken.
///
/// Who makes several machines one after the other keeps one around them all: a signal that comes
/// between two is told by the next.
pub struct BlockedSignals(Vec<libc::c_int>);

impl BlockedSignals {
    /// Blocks them.
    ///
    /// # Errors
    /// The system refused.
    pub fn new() -> Result<Self, EventLoopError> {
        let other = |error: vmm_sys_util::signal::Error| io::Error::other(error.to_string());
        let before = get_blocked_signals().map_err(|e| setup("signal mask")(other(e)))?;
        let mut mine = Self(Vec::new());
        for signal in SIGNALS
            .into_iter()
            .filter(|signal| !before.contains(signal))
        {
            block_signal(signal).map_err(|e| setup("signal mask")(other(e)))?;
            mine.0.push(signal);
        }
        Ok(mine)
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        for &signal in &self.0 {
            // One that came while the machine went, a second Ctrl-C, has been answered by that:
            // let through now it would end the process before the results are written.
            let _ = clear_signal(signal);
            // Nobody is left to tell; the signal stays blocked in this thread.
            let _ = unblock_signal(signal);
        }
    }
}

/// What woke the loop, before reports are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Deadline,
    Tick,
    Doorbell,
    Exited,
    Signal(i32),
}

pub(crate) struct EventLoop {
    // The loop's files close before the signals are let through again.
    manager: EventManager<Subscriber>,
    seen: Arc<Seen>,
    deadline: event_manager::SubscriberId,
    tick: event_manager::SubscriberId,
    _signals: Option<BlockedSignals>,
}

impl EventLoop {
    /// A loop over clones of `doorbell` and `exited`. With `signals`, SIGINT and SIGTERM are
    /// blocked in the calling thread, and in those that it starts from now on, and come as
    /// [`Woken::Signal`].
    pub(crate) fn new(
        doorbell: &EventFd,
        exited: &EventFd,
        signals: bool,
    ) -> Result<Self, EventLoopError> {
        let blocked = signals.then(BlockedSignals::new).transpose()?;
        let mut manager = EventManager::new().map_err(EventLoopError::Wait)?;
        let seen = Arc::new(Seen::default());
        let mut add = |source| {
            manager.add_subscriber(Subscriber {
                source,
                seen: Arc::clone(&seen),
            })
        };
        let timer = || TimerFd::new().map_err(|e| setup("timer")(e.into()));
        add(Source::Doorbell(
            doorbell.try_clone().map_err(setup("doorbell"))?,
        ));
        add(Source::Exited(
            exited.try_clone().map_err(setup("exit event"))?,
        ));
        if signals {
            add(Source::Signal(
                sys::signal_file(&SIGNALS).map_err(setup("signal file"))?,
            ));
        }
        let deadline = add(Source::Deadline(timer()?));
        let tick = add(Source::Tick(timer()?));
        Ok(Self {
            manager,
            seen,
            deadline,
            tick,
            _signals: blocked,
        })
    }

    /// Makes the loop return [`Woken::Tick`] every `period`.
    pub(crate) fn set_tick(&mut self, period: Duration) -> Result<(), EventLoopError> {
        self.arm(self.tick, period, Some(period))
    }

    fn arm(
        &mut self,
        id: event_manager::SubscriberId,
        after: Duration,
        period: Option<Duration>,
    ) -> Result<(), EventLoopError> {
        let subscriber = self
            .manager
            .subscriber_mut(id)
            .map_err(EventLoopError::Wait)?;
        match &mut subscriber.source {
            Source::Deadline(timer) | Source::Tick(timer) => {
                // Zero would disarm it.
                let after = after.max(Duration::from_nanos(1));
                timer
                    .reset(after, period)
                    .map_err(|e| setup("timer")(e.into()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until something happens or `deadline` passes. Of several things at once it tells the
    /// gravest and keeps the others: exit, signal, doorbell, deadline, tick.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<Woken, EventLoopError> {
        self.seen.deadline.store(false, Relaxed);
        self.arm(
            self.deadline,
            deadline.saturating_duration_since(Instant::now()),
            None,
        )?;
        let mut look = self.manager.run_with_timeout(0);
        loop {
            match look {
                Ok(_) => {}
                Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(EventLoopError::Wait(error)),
            }
            if let Some(woken) = self.look() {
                self.forget(woken);
                return Ok(woken);
            }
            look = self.manager.run();
        }
    }

    fn look(&self) -> Option<Woken> {
        let seen = &self.seen;
        if seen.exited.load(Relaxed) {
            return Some(Woken::Exited);
        }
        match seen.signal.load(Relaxed) {
            0 => {}
            number => return Some(Woken::Signal(number)),
        }
        [
            (&seen.doorbell, Woken::Doorbell),
            (&seen.deadline, Woken::Deadline),
            (&seen.tick, Woken::Tick),
        ]
        .into_iter()
        .find_map(|(flag, woken)| flag.load(Relaxed).then_some(woken))
    }

    fn forget(&self, woken: Woken) {
        match woken {
            Woken::Exited => self.seen.exited.store(false, Relaxed),
            Woken::Signal(_) => self.seen.signal.store(0, Relaxed),
            Woken::Doorbell => self.seen.doorbell.store(false, Relaxed),
            Woken::Deadline => self.seen.deadline.store(false, Relaxed),
            Woken::Tick => self.seen.tick.store(false, Relaxed),
        }
    }
}
