//! When a thread lost its CPU and when it had one again, as the kernel records it (perf_event_open(2),
//! `context_switch`).
//!
//! Unsafe code is here because the kernel shares the ring's memory with this process. The kernel writes records and
//! `data_head`, this process writes `data_tail`; nobody else has the mapping.

use perf_event_open_sys::bindings as perf;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's pages: `PERF_EVENT_MMAP_PAGE` has this size whatever the ring's.
const PAGE: usize = 4096;
/// Bytes of records, a power of two: at 16 bytes a record as many switches as no thread makes in 4 ms.
const ROOM: usize = 16 * PAGE;
/// Header and time.
const SWITCH_BYTES: usize = 16;
/// Header, id, count and time.
const LOST_BYTES: usize = 32;

/// What happened to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It has a CPU.
    In,
    /// It gave its CPU up, and sleeps.
    Slept,
    /// It lost its CPU, and wants one.
    Preempted,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchRecord {
    /// A change, at this time of CLOCK_MONOTONIC_RAW in ns.
    Switch(u64, Switch),
    /// So many records are missing here, because nobody read in time.
    Lost(u64),
}

/// The switches of one thread of this process.
#[derive(Debug)]
pub struct SwitchRing {
    /// Keeps the event alive.
    _event: File,
    /// `PAGE + ROOM` bytes.
    map: NonNull<u8>,
}

// SAFETY: the mapping is this value's alone and tied to no thread; reading needs `&mut self`.
unsafe impl Send for SwitchRing {}

impl SwitchRing {
    /// Begins to record the switches of the thread `thread_id` of this process.
    ///
    /// # Errors
    /// The kernel refuses, by `kernel.perf_event_paranoid` for one, or has no room for the ring.
    pub fn open(thread_id: i32) -> io::Result<Self> {
        let mut attributes = perf::perf_event_attr {
            type_: perf::PERF_TYPE_SOFTWARE,
            size: size_of::<perf::perf_event_attr>() as u32,
            config: perf::PERF_COUNT_SW_DUMMY.into(),
            sample_type: perf::PERF_SAMPLE_TIME.into(),
            clockid: libc::CLOCK_MONOTONIC_RAW,
            ..Default::default()
        };
        attributes.set_context_switch(1);
        attributes.set_sample_id_all(1);
        attributes.set_use_clockid(1);
        // What the event counts, which is nothing: without it an ordinary user may not have the event.
        attributes.set_exclude_kernel(1);
        attributes.set_exclude_hv(1);
        // SAFETY: the kernel reads `attributes`, of the size said in it, and writes that size at most.
        let fd = unsafe {
            perf_event_open_sys::perf_event_open(
                &raw mut attributes,
                thread_id,
                -1,
                -1,
                perf::PERF_FLAG_FD_CLOEXEC.into(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made the descriptor for us, and nobody else knows it.
        let event = unsafe { File::from_raw_fd(fd) };
        // SAFETY: a new mapping at a place of the kernel's choice.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE + ROOM,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { _event: event, map })
    }

    /// Takes what was recorded since the last call, in the order in which it happened.
    pub fn drain(&mut self, mut each: impl FnMut(SwitchRecord)) {
        // Pairs with the kernel's barrier before it raises `data_head`: records below it are whole.
        let head = self.index(true).load(Ordering::Acquire);
        let mut at = self.index(false).load(Ordering::Relaxed);
        while at < head {
            let header = self.word(at);
            let size = (header >> 48) as usize;
            if size < size_of::<u64>() || !size.is_multiple_of(size_of::<u64>()) {
                // No record is so: what follows cannot be read.
                at = head;
                break;
            }
            if let Some(record) = decode(header, |index| self.word(at + index as u64 * 8)) {
                each(record);
            }
            at += size as u64;
        }
        // Pairs with the kernel's read of `data_tail`: records below it were read.
        self.index(false).store(at, Ordering::Release);
    }

    fn index(&self, head: bool) -> &AtomicU64 {
        let offset = if head {
            std::mem::offset_of!(perf::perf_event_mmap_page, data_head)
        } else {
            std::mem::offset_of!(perf::perf_event_mmap_page, data_tail)
        };
        // SAFETY: both are aligned 64-bit words of the first page of the mapping, which lives as long as `self`; the
        // kernel and this process access them as wholes.
        unsafe { self.map.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// The word at `at` of all bytes that ever were recorded; records consist of whole words.
    fn word(&self, at: u64) -> u64 {
        let offset = PAGE + (at as usize & (ROOM - 1) & !7);
        // SAFETY: an aligned word within the mapping, below `data_head` and not below `data_tail`, so that the kernel
        // does not write it now.
        unsafe { self.map.add(offset).cast::<u64>().read() }
    }
}

impl Drop for SwitchRing {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made, which nothing refers to any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), PAGE + ROOM) };
    }
}

/// The record with this header (type, 16 bits of flags, size), whose words `word` tells; `None` for others.
fn decode(header: u64, word: impl Fn(usize) -> u64) -> Option<SwitchRecord> {
    let (kind, misc, size) = (header as u32, (header >> 32) as u32 & 0xffff, header >> 48);
    match (kind, size as usize) {
        (perf::PERF_RECORD_SWITCH, SWITCH_BYTES) => {
            let switch = if misc & perf::PERF_RECORD_MISC_SWITCH_OUT == 0 {
                Switch::In
            } else if misc & perf::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT == 0 {
                Switch::Slept
            } else {
                Switch::Preempted
            };
            Some(SwitchRecord::Switch(word(1), switch))
        }
        (perf::PERF_RECORD_LOST, LOST_BYTES) => Some(SwitchRecord::Lost(word(2))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn headers_are_told_apart() {
        let header = |kind: u32, misc: u32, size: usize| {
            u64::from(kind) | u64::from(misc) << 32 | (size as u64) << 48
        };
        let out = perf::PERF_RECORD_MISC_SWITCH_OUT;
        let preempted = out | perf::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
        let switch = |what| Some(SwitchRecord::Switch(101, what));
        for (kind, misc, size, record) in [
            (perf::PERF_RECORD_SWITCH, 0, 16, switch(Switch::In)),
            (perf::PERF_RECORD_SWITCH, out, 16, switch(Switch::Slept)),
            (
                perf::PERF_RECORD_SWITCH,
                preempted,
                16,
                switch(Switch::Preempted),
            ),
            (perf::PERF_RECORD_SWITCH, 0, 24, None),
            (perf::PERF_RECORD_LOST, 0, 32, Some(SwitchRecord::Lost(102))),
            (perf::PERF_RECORD_THROTTLE, 0, 32, None),
        ] {
            let decoded = decode(header(kind, misc, size), |index| 100 + index as u64);
            assert_eq!(decoded, record, "{kind} {misc:#x} {size}");
        }
    }

    #[test]
    fn a_sleep_is_recorded_from_its_beginning_to_its_end() {
        let Ok(mut ring) = SwitchRing::open(crate::sys::thread_id()) else {
            println!("skipped: this host records no switches");
            return;
        };
        let before = crate::sys::raw_clock_ns();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = crate::sys::raw_clock_ns();
        let mut records = Vec::new();
        ring.drain(|record| records.push(record));
        let mut slept = 0;
        let mut last = before;
        for record in records {
            let SwitchRecord::Switch(ns, what) = record else {
                panic!("{record:?}");
            };
            assert!((last..=after).contains(&ns), "{last} {ns} {after}");
            last = ns;
            slept += u32::from(what == Switch::Slept);
        }
        assert!(slept >= 3, "{slept}");
        ring.drain(|record| panic!("told twice: {record:?}"));
    }
}
