//! The shared region as the host sees it: words that have one writer each.

use crate::crash::Crash;
use crate::memory::GuestRam;
use crate::report::GuestReport;
use std::collections::BTreeMap;
use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use underfoot_abi::{
    BacklogRing, BacklogSample, Cpl, GuestState, Header, InterruptRecord, Layout, MAGIC,
    MAX_PARAMETERS, MAX_THREADS, Mover, MoverArea, PageByte, Phase, ReportKind, Reports,
    StallRecord, ThreadWords, VERSION, Variant, VcpuArea, WindowRecord, WorkloadId,
};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// What the host tells the guest before it boots: the plain words of [`Header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInit {
    /// Seed of every random choice in the guest.
    pub seed: u64,
    /// TSC frequency.
    pub tsc_khz: u32,
    /// Privilege level demanded.
    pub cpl: Cpl,
    /// Workload.
    pub workload: WorkloadId,
    /// Right, or busted in a named way.
    pub variant: Variant,
    /// Accesses that take longer are stalls.
    pub stall_threshold_ns: u32,
    /// Period of the paced probe.
    pub probe_period_ns: u32,
    /// What the workload is told, in the order of its parameters.
    pub parameters: [u64; MAX_PARAMETERS],
    /// Who moves the guest's pages, and if it does so itself, which and how fast.
    pub mover: MoverInit,
}

/// What the guest is told of moving its own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoverInit {
    /// Who moves.
    pub mover: Mover,
    /// Kinds that the guest moves, by [`PageKind::bit`](underfoot_abi::PageKind::bit).
    pub targets: u32,
    /// Pages per second that the guest moves, 0 as fast as it goes.
    pub rate: u64,
}

impl MoverInit {
    /// The host moves.
    pub const HOST: Self = Self {
        mover: Mover::Host,
        targets: 0,
        rate: 0,
    };
}

/// The words of [`Header`] that change while the guest runs, by reference.
///
/// The plain ones are left out on purpose: the guest can scribble over them, and a Rust reference
/// to a plain word promises that nobody does.
#[derive(Clone, Copy, Debug)]
pub struct HeaderWords<'a> {
    /// Host: [`Phase`].
    pub phase: &'a AtomicU32,
    /// Guest: [`GuestState`].
    pub state: &'a AtomicU32,
    /// Guest: [`Cpl`] in force.
    pub cpl_in_force: &'a AtomicU32,
    /// Guest: vCPUs that came up.
    pub cpus_up: &'a AtomicU32,
    /// Guest: ticks of the ring-0 timing.
    pub ring0_ticks: &'a AtomicU64,
    /// Guest: TSC at its first Rust line.
    pub entered_tsc: &'a AtomicU64,
    /// Guest: TSC of the first workload operation.
    pub first_operation_tsc: &'a AtomicU64,
    /// Guest: what the audit has looked at so far.
    pub audited: &'a AtomicU64,
    /// Guest: check words that the audit verified.
    pub audit_checked: &'a AtomicU64,
    /// Guest: what the audit found wrong.
    pub audit_errors: &'a AtomicU64,
    /// Guest: updates found in the objects.
    pub audit_updates: &'a AtomicU64,
    /// Guest: RCU stalls reported.
    pub rcu_stalls: &'a AtomicU64,
    /// Guest: times that somebody made room.
    pub reclaims: &'a AtomicU64,
    /// Guest: grace periods completed.
    pub grace_periods: &'a AtomicU64,
    /// Host: the number that [`Self::grace_number`] is to come to.
    pub grace_wanted: &'a AtomicU64,
    /// Guest: grace periods of classic RCU, told as they begin and end.
    pub grace_number: &'a AtomicU64,
    /// Guest: the CPUs that the one in progress waited for.
    pub grace_cpus: &'a AtomicU64,
    /// Guest: TSC when it began.
    pub grace_began_tsc: &'a AtomicU64,
    /// Guest: vector, error code, RIP, RSP, CR2 and CPU of the trap that ended it.
    pub crash: &'a [AtomicU64; 6],
    /// Guest: reports made.
    pub reports_made: &'a AtomicU32,
    /// Guest: the first of them; see [`SharedRegion::reports`].
    pub reports: &'a [Reports; ReportKind::ALL.len()],
    /// Guest: its threads.
    pub threads: &'a [ThreadWords; MAX_THREADS],
    /// Guest: what waits for grace periods.
    pub backlog: &'a BacklogRing,
}

/// The shared region of one guest. Cheap to clone; keeps the guest's memory mapped.
#[derive(Clone, Debug)]
pub struct SharedRegion {
    base: NonNull<u8>,
    layout: Layout,
    frames: u64,
    cpus: u32,
    gpa: u64,
    _memory: Arc<GuestMemoryMmap>,
}

// SAFETY: the memory belongs to the process and stays mapped while `_memory` lives; all access is
// through atomics, but for `init`, whose contract is on its caller.
unsafe impl Send for SharedRegion {}
// SAFETY: as above.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// The region that `ram` set aside.
    ///
    /// # Panics
    /// If the region is not wholly mapped, which [`GuestRam::new`] excludes.
    #[must_use]
    pub fn new(ram: &GuestRam) -> Self {
        let slice = ram
            .memory()
            .get_slice(GuestAddress(ram.shared_gpa()), ram.layout().size)
            .expect("the shared region lies in one mapped range");
        let base = NonNull::new(slice.ptr_guard_mut().as_ptr()).expect("mappings are not at 0");
        assert!(
            base.as_ptr()
                .addr()
                .is_multiple_of(underfoot_abi::PAGE_SIZE)
        );
        Self {
            base,
            layout: ram.layout(),
            frames: ram.size().frames(),
            cpus: ram.cpus(),
            gpa: ram.shared_gpa(),
            _memory: Arc::clone(ram.memory()),
        }
    }

    /// Guest physical address of the region.
    #[must_use]
    pub const fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Bytes in the region, a multiple of the page size.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.layout.size
    }

    /// vCPUs that it has areas for.
    #[must_use]
    pub const fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Guest frames that the page map covers.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    fn header_ptr(&self) -> *mut Header {
        self.base.as_ptr().cast()
    }

    /// Writes the plain words. To be called before the guest first runs; `&mut` keeps other users
    /// of this value out.
    pub fn init(&mut self, init: &HeaderInit) {
        let header = self.header_ptr();
        // SAFETY: `base` is page-aligned and heads `layout.size` mapped bytes, of which Header is
        // the first part. The guest does not run yet, so nobody else writes these words, and no
        // Rust reference to them exists: `header` gives out the atomic ones only.
        unsafe {
            addr_of_mut!((*header).magic).write(MAGIC);
            addr_of_mut!((*header).version).write(VERSION);
            addr_of_mut!((*header).cpus).write(self.cpus);
            addr_of_mut!((*header).frames).write(self.frames);
            addr_of_mut!((*header).seed).write(init.seed);
            addr_of_mut!((*header).tsc_khz).write(init.tsc_khz);
            addr_of_mut!((*header).cpl).write(init.cpl as u32);
            addr_of_mut!((*header).workload).write(init.workload as u32);
            addr_of_mut!((*header).variant).write(init.variant as u32);
            addr_of_mut!((*header).stall_threshold_ns).write(init.stall_threshold_ns);
            addr_of_mut!((*header).probe_period_ns).write(init.probe_period_ns);
            addr_of_mut!((*header).parameters).write(init.parameters);
            addr_of_mut!((*header).mover).write(init.mover.mover as u32);
            addr_of_mut!((*header).mover_targets).write(init.mover.targets);
            addr_of_mut!((*header).mover_rate).write(init.mover.rate);
        }
    }

    /// Whether the guest is to have KVM tell it of pages that are away. Before the guest runs.
    pub(crate) fn set_page_events(&mut self, wanted: bool) {
        let header = self.header_ptr();
        // SAFETY: as in `init`.
        unsafe { addr_of_mut!((*header).page_events).write(wanted.into()) };
    }

    /// The words that change at run time.
    #[must_use]
    pub fn header(&self) -> HeaderWords<'_> {
        let header = self.header_ptr();
        // SAFETY: as in `init` the page is mapped and aligned, for as long as `self` lives; every
        // word referenced is an atomic (or made of them), so the guest may write it meanwhile.
        unsafe {
            HeaderWords {
                phase: &*addr_of!((*header).phase),
                state: &*addr_of!((*header).state),
                cpl_in_force: &*addr_of!((*header).cpl_in_force),
                cpus_up: &*addr_of!((*header).cpus_up),
                ring0_ticks: &*addr_of!((*header).ring0_ticks),
                entered_tsc: &*addr_of!((*header).entered_tsc),
                first_operation_tsc: &*addr_of!((*header).first_operation_tsc),
                audited: &*addr_of!((*header).audited),
                audit_checked: &*addr_of!((*header).audit_checked),
                audit_errors: &*addr_of!((*header).audit_errors),
                audit_updates: &*addr_of!((*header).audit_updates),
                rcu_stalls: &*addr_of!((*header).rcu_stalls),
                reclaims: &*addr_of!((*header).reclaims),
                grace_periods: &*addr_of!((*header).grace_periods),
                grace_wanted: &*addr_of!((*header).grace_wanted),
                grace_number: &*addr_of!((*header).grace_number),
                grace_cpus: &*addr_of!((*header).grace_cpus),
                grace_began_tsc: &*addr_of!((*header).grace_began_tsc),
                crash: &*addr_of!((*header).crash),
                reports_made: &*addr_of!((*header).reports_made),
                reports: &*addr_of!((*header).reports),
                threads: &*addr_of!((*header).threads),
                backlog: &*addr_of!((*header).backlog),
            }
        }
    }

    /// The trap that ended the guest, if one did. Where two CPUs trap at once, words of both may
    /// be in it.
    #[must_use]
    pub fn crash(&self) -> Option<Crash> {
        // The acquire in `state` pairs with the guest's release, which comes after these words.
        match self.state() {
            Some(GuestState::Failed) => Crash::read(self.header().crash),
            _ => None,
        }
    }

    /// The guest's own words on why it failed; empty when it said nothing.
    #[must_use]
    pub fn message(&self) -> String {
        let header = self.header_ptr();
        // SAFETY: as in `header`: mapped, aligned, atomics.
        let (len, bytes) = unsafe {
            (
                &*addr_of!((*header).message_len),
                &*addr_of!((*header).message),
            )
        };
        let len = (len.load(Ordering::Acquire) as usize).min(bytes.len());
        let text: Vec<u8> = bytes[..len]
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .collect();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What the guest's checkers found, the first of each kind, in the order in which it was found.
    #[must_use]
    pub fn reports(&self) -> Vec<GuestReport> {
        let by_kind = ReportKind::ALL.into_iter().zip(self.header().reports);
        let mut reports: Vec<_> = by_kind
            .flat_map(|(kind, reports)| {
                let slots = reports.first.iter();
                slots.filter_map(move |slot| GuestReport::read(kind, slot))
            })
            .collect();
        reports.sort_by_key(|report| report.number);
        reports
    }

    /// How many reports were made of each kind of which there are any, by name.
    #[must_use]
    pub fn reports_by_kind(&self) -> BTreeMap<&'static str, u32> {
        let by_kind = ReportKind::ALL.into_iter().zip(self.header().reports);
        by_kind
            .map(|(kind, reports)| (kind.name(), reports.made.load(Ordering::Relaxed)))
            .filter(|(_, made)| *made > 0)
            .collect()
    }

    /// Sets the phase. Release: what the host wrote before is visible to a guest that sees it.
    pub fn set_phase(&self, phase: Phase) {
        self.header().phase.store(phase as u32, Ordering::Release);
    }

    /// How far the guest is; `None` when it wrote a number that the contract does not know.
    #[must_use]
    pub fn state(&self) -> Option<GuestState> {
        // Pairs with the guest's release: what it published before is visible.
        Some(match self.header().state.load(Ordering::Acquire) {
            0 => GuestState::Booting,
            1 => GuestState::Running,
            2 => GuestState::Done,
            3 => GuestState::Failed,
            4 => GuestState::RefusedCpl,
            5 => GuestState::TooLittleMemory,
            _ => return None,
        })
    }

    /// The page map, one byte a guest frame.
    #[must_use]
    pub fn page_map(&self) -> &[AtomicU8] {
        // SAFETY: `Layout` puts `frames` bytes at `page_map`, within the mapped region; AtomicU8
        // has no alignment and any byte is valid.
        unsafe {
            let first = self.base.as_ptr().add(self.layout.page_map);
            std::slice::from_raw_parts(first.cast(), self.frames as usize)
        }
    }

    /// What the guest says of frame `gfn`; `None` past the end of the map.
    #[must_use]
    pub fn page_byte(&self, gfn: u64) -> Option<PageByte> {
        let byte = self.page_map().get(usize::try_from(gfn).ok()?)?;
        Some(PageByte(byte.load(Ordering::Relaxed)))
    }

    /// vCPU `index`'s area.
    ///
    /// # Panics
    /// If there is no such vCPU.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> &VcpuArea {
        assert!(index < self.cpus, "vCPU {index} of {}", self.cpus);
        // SAFETY: `Layout` puts `cpus` areas at `vcpus`, page-aligned like the region and the
        // type, within the mapped region; an area is atomics throughout, valid for any bits.
        unsafe {
            let first: *const VcpuArea = self.base.as_ptr().add(self.layout.vcpus).cast();
            &*first.add(index as usize)
        }
    }

    /// What the guest's own mover says.
    #[must_use]
    pub fn mover(&self) -> &MoverArea {
        // SAFETY: `Layout` puts the area there, page-aligned like the region and the type, within the
        // mapped region; it is atomics throughout, valid for any bits.
        unsafe { &*self.base.as_ptr().add(self.layout.mover).cast() }
    }

    /// Takes every window of the guest's own mover that is ready, one ring at most. One caller at a time.
    pub fn drain_windows(&self, each: impl FnMut(WindowRecord)) {
        let ready = std::iter::from_fn(|| self.mover().windows.pop());
        ready.take(underfoot_abi::STALL_RING).for_each(each);
    }

    /// As [`Self::drain_windows`], every sample of what waits for grace periods.
    pub fn drain_backlog(&self, each: impl FnMut(BacklogSample)) {
        let ready = std::iter::from_fn(|| self.header().backlog.pop());
        ready.take(underfoot_abi::BACKLOG_RING).for_each(each);
    }

    /// Takes every stall record that is ready, vCPU by vCPU, and returns how many there were.
    ///
    /// One caller at a time: the ring has one reader. A guest that keeps writing cannot hold the
    /// caller here: at most one whole ring is taken per vCPU.
    pub fn drain_stalls(&self, mut each: impl FnMut(u32, StallRecord)) -> usize {
        let mut taken = 0;
        for index in 0..self.cpus {
            let ring = &self.vcpu(index).stalls;
            for record in std::iter::from_fn(|| ring.pop()).take(underfoot_abi::STALL_RING) {
                each(index, record);
                taken += 1;
            }
        }
        taken
    }

    /// Takes every record of an interrupt that is ready, vCPU by vCPU, under the terms of
    /// [`Self::drain_stalls`].
    pub fn drain_interrupts(&self, mut each: impl FnMut(u32, InterruptRecord)) {
        for index in 0..self.cpus {
            let ring = &self.vcpu(index).interrupts;
            let ready = std::iter::from_fn(|| ring.pop());
            let ready = ready.take(underfoot_abi::INTERRUPT_RING);
            ready.for_each(|record| each(index, record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Backing, MemorySize};
    use underfoot_abi::{FIRST_REPORTS, PageKind};
    use vm_memory::Bytes;

    fn region(cpus: u32) -> (GuestRam, SharedRegion) {
        let size = MemorySize::new(16 << 20, 16 << 20).unwrap();
        let ram = GuestRam::new(size, cpus, Backing::Small).unwrap();
        let shared = SharedRegion::new(&ram);
        (ram, shared)
    }

    #[test]
    fn the_guest_finds_what_the_host_wrote() {
        let (ram, mut shared) = region(2);
        shared.init(&HeaderInit {
            seed: 7,
            tsc_khz: 2_600_000,
            cpl: Cpl::Three,
            workload: WorkloadId::Walk,
            variant: Variant::NoLock,
            stall_threshold_ns: 2000,
            probe_period_ns: 50_000,
            parameters: [0; underfoot_abi::MAX_PARAMETERS],
            mover: MoverInit {
                mover: Mover::Guest,
                targets: PageKind::Slab.bit(),
                rate: 7,
            },
        });
        let read32 = |offset| -> u32 {
            ram.memory()
                .read_obj(GuestAddress(shared.gpa() + offset as u64))
                .unwrap()
        };
        assert_eq!(read32(std::mem::offset_of!(Header, version)), VERSION);
        assert_eq!(read32(std::mem::offset_of!(Header, cpus)), 2);
        assert_eq!(read32(std::mem::offset_of!(Header, tsc_khz)), 2_600_000);
        assert_eq!(read32(std::mem::offset_of!(Header, cpl)), 3);
        assert_eq!(
            read32(std::mem::offset_of!(Header, variant)),
            Variant::NoLock as u32
        );
        assert_eq!(read32(std::mem::offset_of!(Header, mover)), 1);
        let targets = read32(std::mem::offset_of!(Header, mover_targets));
        assert_eq!(targets, 1 << PageKind::Slab as u8);
        assert_eq!(read32(std::mem::offset_of!(Header, mover_rate)), 7);
        assert_eq!(shared.state(), Some(GuestState::Booting));
        assert_eq!(shared.message(), "");
        assert_eq!(shared.reports(), []);
    }

    #[test]
    fn a_guest_that_scribbles_does_no_harm() {
        let (ram, shared) = region(1);
        let ones = vec![0xff; shared.size()];
        ram.memory()
            .write_slice(&ones, GuestAddress(shared.gpa()))
            .unwrap();
        assert_eq!(shared.state(), None);
        assert_eq!(shared.message().chars().count(), 512);
        let reports = shared.reports();
        assert_eq!(reports.len(), FIRST_REPORTS * ReportKind::ALL.len());
        let last = reports.last().unwrap();
        assert_eq!((last.number, last.kind), (u32::MAX, Err(u32::MAX)));
        assert_eq!(shared.reports_by_kind()["lock-cycle"], u32::MAX);
        assert_eq!(last.text.chars().count(), underfoot_abi::REPORT_TEXT);
        assert_eq!(shared.page_byte(0).unwrap().kind(), PageKind::Reserved);
        assert_eq!(shared.drain_stalls(|_, _| ()), 0);
        shared.drain_windows(|window| panic!("{window:?}"));
    }

    #[test]
    fn stalls_are_drained_once_and_in_order() {
        let (_ram, shared) = region(2);
        for start_tsc in 1..=3 {
            shared.vcpu(1).stalls.push(StallRecord {
                start_tsc,
                ..Default::default()
            });
        }
        let mut seen = Vec::new();
        assert_eq!(
            shared.drain_stalls(|cpu, record| seen.push((cpu, record.start_tsc))),
            3
        );
        assert_eq!(seen, [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(shared.drain_stalls(|_, _| ()), 0);
    }
}
