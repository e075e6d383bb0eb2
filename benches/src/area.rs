//! Memory of the benchmark's own.

use libc::c_void;
use std::io;
use std::num::NonZeroUsize;

/// Private anonymous memory in small pages, all of them populated.
pub struct Area {
    address: usize,
    bytes: usize,
}

impl Area {
    /// `bytes` of it, at a multiple of `align`, a power of two.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(bytes: usize, align: NonZeroUsize) -> io::Result<Self> {
        let align = align.get();
        // SAFETY: a new mapping at a place of the kernel's choice, of which we keep the aligned part.
        unsafe {
            let mapping = libc::mmap(
                std::ptr::null_mut(),
                bytes + align,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if mapping == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let start = mapping as usize;
            let address = start.next_multiple_of(align);
            for (from, to) in [(start, address), (address + bytes, start + bytes + align)] {
                if to > from {
                    libc::munmap(from as *mut c_void, to - from);
                }
            }
            let area = Self { address, bytes };
            area.advise(libc::MADV_NOHUGEPAGE)?;
            area.pointer().write_bytes(1, bytes);
            Ok(area)
        }
    }

    /// `bytes` of it, anywhere.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn anywhere(bytes: usize) -> io::Result<Self> {
        Self::new(bytes, NonZeroUsize::MIN)
    }

    /// Where it begins.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// The same as a pointer.
    #[must_use]
    pub const fn pointer(&self) -> *mut u8 {
        self.address as *mut u8
    }

    /// How long it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// madvise(2) over all of it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn advise(&self, advice: i32) -> io::Result<()> {
        advise(self.address, self.bytes, advice)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: our own mapping, used by nobody else.
        unsafe { libc::munmap(self.address as *mut c_void, self.bytes) };
    }
}

/// madvise(2), bare.
///
/// # Errors
/// What the kernel refuses.
pub fn advise(address: usize, bytes: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the memory is used by raw pointers alone, and callers who discard it own what it holds.
    match unsafe { libc::madvise(address as *mut c_void, bytes, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
