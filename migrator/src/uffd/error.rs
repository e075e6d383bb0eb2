//! What can go wrong with a userfaultfd.

use std::io;

/// A userfaultfd that cannot be had or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UffdError {
    /// Neither the system call nor the device gives one.
    #[error(
        "no userfaultfd for the kernel's own faults: userfaultfd(2) failed with {syscall}, and \
         /dev/userfaultfd could not be used; run with CAP_SYS_PTRACE, or set \
         vm.unprivileged_userfaultfd=1, or allow reading and writing /dev/userfaultfd"
    )]
    Refused {
        /// What the system call said.
        syscall: io::Error,
        /// What the device said.
        #[source]
        device: io::Error,
    },
    /// The kernel speaks another version of the interface.
    #[error("the kernel refuses userfaultfd API {api:#x} with the features {features:#x}")]
    Api {
        /// The version asked for.
        api: u64,
        /// The features asked for.
        features: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks what moving pages needs.
    #[error(
        "the kernel's userfaultfd lacks {name} (it offers the features {offered:#x}); \
         Linux 6.8 or later has it"
    )]
    Feature {
        /// The feature's name in the kernel's header.
        name: &'static str,
        /// The features that the kernel offers.
        offered: u64,
    },
    /// A range cannot be registered.
    #[error(
        "cannot register {len} bytes at {start:#x} with userfaultfd: the range must be page-aligned \
         private anonymous memory that no other userfaultfd holds"
    )]
    Register {
        /// Its first address.
        start: usize,
        /// Its length in bytes.
        len: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An operation on a registered range failed.
    #[error("{operation} failed for {len} bytes at {start:#x}")]
    Operation {
        /// The operation's name in the kernel's header.
        operation: &'static str,
        /// The range's first address.
        start: usize,
        /// The range's length in bytes.
        len: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The events cannot be read.
    #[error("cannot read userfaultfd events")]
    Read(#[source] io::Error),
}
