//! The one byte of a vCPU's `kvm_run` that other threads write, and the fields that only make
//! sense after certain exits.

use kvm_ioctls::VcpuFd;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

/// A second mapping of a vCPU's `kvm_run` page, so that its lifetime does not hang on the thread
/// that owns the [`VcpuFd`].
#[derive(Debug)]
pub(crate) struct RunPage {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only reached through an
// atomic.
unsafe impl Send for RunPage {}
// SAFETY: as above; `immediate_exit` is the only access, and it is atomic.
unsafe impl Sync for RunPage {}

const LEN: usize = underfoot_abi::PAGE_SIZE;

impl RunPage {
    /// Maps the first page of `vcpu`'s run area.
    pub(crate) fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LEN,
                protection,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { base })
    }

    /// Makes KVM_RUN return at once with EINTR (or not).
    pub(crate) fn set_immediate_exit(&self, on: bool) {
        let offset = std::mem::offset_of!(kvm_bindings::kvm_run, immediate_exit);
        // SAFETY: the byte lies within the page that this value keeps mapped; KVM reads it as a
        // plain byte, and everybody in this process reaches it atomically.
        let byte = unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) };
        byte.store(u8::from(on), Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: `base` is our own mapping of LEN bytes, and no reference into it outlives a call.
        unsafe { libc::munmap(self.base.as_ptr().cast(), LEN) };
    }
}

/// The kind of internal error, right after an exit with KVM_EXIT_INTERNAL_ERROR.
pub(crate) fn internal_suberror(vcpu: &mut VcpuFd) -> u32 {
    let run = vcpu.get_kvm_run();
    // SAFETY: every field of the union is plain integers, valid for any bits; the caller comes
    // from an exit whose reason says that `internal` is the one that KVM filled.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}
