//! The floor: the primitives of a migration in a loop, without an engine.

use libc::{c_int, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

const PAGE: usize = 4096;
const API: u64 = 0xaa;
const FEATURE_MOVE: u64 = 1 << 16;
const REGISTER_MISSING: u64 = 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioMove {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    moved: i64,
}

mod request {
    //! The requests' numbers (linux/userfaultfd.h).
    use super::{API, UffdioApi, UffdioMove, UffdioRegister};
    use vmm_sys_util::ioctl_iowr_nr;

    ioctl_iowr_nr!(UFFDIO_API, API as u32, 0x3f, UffdioApi);
    ioctl_iowr_nr!(UFFDIO_REGISTER, API as u32, 0x00, UffdioRegister);
    ioctl_iowr_nr!(UFFDIO_MOVE, API as u32, 0x05, UffdioMove);
}
use request::{UFFDIO_API, UFFDIO_MOVE, UFFDIO_REGISTER};

/// A userfaultfd over some memory of this process, and two areas of frames that swap roles: one
/// receives the old frames, the other gives the new ones.
pub struct Bare {
    uffd: OwnedFd,
    areas: [usize; 2],
    bytes: usize,
}

fn ask<T>(uffd: &OwnedFd, request: c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: each request is paired with its own structure, whose addresses are of memory that
    // lives as long as the process maps it.
    match unsafe { ioctl_with_mut_ref(uffd, request, argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Bare {
    /// Registers `bytes` of memory from `address` on, for windows of `batch` pages.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(address: usize, bytes: usize, batch: usize) -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = c_int::try_from(fd)
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel gave it to us just now.
        let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
        ask(
            &uffd,
            UFFDIO_API(),
            &mut UffdioApi {
                api: API,
                features: FEATURE_MOVE,
                ioctls: 0,
            },
        )?;
        let areas = [area(batch * PAGE)?, area(batch * PAGE)?];
        let bare = Self {
            uffd,
            areas,
            bytes: batch * PAGE,
        };
        bare.register(address, bytes)?;
        for area in areas {
            bare.register(area, batch * PAGE)?;
        }
        // The second area gives the first frames; the first one is empty.
        // SAFETY: our own mapping, which nothing else uses; registered, but written before that.
        unsafe { libc::madvise(areas[0] as *mut c_void, batch * PAGE, libc::MADV_DONTNEED) };
        Ok(bare)
    }

    fn register(&self, address: usize, bytes: usize) -> io::Result<()> {
        let (start, len) = (address as u64, bytes as u64);
        ask(
            &self.uffd,
            UFFDIO_REGISTER(),
            &mut UffdioRegister {
                start,
                len,
                mode: REGISTER_MISSING,
                ioctls: 0,
            },
        )
    }

    /// Migrates the pages from `address` on, one window.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn migrate(&mut self, address: usize) -> io::Result<()> {
        let [limbo, staging] = self.areas;
        self.remap(limbo, address)?;
        // SAFETY: both areas are ours, `bytes` long and apart; `limbo` holds the old frames now, and
        // `staging` holds frames by the last window or by `new`.
        unsafe {
            std::ptr::copy_nonoverlapping(limbo as *const u8, staging as *mut u8, self.bytes)
        };
        self.remap(address, staging)?;
        self.areas = [staging, limbo];
        Ok(())
    }

    fn remap(&self, to: usize, from: usize) -> io::Result<()> {
        let mut done = 0;
        while done < self.bytes {
            let (dst, src, len) = (to + done, from + done, self.bytes - done);
            let mut call = UffdioMove {
                dst: dst as u64,
                src: src as u64,
                len: len as u64,
                mode: 0,
                moved: 0,
            };
            match ask(&self.uffd, UFFDIO_MOVE(), &mut call) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    done += usize::try_from(call.moved).unwrap_or(0);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for area in self.areas {
            // SAFETY: our own mappings, used by nobody else.
            unsafe { libc::munmap(area as *mut c_void, self.bytes) };
        }
    }
}

/// Private anonymous memory, populated by small pages.
fn area(bytes: usize) -> io::Result<usize> {
    // SAFETY: a new mapping at a place of the kernel's choice.
    unsafe {
        let address = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::madvise(address, bytes, libc::MADV_NOHUGEPAGE);
        address.cast::<u8>().write_bytes(1, bytes);
        Ok(address as usize)
    }
}

/// The descriptor, for those who poll it.
impl AsRawFd for Bare {
    fn as_raw_fd(&self) -> c_int {
        self.uffd.as_raw_fd()
    }
}
