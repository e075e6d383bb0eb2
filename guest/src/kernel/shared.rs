//! Finding the region that the host shares, or making one where there is no such host.

use core::ops::Range;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::AtomicU8;
use underfoot_abi::{
    Cpl, Header, Layout, MAGIC, MAX_CPUS, MoverArea, PAGE_SIZE, VERSION, VcpuArea, WorkloadId,
};

/// What a standalone guest assumes of the TSC, which only scales what it prints.
const STANDALONE_TSC_KHZ: u32 = 1_000_000;
const STANDALONE_CPUS: u32 = 4;
const STANDALONE_SEED: u64 = 0x75_6e_64_65_72;

/// The shared region, split into its parts.
#[derive(Clone, Copy)]
pub struct Shared {
    pub header: &'static Header,
    /// One byte a frame.
    pub page_map: &'static [AtomicU8],
    pub areas: &'static [VcpuArea],
    pub mover: &'static MoverArea,
    /// Where it lies.
    pub range: (usize, usize),
    /// No host of ours: run the self-test and leave.
    pub standalone: bool,
}

impl Shared {
    /// The region that the host wrote at `address`.
    ///
    /// # Panics
    /// If it speaks another version, or of more CPUs than the contract carries.
    ///
    /// # Safety
    /// `address` must be mapped and hold a region for the guest's exclusive sharing with the host.
    pub unsafe fn from_host(address: usize) -> Self {
        // SAFETY: the header is a page of plain words, valid in any state.
        let header = unsafe { &*with_exposed_provenance::<Header>(address) };
        assert!(
            header.magic == MAGIC,
            "no shared region at {address:#x}: magic {:#x}",
            header.magic
        );
        assert!(
            header.version == VERSION,
            "the host speaks version {}, this guest {VERSION}",
            header.version
        );
        assert!(
            (1..=MAX_CPUS as u32).contains(&header.cpus),
            "{} CPUs, at most {MAX_CPUS}",
            header.cpus
        );
        // SAFETY: the host's layout is the same function of the header's fields.
        unsafe { Self::split(header, address, false) }
    }

    /// Makes a region at the top of `ram`, for `frames` frames, and says where it begins.
    ///
    /// # Panics
    /// If `ram` is too small.
    ///
    /// # Safety
    /// `ram` must be mapped, zeroed or not, and used by nobody.
    pub unsafe fn standalone(ram: Range<usize>, frames: u64) -> Self {
        let layout = Layout::new(frames, STANDALONE_CPUS);
        let address = (ram.end - layout.size) & !(PAGE_SIZE - 1);
        assert!(
            address > ram.start,
            "{ram:#x?} is too small for the self-test"
        );
        let bytes = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the range is ours by the caller's promise; a zeroed header is a valid one.
        let header = unsafe {
            bytes.write_bytes(0, layout.size);
            &mut *bytes.cast::<Header>()
        };
        header.magic = MAGIC;
        header.version = VERSION;
        header.cpus = STANDALONE_CPUS;
        header.frames = frames;
        header.seed = STANDALONE_SEED;
        header.tsc_khz = STANDALONE_TSC_KHZ;
        header.cpl = Cpl::Auto as u32;
        header.workload = WorkloadId::Walk as u32;
        header.stall_threshold_ns = 1_000_000;
        header.probe_period_ns = 1_000_000;
        // SAFETY: laid out just now.
        unsafe { Self::split(header, address, true) }
    }

    unsafe fn split(header: &'static Header, address: usize, standalone: bool) -> Self {
        let layout = Layout::new(header.frames, header.cpus);
        // SAFETY: the parts lie within the region by `Layout`; all of it is atomics.
        let (page_map, areas, mover) = unsafe {
            (
                core::slice::from_raw_parts(
                    with_exposed_provenance(address + layout.page_map),
                    header.frames as usize,
                ),
                core::slice::from_raw_parts(
                    with_exposed_provenance(address + layout.vcpus),
                    header.cpus as usize,
                ),
                &*with_exposed_provenance(address + layout.mover),
            )
        };
        Self {
            header,
            page_map,
            areas,
            mover,
            range: (address, address + layout.size),
            standalone,
        }
    }
}
