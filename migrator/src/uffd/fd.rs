//! The descriptor and its ioctls.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};

use super::abi::{
    self, UffdioApi, UffdioRange, UffdioRegister, UffdioTransfer, UffdioWriteprotect,
};
use super::{Messages, UffdError, WaitingFaults};

/// What happens to a thread that touches a missing page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It sleeps, and an event says so.
    Sleep,
    /// It is sent SIGBUS, or its system call fails with EFAULT.
    Signal,
}

/// What a range is registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Accesses to missing pages.
    Missing,
    /// These, and writes to pages that are write-protected.
    MissingAndWrites,
}

/// How far a copy or move got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Bytes done.
    pub(crate) done: usize,
    /// Why no more: 0 if all was done. EAGAIN with some bytes done hides the true reason.
    pub(crate) errno: i32,
}

impl Transfer {
    /// So many pages went, and why no more.
    pub(crate) fn of_pages(pages: u32, errno: i32) -> Self {
        Self {
            done: pages as usize * crate::PAGE_SIZE,
            errno,
        }
    }
}

/// A userfaultfd that serves faults of the kernel, too.
pub(crate) struct Userfaultfd(OwnedFd);

impl Userfaultfd {
    /// Opens one, non-blocking, and negotiates what is needed.
    pub(crate) fn new(waiting: Waiting) -> Result<Self, UffdError> {
        let wanted = abi::FEATURE_MOVE
            | abi::FEATURE_PAGEFAULT_FLAG_WP
            | match waiting {
                Waiting::Sleep => abi::FEATURE_THREAD_ID,
                Waiting::Signal => abi::FEATURE_SIGBUS,
            };
        let uffd = Self(open()?);
        match uffd.negotiate(wanted) {
            Ok(_) => Ok(uffd),
            // The handshake is done once per descriptor: a second one asks what there is.
            Err(source) => Err(match Self(open()?).negotiate(0) {
                Ok(offered) if offered & abi::FEATURE_MOVE == 0 => UffdError::Feature {
                    name: "UFFD_FEATURE_MOVE",
                    offered,
                },
                _ => UffdError::Api {
                    api: abi::UFFD_API,
                    features: wanted,
                    source,
                },
            }),
        }
    }

    fn negotiate(&self, features: u64) -> io::Result<u64> {
        let mut api = UffdioApi {
            api: abi::UFFD_API,
            features,
            ioctls: 0,
        };
        // SAFETY: the kernel reads and writes one `uffdio_api`, which `api` is.
        check(unsafe { ioctl_with_mut_ref(self, abi::UFFDIO_API(), &mut api) })?;
        Ok(api.features)
    }

    /// Registers a range. From here on an access of the kind that is watched waits for this
    /// descriptor's owner, who must serve it.
    pub(crate) fn register(&self, start: usize, len: usize, watch: Watch) -> Result<(), UffdError> {
        let mut register = UffdioRegister {
            range: range(start, len),
            mode: abi::REGISTER_MODE_MISSING
                | match watch {
                    Watch::Missing => 0,
                    Watch::MissingAndWrites => abi::REGISTER_MODE_WP,
                },
            ioctls: 0,
        };
        // SAFETY: the kernel reads and writes one `uffdio_register`, which `register` is. Faults
        // change who serves them, memory keeps its contents.
        check(unsafe { ioctl_with_mut_ref(self, abi::UFFDIO_REGISTER(), &mut register) })
            .map_err(|source| UffdError::Register { start, len, source })
    }

    /// Makes a range ordinary memory again and wakes who waits in it.
    pub(crate) fn unregister(&self, start: usize, len: usize) -> Result<(), UffdError> {
        // SAFETY: the kernel reads one `uffdio_range`; memory keeps its contents.
        check(unsafe { ioctl_with_ref(self, abi::UFFDIO_UNREGISTER(), &range(start, len)) })
            .map_err(operation("UFFDIO_UNREGISTER", start, len))
    }

    /// Who sleeps in faults of it; `None` where `/proc` does not tell.
    pub(crate) fn waiting(&self) -> Option<WaitingFaults> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.as_raw_fd()));
        WaitingFaults::parse(&info.ok()?)
    }

    /// Wakes whoever waits in a range; they look again.
    pub(crate) fn wake(&self, start: usize, len: usize) -> Result<(), UffdError> {
        // SAFETY: the kernel reads one `uffdio_range` and touches no memory of ours.
        check(unsafe { ioctl_with_ref(self, abi::UFFDIO_WAKE(), &range(start, len)) })
            .map_err(operation("UFFDIO_WAKE", start, len))
    }

    /// Write-protects the pages of a range that was registered with [`Watch::MissingAndWrites`]:
    /// who writes one waits. Returns 0 or the errno. Holes stay as they are.
    pub(crate) fn protect(&self, start: usize, len: usize) -> i32 {
        self.writeprotect(start, len, abi::WRITEPROTECT_MODE_WP)
    }

    /// Takes the write-protection off again and wakes who waits in the range.
    pub(crate) fn unprotect(&self, start: usize, len: usize) -> i32 {
        self.writeprotect(start, len, 0)
    }

    fn writeprotect(&self, start: usize, len: usize, mode: u64) -> i32 {
        let mut request = UffdioWriteprotect {
            range: range(start, len),
            mode,
        };
        // SAFETY: the kernel reads one `uffdio_writeprotect`, which `request` is; memory keeps its
        // contents, and who waits is woken by our calls.
        errno(check(unsafe {
            ioctl_with_mut_ref(self, abi::UFFDIO_WRITEPROTECT(), &mut request)
        }))
    }

    /// Moves the frames at `src` to the missing pages at `dst`, which are registered here, and wakes
    /// who waits there.
    ///
    /// # Safety
    /// The caller must own the memory at `src`, or be entitled to make its pages missing: who
    /// touches them afterwards must be served, or know that they are gone.
    pub(crate) unsafe fn move_pages(&self, dst: usize, src: usize, len: usize) -> Transfer {
        self.transfer(abi::UFFDIO_MOVE(), dst, src, len)
    }

    /// Copies `src` into fresh frames at the missing pages at `dst`, which are registered here, and
    /// wakes who waits there. Pages that are present are left as they are (EEXIST), and `src` is
    /// read by the kernel, which reports a bad address: safe for any arguments.
    pub(crate) fn copy(&self, dst: usize, src: usize, len: usize) -> Transfer {
        self.transfer(abi::UFFDIO_COPY(), dst, src, len)
    }

    fn transfer(&self, request: libc::c_ulong, dst: usize, src: usize, len: usize) -> Transfer {
        let mut transfer = UffdioTransfer {
            dst: dst as u64,
            src: src as u64,
            len: len as u64,
            ..UffdioTransfer::default()
        };
        // SAFETY: the kernel reads and writes one `uffdio_copy` or `uffdio_move`, which `transfer`
        // is. What it does to the ranges named in it is the duty of the two callers above.
        let result = check(unsafe { ioctl_with_mut_ref(self, request, &mut transfer) });
        Transfer {
            done: usize::try_from(transfer.done).unwrap_or(0),
            errno: errno(result),
        }
    }

    /// Takes the events that are there; none is no error.
    pub(crate) fn read(&self, messages: &mut Messages) -> Result<(), UffdError> {
        messages.len = 0;
        // SAFETY: the kernel writes at most the given number of bytes, which is the array's size,
        // and every bit pattern is a valid `UffdMsg`.
        let bytes = unsafe {
            libc::read(
                self.as_raw_fd(),
                messages.raw.as_mut_ptr().cast(),
                size_of_val(&messages.raw),
            )
        };
        match usize::try_from(bytes) {
            Ok(bytes) => messages.len = bytes / size_of::<abi::UffdMsg>(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                    return Err(UffdError::Read(error));
                }
            }
        }
        Ok(())
    }
}

impl AsRawFd for Userfaultfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn range(start: usize, len: usize) -> UffdioRange {
    UffdioRange {
        start: start as u64,
        len: len as u64,
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// 0 if all went well.
fn errno(result: io::Result<()>) -> i32 {
    result
        .err()
        .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO))
}

fn operation(
    operation: &'static str,
    start: usize,
    len: usize,
) -> impl FnOnce(io::Error) -> UffdError {
    move |source| UffdError::Operation {
        operation,
        start,
        len,
        source,
    }
}

const FLAGS: libc::c_int = libc::O_CLOEXEC | libc::O_NONBLOCK;

fn open() -> Result<OwnedFd, UffdError> {
    // Without UFFD_USER_MODE_ONLY: KVM's faults are the kernel's.
    // SAFETY: the call takes flags only and returns a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, FLAGS) };
    if fd >= 0 {
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    }
    let syscall = io::Error::last_os_error();
    open_by_device().map_err(|device| UffdError::Refused { syscall, device })
}

fn open_by_device() -> io::Result<OwnedFd> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd")?;
    // SAFETY: the ioctl takes flags by value and returns a descriptor or -1.
    let fd = unsafe { ioctl_with_val(&device, abi::USERFAULTFD_IOC_NEW(), FLAGS as libc::c_ulong) };
    check(fd)?;
    // SAFETY: as in `open`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
