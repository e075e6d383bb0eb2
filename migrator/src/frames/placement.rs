//! Where new frames lie.

use std::fs;
use std::io;

use super::FrameError;

/// Nodes that a mask of one word can name.
const MASK_NODES: u32 = u64::BITS;
/// `MPOL_BIND` of `linux/mempolicy.h`.
const MPOL_BIND: libc::c_ulong = 2;

/// Where frames of the pool are placed. It carries small pages of anonymous memory: huge ones and those of a file
/// come from the loops of their backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Where the kernel likes.
    #[default]
    Anywhere,
    /// On this NUMA node alone, by mbind(2).
    Node(u32),
}

impl Placement {
    /// Binds a mapping whose pages were not touched yet.
    ///
    /// # Errors
    /// There is no such node, or the kernel refuses.
    pub(crate) fn bind(self, start: *mut u8, bytes: usize) -> Result<(), FrameError> {
        let Self::Node(node) = self else {
            return Ok(());
        };
        let refused = |source| FrameError::Node {
            node,
            online: online_nodes(),
            source,
        };
        if node >= MASK_NODES {
            return Err(refused(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let mask = 1u64 << node;
        // The kernel counts one bit less than it is told.
        let bits = u64::from(MASK_NODES) + 1;
        // SAFETY: the mask outlives the call, and the kernel changes no contents by it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                start,
                bytes,
                MPOL_BIND,
                &raw const mask,
                bits,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(refused(io::Error::last_os_error()))
        }
    }
}

/// As the kernel lists them, `0-1` say.
fn online_nodes() -> String {
    fs::read_to_string("/sys/devices/system/node/online")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
