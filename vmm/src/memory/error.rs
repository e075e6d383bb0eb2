//! Why guest memory cannot be had.

use vm_memory::mmap::FromRangesError;

/// Why guest memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not a number with a unit.
    #[error("memory size `{0}` is not a number with a unit: write for example 64MiB or 2GiB")]
    Syntax(String),
    /// Below the least size.
    #[error("memory size {bytes} bytes is below the least of 16 MiB: ask for 16MiB or more")]
    TooSmall {
        /// Bytes asked for.
        bytes: u64,
    },
    /// Not a multiple of 2 MiB.
    #[error(
        "memory size {bytes} bytes is not a multiple of 2 MiB: the nearest below is {} MiB",
        (.bytes >> 21) << 1
    )]
    Unaligned {
        /// Bytes asked for.
        bytes: u64,
    },
    /// More than the host can give now.
    #[error(
        "memory size {} MiB is more than the {} MiB that this host has available: ask for less or free some",
        .bytes >> 20, .available >> 20
    )]
    TooLarge {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that the host has.
        available: u64,
    },
    /// The shared region leaves too little.
    #[error(
        "{cpus} vCPUs need a shared region of {} KiB, which leaves {} KiB of {} MiB of memory and the guest needs 8 MiB: give it more memory or fewer vCPUs",
        .shared >> 10, .left >> 10, .bytes >> 20
    )]
    SharedTooLarge {
        /// vCPUs asked for.
        cpus: u32,
        /// Bytes of the shared region.
        shared: u64,
        /// Bytes that remain.
        left: u64,
        /// Bytes of memory asked for.
        bytes: u64,
    },
    /// mmap refused.
    #[error("the host refused {} MiB of guest memory", .bytes >> 20)]
    Map {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: FromRangesError,
    },
    /// memfd_create or ftruncate refused.
    #[error("the host refused a file in memory of {} MiB", .bytes >> 20)]
    File {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// madvise refused.
    #[error("the host refused to set the huge-page advice on guest memory")]
    Advice(#[source] std::io::Error),
    /// madvise refused.
    #[error(
        "the host refused to populate {} MiB of guest memory: ask for less or free some (Linux 5.14 is the least)",
        .bytes >> 20
    )]
    Populate {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
