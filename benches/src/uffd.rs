//! userfaultfd, bare: each call is one system call, with nothing around it.

use libc::{c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use underfoot_abi::PAGE_SIZE;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

const API: u64 = 0xaa;
const FEATURE_WRITES: u64 = 1 << 0;
const FEATURE_MOVE: u64 = 1 << 16;
const REGISTER_MISSING: u64 = 1 << 0;
const REGISTER_WRITES: u64 = 1 << 1;
const MODE_PROTECT: u64 = 1 << 0;
const EVENT_FAULT: u8 = 0x12;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRange {
    start: u64,
    len: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `uffdio_copy` and `uffdio_move`, which are alike.
#[repr(C)]
struct UffdioTransfer {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct UffdioWriteprotect {
    start: u64,
    len: u64,
    mode: u64,
}

/// An event, as read; of page faults alone the address matters.
#[repr(C)]
#[derive(Default)]
struct UffdMsg {
    event: u8,
    reserved: [u8; 7],
    flags: u64,
    address: u64,
    thread: u64,
}

mod request {
    //! The requests' numbers (linux/userfaultfd.h).
    use super::{API, UffdioApi, UffdioRange, UffdioRegister, UffdioTransfer, UffdioWriteprotect};
    use vmm_sys_util::{ioctl_ior_nr, ioctl_iowr_nr};

    ioctl_iowr_nr!(UFFDIO_API, API as u32, 0x3f, UffdioApi);
    ioctl_iowr_nr!(UFFDIO_REGISTER, API as u32, 0x00, UffdioRegister);
    ioctl_ior_nr!(UFFDIO_WAKE, API as u32, 0x02, UffdioRange);
    ioctl_iowr_nr!(UFFDIO_COPY, API as u32, 0x03, UffdioTransfer);
    ioctl_iowr_nr!(UFFDIO_MOVE, API as u32, 0x05, UffdioTransfer);
    ioctl_iowr_nr!(UFFDIO_WRITEPROTECT, API as u32, 0x06, UffdioWriteprotect);
}
use request::{
    UFFDIO_API, UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_REGISTER, UFFDIO_WAKE, UFFDIO_WRITEPROTECT,
};

/// What a range is registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Accesses to missing pages.
    Missing,
    /// These, and writes to pages that are write-protected.
    MissingAndWrites,
}

/// A userfaultfd. What it registered is ordinary memory again once it is dropped.
pub struct Uffd(OwnedFd);

impl Uffd {
    /// Opens one that does not block.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd =
            unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        let fd = c_int::try_from(fd)
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel gave it to us just now.
        let uffd = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut api = UffdioApi {
            api: API,
            features: FEATURE_MOVE | FEATURE_WRITES,
            ioctls: 0,
        };
        uffd.ask(UFFDIO_API(), &mut api)?;
        Ok(uffd)
    }

    fn ask<T>(&self, request: c_ulong, argument: &mut T) -> io::Result<()> {
        // SAFETY: each request is paired with its own structure, whose addresses are of memory that
        // lives as long as the process maps it.
        match unsafe { ioctl_with_mut_ref(&self.0, request, argument) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Registers `bytes` of memory from `address` on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn register(&self, address: usize, bytes: usize, watch: Watch) -> io::Result<()> {
        let mode = match watch {
            Watch::Missing => REGISTER_MISSING,
            Watch::MissingAndWrites => REGISTER_MISSING | REGISTER_WRITES,
        };
        self.ask(
            UFFDIO_REGISTER(),
            &mut UffdioRegister {
                start: address as u64,
                len: bytes as u64,
                mode,
                ioctls: 0,
            },
        )
    }

    /// Moves the frames of `bytes` of memory from `from` to `to`, where nothing is.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn move_pages(&self, to: usize, from: usize, bytes: usize) -> io::Result<()> {
        self.transfer(UFFDIO_MOVE(), to, from, bytes)
    }

    /// Copies `bytes` of memory from `from` to `to`, where nothing is, and wakes who waits there.
    ///
    /// # Errors
    /// What the kernel refuses; EEXIST where there is something.
    pub fn copy(&self, to: usize, from: usize, bytes: usize) -> io::Result<()> {
        self.transfer(UFFDIO_COPY(), to, from, bytes)
    }

    fn transfer(&self, request: c_ulong, to: usize, from: usize, bytes: usize) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            let mut call = UffdioTransfer {
                dst: (to + done) as u64,
                src: (from + done) as u64,
                len: (bytes - done) as u64,
                mode: 0,
                done: 0,
            };
            match self.ask(request, &mut call) {
                Ok(()) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => done += usize::try_from(call.done).unwrap_or(0),
                    // Linux 6.18 may move a page, not count it, and then find it there.
                    Some(libc::EEXIST) if request == UFFDIO_MOVE() && is_empty(from + done)? => {
                        done += PAGE_SIZE;
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Write-protects `bytes` of memory from `address` on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn protect(&self, address: usize, bytes: usize) -> io::Result<()> {
        self.writeprotect(address, bytes, MODE_PROTECT)
    }

    /// Takes the protection off again, and wakes who waits to write.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn unprotect(&self, address: usize, bytes: usize) -> io::Result<()> {
        self.writeprotect(address, bytes, 0)
    }

    fn writeprotect(&self, address: usize, bytes: usize, mode: u64) -> io::Result<()> {
        let (start, len) = (address as u64, bytes as u64);
        self.ask(
            UFFDIO_WRITEPROTECT(),
            &mut UffdioWriteprotect { start, len, mode },
        )
    }

    /// Wakes who waits in `bytes` of memory from `address` on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn wake(&self, address: usize, bytes: usize) -> io::Result<()> {
        let (start, len) = (address as u64, bytes as u64);
        self.ask(UFFDIO_WAKE(), &mut UffdioRange { start, len })
    }

    /// The page of the next fault that waits, if one does.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn fault(&self) -> io::Result<Option<usize>> {
        let mut message = UffdMsg::default();
        // SAFETY: the kernel writes one message at most, of which any bits are valid.
        let read = unsafe {
            libc::read(
                self.as_raw_fd(),
                (&raw mut message).cast(),
                size_of::<UffdMsg>(),
            )
        };
        if read < 0 {
            return match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(None),
                error => Err(error),
            };
        }
        let page = message.address as usize & !(PAGE_SIZE - 1);
        Ok((message.event == EVENT_FAULT).then_some(page))
    }
}

/// Whether no frame is mapped at `address`.
#[cold]
fn is_empty(address: usize) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut entry = [0; 8];
    let place = (address / PAGE_SIZE * entry.len()) as u64;
    std::fs::File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, place)?;
    // Neither present (bit 63) nor swapped out (bit 62).
    Ok(u64::from_ne_bytes(entry) >> 62 == 0)
}

/// The descriptor, for those who poll it.
impl AsRawFd for Uffd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
