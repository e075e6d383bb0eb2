//! A guest that any VMM starts from the reset vector, what it writes down, and a VMM for it.

mod machine;
mod stalls;

pub use machine::FlatMachine;
pub use stalls::Stalls;

use std::arch::global_asm;
use std::collections::HashSet;
use underfoot_abi::PAGE_SIZE;

/// Guest memory in bytes.
pub const MEMORY: u64 = AREA + PAGES * PAGE_SIZE as u64;
/// Where its ROM begins.
pub const ROM_AT: u64 = (1 << 32) - ROM_BYTES as u64;
/// How long that is; QEMU wants a multiple of 64 KiB.
pub const ROM_BYTES: usize = 64 << 10;
/// Where the pages begin that it reads.
pub const AREA: u64 = 16 << 20;
/// How many they are.
pub const PAGES: u64 = 65_536;
/// Where each CPU writes down what it sees: a header, and a ring of entries behind it.
#[must_use]
pub const fn header(cpu: u32) -> u64 {
    HEADER + ((cpu as u64) << HEADER_SHIFT)
}
/// CPUs at most.
pub const CPUS: u32 = 8;
/// Bytes of both.
pub const LOG_BYTES: usize = LOG_OFFSET + ENTRIES * ENTRY_BYTES;

const HEADER: u64 = 1 << 20;
const HEADER_SHIFT: u32 = 20;

const LOG_OFFSET: usize = 0x1000;
const ENTRIES: usize = 1 << 16;
const ENTRY_BYTES: usize = 8;
/// A page holds its number, exclusive-or this.
const MARK: u32 = 0x5a17_c0de;
/// A read that took so many ticks of the time-stamp counter is written down: 1 to 2 µs.
const LONG: u32 = 4096;

/// Offsets of the header's words.
const READY: usize = 0;
const CURSOR: usize = 8;
const WRONG: usize = 16;
const READS: usize = 24;

global_asm!(
    include_str!("guest.S"),
    MEMORY = const MEMORY,
    AREA = const AREA,
    PAGES = const PAGES,
    MARK = const MARK,
    LONG = const LONG,
    HEADER = const HEADER,
    HEADER_SHIFT = const HEADER_SHIFT,
    LOG = const LOG_OFFSET,
    READY = const READY,
    CURSOR = const CURSOR,
    WRONG = const WRONG,
    READS = const READS,
    options(att_syntax)
);

/// The ROM, from whose end the CPU starts.
#[must_use]
pub fn rom() -> Vec<u8> {
    unsafe extern "C" {
        static flat_guest: u8;
        static flat_guest_end: u8;
    }
    let (start, end) = (&raw const flat_guest, &raw const flat_guest_end);
    let bytes = end as usize - start as usize;
    // SAFETY: the two symbols enclose constant bytes of this program, as `guest.S` lays them out.
    let code = unsafe { std::slice::from_raw_parts(start, bytes) };
    let mut rom = vec![0; ROM_BYTES - bytes];
    rom.extend_from_slice(code);
    rom
}

/// What a CPU of the guest wrote down so far.
pub struct Log(Vec<u8>);

impl Log {
    /// From guest memory at [`header`], of which [`LOG_BYTES`] bytes or the header alone were read.
    ///
    /// # Panics
    /// If they are fewer.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!(bytes.len() >= LOG_OFFSET, "the guest's header");
        Self(bytes)
    }

    /// Bytes of a header alone.
    pub const HEADER_BYTES: usize = LOG_OFFSET;

    /// Whether it reads.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.word(READY) == 1
    }

    /// Entries written so far.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.word(CURSOR)
    }

    /// Pages read so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.word(READS)
    }

    /// Checks every read so far.
    ///
    /// # Panics
    /// If one found another page's content: figures of a guest that lost data are worth nothing.
    pub fn check(&self) {
        assert_eq!(self.word(WRONG), 0, "pages that held something else");
        assert!(self.reads() > 0, "a guest that reads");
    }

    /// How many ticks long reads took since the entry `since`.
    #[must_use]
    pub fn ticks_since(&self, since: u64) -> Vec<u32> {
        let entries = self.entries_since(since);
        entries.map(|(ticks, _)| ticks).collect()
    }

    /// Of those the ones of `demanded` pages of the area, the first of each page.
    #[must_use]
    pub fn ticks_of(&self, demanded: &HashSet<u64>, since: u64) -> Vec<u32> {
        let mut seen = HashSet::new();
        let entries = self.entries_since(since);
        let kept = entries.filter(|(_, page)| demanded.contains(page) && seen.insert(*page));
        kept.map(|(ticks, _)| ticks).collect()
    }

    fn entries_since(&self, since: u64) -> impl Iterator<Item = (u32, u64)> {
        let end = self.cursor();
        let first = since.max(end.saturating_sub(ENTRIES as u64));
        (first..end).map(|nth| self.entry(nth))
    }

    /// Ticks, and the page's number in the area.
    fn entry(&self, nth: u64) -> (u32, u64) {
        let at = LOG_OFFSET + nth as usize % ENTRIES * ENTRY_BYTES;
        let [ticks, page] = [at, at + 4].map(|at| {
            let bytes = self.0[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        });
        (ticks, page.into())
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}
