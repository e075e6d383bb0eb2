//! What a PVH loader says: the memory map and the command line
//! (Xen's `hvm_start_info`, version 1, xen/include/public/arch-x86/hvm/start_info.h).

use core::ops::Range;
use core::ptr::with_exposed_provenance;
use underfoot_abi::CMDLINE_KEY;

const MAGIC: u32 = 0x336e_c578;
const TYPE_RAM: u32 = 1;
const CMDLINE_MAX: usize = 2048;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// The loader's word on this machine.
#[derive(Clone, Copy)]
pub struct LoaderInfo {
    map: &'static [MapEntry],
    command_line: &'static [u8],
}

impl LoaderInfo {
    /// Reads what lies at `address`. `None` if it is no start info of version 1 or later.
    ///
    /// # Safety
    /// `address` must be what a PVH loader passed in `ebx`, in mapped memory that nobody changes.
    pub unsafe fn read(address: usize) -> Option<Self> {
        // SAFETY: by the PVH contract the structure and what it points to are readable.
        let info = unsafe { with_exposed_provenance::<StartInfo>(address).as_ref()? };
        if info.magic != MAGIC || info.version == 0 {
            return None;
        }
        let entries = with_exposed_provenance::<MapEntry>(info.memory_map as usize);
        // SAFETY: as above.
        let map = unsafe { core::slice::from_raw_parts(entries, info.memory_map_entries as usize) };
        Some(Self {
            map,
            command_line: Self::read_command_line(info.command_line as usize),
        })
    }

    fn read_command_line(address: usize) -> &'static [u8] {
        if address == 0 {
            return &[];
        }
        let bytes = with_exposed_provenance::<u8>(address);
        // SAFETY: by the PVH contract a zero byte ends it; the bound is against a loader's mistake.
        unsafe {
            let length = (0..CMDLINE_MAX)
                .find(|&i| *bytes.add(i) == 0)
                .unwrap_or(CMDLINE_MAX);
            core::slice::from_raw_parts(bytes, length)
        }
    }

    /// RAM, as ranges of addresses, in the loader's order.
    pub fn ram(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        self.map
            .iter()
            .filter(|entry| entry.kind == TYPE_RAM)
            .map(|entry| entry.address as usize..(entry.address + entry.size) as usize)
    }

    /// Address of the shared region, if the command line names one.
    pub fn shared_region(&self) -> Option<usize> {
        let line = core::str::from_utf8(self.command_line).ok()?;
        let value = line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(CMDLINE_KEY))?;
        usize::from_str_radix(value.strip_prefix("0x")?, 16).ok()
    }
}
