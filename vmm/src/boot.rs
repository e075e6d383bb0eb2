//! PVH boot: the image, the start info and the state in which the first vCPU enters it.
//!
//! Source: the Xen project's "x86/HVM direct boot ABI (PVH)" and its `start_info.h`.

use crate::memory::GuestRam;
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use linux_loader::configurator::{BootConfigurator, BootParams, pvh::PvhBootConfigurator};
use linux_loader::loader::elf::{
    Elf, PvhBootCapability,
    start_info::{hvm_memmap_table_entry, hvm_start_info},
};
use linux_loader::loader::{KernelLoader, load_cmdline};
use std::io::Cursor;
use underfoot_abi::CMDLINE_KEY;
use vm_memory::{Address, GuestAddress};

// All below 1 MiB, and clear of 0x8000..0x9000, where a guest puts its real-mode trampoline.
const START_INFO: GuestAddress = GuestAddress(0x6000);
const MEMORY_MAP: GuestAddress = GuestAddress(0x6800);
const CMDLINE: GuestAddress = GuestAddress(0x7000);
const CMDLINE_CAPACITY: usize = 0x1000;

const START_MAGIC: u32 = 0x336e_c578;
const MAP_RAM: u32 = 1;
const MAP_RESERVED: u32 = 2;

/// The hole that PCs keep for video memory and option ROMs, reserved because guests expect it.
const LEGACY_HOLE: (u64, u64) = (0xa_0000, 0x10_0000);

const CR0_PE: u64 = 1;
const RFLAGS_RESERVED: u64 = 2;

/// Why an image cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The ELF file cannot be loaded.
    #[error(
        "the kernel image of {bytes} bytes cannot be loaded: it must be a 64-bit little-endian ELF file whose segments fit into guest memory"
    )]
    Load {
        /// Size of the image.
        bytes: usize,
        /// What the loader said.
        #[source]
        source: linux_loader::loader::Error,
    },
    /// There is no PVH note.
    #[error(
        "the kernel image has no PVH entry (an ELF note of type 18 by Xen): for Linux, build with CONFIG_PVH=y and use vmlinux"
    )]
    NoPvhEntry,
    /// The image reaches into the shared region.
    #[error(
        "the kernel image ends at {end:#x}, beyond the {limit:#x} up to which guest memory is free: give the guest more memory"
    )]
    TooLarge {
        /// First address after the image.
        end: u64,
        /// Where the shared region begins.
        limit: u64,
    },
    /// The command line is too long or contains a NUL.
    #[error("the kernel command line of {len} bytes cannot be used: at most {} bytes without a NUL", CMDLINE_CAPACITY - 1)]
    Cmdline {
        /// Its length.
        len: usize,
    },
    /// The start info could not be written.
    #[error("the boot information could not be written to guest memory")]
    StartInfo(#[source] linux_loader::configurator::Error),
}

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// An ELF file with a PVH note.
    pub image: &'a [u8],
    /// What follows `underfoot=0x…` on the command line; may be empty.
    pub cmdline: &'a str,
}

/// Where the first vCPU enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest physical address of the first instruction.
    pub rip: u64,
    /// Guest physical address of the start info.
    pub start_info: u64,
}

impl Boot<'_> {
    /// Loads the image and writes what it expects into `ram`.
    ///
    /// # Errors
    /// Any [`BootError`].
    pub fn load(&self, ram: &GuestRam) -> Result<Entry, BootError> {
        let memory = &**ram.memory();
        let mut image = Cursor::new(self.image);
        let loaded = Elf::load(memory, None, &mut image, None).map_err(|source| {
            let bytes = self.image.len();
            BootError::Load { bytes, source }
        })?;
        let PvhBootCapability::PvhEntryPresent(rip) = loaded.pvh_boot_cap else {
            return Err(BootError::NoPvhEntry);
        };
        let limit = ram.shared_gpa();
        if loaded.kernel_end > limit {
            return Err(BootError::TooLarge {
                end: loaded.kernel_end,
                limit,
            });
        }
        self.write_cmdline(ram)?;
        write_start_info(ram)?;
        Ok(Entry {
            rip: rip.raw_value(),
            start_info: START_INFO.raw_value(),
        })
    }

    fn write_cmdline(&self, ram: &GuestRam) -> Result<(), BootError> {
        let text = format!("{CMDLINE_KEY}{:#x} {}", ram.shared_gpa(), self.cmdline);
        let text = text.trim_end();
        let invalid = || BootError::Cmdline { len: text.len() };
        let mut cmdline =
            linux_loader::cmdline::Cmdline::new(CMDLINE_CAPACITY).map_err(|_| invalid())?;
        cmdline.insert_str(text).map_err(|_| invalid())?;
        load_cmdline(&**ram.memory(), CMDLINE, &cmdline).map_err(|_| invalid())
    }
}

fn entry(addr: u64, end: u64, type_: u32) -> hvm_memmap_table_entry {
    hvm_memmap_table_entry {
        addr,
        size: end - addr,
        type_,
        reserved: 0,
    }
}

fn memory_map(ram: &GuestRam) -> Vec<hvm_memmap_table_entry> {
    let shared = ram.shared_gpa();
    let mut map = vec![
        entry(0, LEGACY_HOLE.0, MAP_RAM),
        entry(LEGACY_HOLE.0, LEGACY_HOLE.1, MAP_RESERVED),
        entry(LEGACY_HOLE.1, shared, MAP_RAM),
        entry(shared, shared + ram.layout().size as u64, MAP_RESERVED),
    ];
    let above = ram.usable().into_iter().skip(1);
    map.extend(above.map(|(addr, len)| entry(addr, addr + len, MAP_RAM)));
    map
}

fn write_start_info(ram: &GuestRam) -> Result<(), BootError> {
    let map = memory_map(ram);
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        cmdline_paddr: CMDLINE.raw_value(),
        memmap_paddr: MEMORY_MAP.raw_value(),
        memmap_entries: u32::try_from(map.len()).expect("a handful of ranges"),
        ..Default::default()
    };
    let mut params = BootParams::new(&info, START_INFO);
    params.set_sections(&map, MEMORY_MAP);
    PvhBootConfigurator::write_bootparams(&params, &**ram.memory()).map_err(BootError::StartInfo)
}

/// A flat 32-bit segment with its descriptor's `type_`, as the ABI demands of CS and the others.
fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

impl Entry {
    /// The general registers at the entry: EBX holds the start info's address.
    pub(crate) fn registers(&self) -> kvm_regs {
        kvm_regs {
            rip: self.rip,
            rbx: self.start_info,
            rflags: RFLAGS_RESERVED,
            ..Default::default()
        }
    }

    /// Turns `reset`, a vCPU's special registers after reset, into 32-bit protected mode without
    /// paging.
    pub(crate) fn special_registers(mut reset: kvm_sregs) -> kvm_sregs {
        let data = flat_segment(0x10, 0x3);
        reset.cs = flat_segment(0x8, 0xb);
        (reset.ds, reset.es, reset.fs, reset.gs, reset.ss) = (data, data, data, data, data);
        reset.tr = kvm_segment {
            limit: 0x67,
            selector: 0x18,
            type_: 0xb,
            present: 1,
            ..Default::default()
        };
        reset.cr0 = CR0_PE;
        reset.cr4 = 0;
        reset.efer = 0;
        reset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Backing, MemorySize};

    #[test]
    fn the_map_covers_ram_once_and_reserves_the_shared_region() {
        let size = MemorySize::new(4 << 30, 8 << 30).unwrap();
        let ram = GuestRam::new(size, 4, Backing::Small).unwrap();
        let map = memory_map(&ram);
        for pair in map.windows(2) {
            assert!(pair[0].addr + pair[0].size <= pair[1].addr);
        }
        let total: u64 = map.iter().map(|entry| entry.size).sum();
        assert_eq!(total, size.bytes());
        let reserved: Vec<_> = map.iter().filter(|e| e.type_ == MAP_RESERVED).collect();
        assert_eq!(reserved[1].addr, ram.shared_gpa());
        assert_eq!(reserved[1].size, ram.layout().size as u64);
    }

    #[test]
    fn bad_images_and_command_lines_are_refused() {
        let ram = GuestRam::new(
            MemorySize::new(16 << 20, 1 << 30).unwrap(),
            1,
            Backing::Small,
        )
        .unwrap();
        let refusal = |image: &[u8]| Boot { image, cmdline: "" }.load(&ram).unwrap_err();
        assert!(matches!(refusal(b""), BootError::Load { bytes: 0, .. }));
        assert!(matches!(refusal(&[0x7f; 4096]), BootError::Load { .. }));
        let long = "x".repeat(CMDLINE_CAPACITY);
        let error = Boot {
            image: b"",
            cmdline: &long,
        }
        .write_cmdline(&ram)
        .unwrap_err();
        assert!(matches!(error, BootError::Cmdline { .. }));
    }
}
