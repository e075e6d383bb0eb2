//! The kernel's structures and ioctl numbers.

use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iowr_nr};

pub(super) const UFFD_API: u64 = 0xaa;
pub(super) const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1;
pub(super) const FEATURE_SIGBUS: u64 = 1 << 7;
pub(super) const FEATURE_THREAD_ID: u64 = 1 << 8;
pub(super) const FEATURE_MOVE: u64 = 1 << 16;
pub(super) const REGISTER_MODE_MISSING: u64 = 1;
pub(super) const REGISTER_MODE_WP: u64 = 1 << 1;
pub(super) const WRITEPROTECT_MODE_WP: u64 = 1;
pub(super) const EVENT_PAGEFAULT: u8 = 0x12;

const UFFDIO: u32 = 0xaa;

#[repr(C)]
#[derive(Default)]
pub(super) struct UffdioApi {
    pub(super) api: u64,
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct UffdioRange {
    pub(super) start: u64,
    pub(super) len: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct UffdioRegister {
    pub(super) range: UffdioRange,
    pub(super) mode: u64,
    pub(super) ioctls: u64,
}

/// `struct uffdio_copy` and `struct uffdio_move`, which are laid out alike.
#[repr(C)]
#[derive(Default)]
pub(super) struct UffdioTransfer {
    pub(super) dst: u64,
    pub(super) src: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
    /// Bytes done, or a negative errno.
    pub(super) done: i64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct UffdioWriteprotect {
    pub(super) range: UffdioRange,
    pub(super) mode: u64,
}

/// `struct uffd_msg` for a page fault.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct UffdMsg {
    pub(super) event: u8,
    reserved: [u8; 7],
    pub(super) flags: u64,
    pub(super) address: u64,
    /// The thread's id in its low half (UFFD_FEATURE_THREAD_ID).
    pub(super) feature: u64,
}

ioctl_iowr_nr!(UFFDIO_API, UFFDIO, 0x3f, UffdioApi);
ioctl_iowr_nr!(UFFDIO_REGISTER, UFFDIO, 0x00, UffdioRegister);
ioctl_ior_nr!(UFFDIO_UNREGISTER, UFFDIO, 0x01, UffdioRange);
ioctl_ior_nr!(UFFDIO_WAKE, UFFDIO, 0x02, UffdioRange);
ioctl_iowr_nr!(UFFDIO_COPY, UFFDIO, 0x03, UffdioTransfer);
ioctl_iowr_nr!(UFFDIO_MOVE, UFFDIO, 0x05, UffdioTransfer);
ioctl_iowr_nr!(UFFDIO_WRITEPROTECT, UFFDIO, 0x06, UffdioWriteprotect);
// Of /dev/userfaultfd, not of the descriptor that it makes.
ioctl_io_nr!(USERFAULTFD_IOC_NEW, UFFDIO, 0x00);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_kernels() {
        assert_eq!(size_of::<UffdioApi>(), 24);
        assert_eq!(size_of::<UffdioRange>(), 16);
        assert_eq!(size_of::<UffdioRegister>(), 32);
        assert_eq!(size_of::<UffdioTransfer>(), 40);
        assert_eq!(size_of::<UffdioWriteprotect>(), 24);
        assert_eq!(size_of::<UffdMsg>(), 32);
        assert_eq!(std::mem::offset_of!(UffdMsg, address), 16);
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (number, formula, known) in [
            (UFFDIO_API(), (3, 24, 0x3f), 0xc018_aa3f),
            (UFFDIO_REGISTER(), (3, 32, 0x00), 0xc020_aa00),
            (UFFDIO_UNREGISTER(), (2, 16, 0x01), 0x8010_aa01),
            (UFFDIO_WAKE(), (2, 16, 0x02), 0x8010_aa02),
            (UFFDIO_COPY(), (3, 40, 0x03), 0xc028_aa03),
            (UFFDIO_MOVE(), (3, 40, 0x05), 0xc028_aa05),
            (UFFDIO_WRITEPROTECT(), (3, 24, 0x06), 0xc018_aa06),
            (USERFAULTFD_IOC_NEW(), (0, 0, 0x00), 0xaa00),
        ] {
            let (direction, size, nr): (u64, u64, u64) = formula;
            // _IOC(): direction in bits 30.., size in 16.., type in 8.., number below.
            assert_eq!(number, direction << 30 | size << 16 | 0xaa << 8 | nr);
            assert_eq!(number, known);
        }
    }
}
