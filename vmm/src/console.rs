//! The guest's serial port and where its output goes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// The most that a [`Capture`] keeps; a guest that prints for ever must not eat the host's memory.
const CAPTURE_LIMIT: usize = 1 << 20;

/// Where the guest's serial output goes.
pub struct Console(Box<dyn Write + Send>);

impl Console {
    /// To `writer`. A write that fails loses its bytes, is counted, and does not stop the guest.
    #[must_use]
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self(Box::new(writer))
    }

    /// Nowhere.
    #[must_use]
    pub fn discard() -> Self {
        Self::writer(io::sink())
    }

    /// To this process's standard error: standard output belongs to results.
    #[must_use]
    pub fn terminal() -> Self {
        Self::writer(io::stderr())
    }

    /// Into memory, up to 1 MiB; what comes after is dropped.
    #[must_use]
    pub fn capture() -> (Self, Capture) {
        let capture = Capture::default();
        (Self::writer(capture.clone()), capture)
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console(..)")
    }
}

/// What the guest printed, shared with its [`Console`].
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// Everything so far, bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = CAPTURE_LIMIT - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A 16550 whose interrupt is an eventfd.
pub(crate) struct SerialPort {
    serial: Serial<Interrupt, vm_superio::serial::NoEvents, Box<dyn Write + Send>>,
    lost: u64,
}

impl SerialPort {
    pub(crate) fn new(console: Console, interrupt: EventFd) -> Self {
        Self {
            serial: Serial::new(Interrupt(interrupt), console.0),
            lost: 0,
        }
    }

    /// A write of the guest to register `offset`.
    pub(crate) fn write(&mut self, offset: u8, value: u8) {
        if self.serial.write(offset, value).is_err() {
            self.lost += 1;
        }
    }

    /// A read of the guest from register `offset`.
    pub(crate) fn read(&mut self, offset: u8) -> u8 {
        self.serial.read(offset)
    }

    /// Bytes that could not be written out.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }
}
