//! What a guest frame holds, as the guest publishes it.

/// Fills frames that the guest's own mover has left.
pub const POISON_LIMBO: u64 = 0x11b0_f4ee_3a5e_11b0;
/// Fills freed pages.
pub const POISON_PAGE: u64 = 0xaaaa_f4ee_9a6e_aaaa;
/// Fills freed slab objects.
pub const POISON_OBJECT: u64 = 0x6b6b_f4ee_0b7e_6b6b;

/// What lies in one guest frame. The discriminants are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PageKind {
    /// No RAM, firmware scratch or the shared region: never migrated.
    Reserved = 0,
    /// Kernel code, that of the trap layer too.
    Text = 1,
    /// Constants.
    Rodata = 2,
    /// Initialised and zeroed static data.
    Data = 3,
    /// Kernel stacks.
    Stack = 4,
    /// Slab objects.
    Slab = 5,
    /// Page-table pages.
    PageTable = 6,
    /// Per-CPU data, the trap layer's header and stacks too.
    PerCpu = 7,
    /// GDT, IDT and TSS.
    Descriptor = 8,
    /// On the page allocator's free lists.
    Free = 9,
    /// Part of a region that the guest maps by 2 MiB entries.
    Large = 10,
}

impl PageKind {
    /// How many there are, [`Self::Reserved`] too: discriminants are below this.
    pub const COUNT: usize = 11;

    /// Every kind that can be a target of migration, in the order in which reports name them.
    pub const TARGETS: [Self; 10] = [
        Self::Text,
        Self::Rodata,
        Self::Data,
        Self::Stack,
        Self::Slab,
        Self::PageTable,
        Self::PerCpu,
        Self::Descriptor,
        Self::Free,
        Self::Large,
    ];

    /// Its bit in a set of kinds.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kind with this discriminant.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Reserved,
            1 => Self::Text,
            2 => Self::Rodata,
            3 => Self::Data,
            4 => Self::Stack,
            5 => Self::Slab,
            6 => Self::PageTable,
            7 => Self::PerCpu,
            8 => Self::Descriptor,
            9 => Self::Free,
            10 => Self::Large,
            _ => return None,
        })
    }

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Slab => "slab",
            Self::PageTable => "page-table",
            Self::PerCpu => "percpu",
            Self::Descriptor => "descriptor",
            Self::Free => "free",
            Self::Large => "large",
        }
    }
}

/// One byte of the page map: the kind, and whether the hypervisor itself reaches the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageByte(pub u8);

impl PageByte {
    /// The hypervisor touches the page on the guest's behalf (descriptor tables, page tables under
    /// shadow paging, what ring 0 uses where ring 0 is emulated): it must wait by sleeping.
    pub const HYPERVISOR: u8 = 0x80;

    /// Packs `kind` and the flag.
    #[must_use]
    pub const fn new(kind: PageKind, hypervisor: bool) -> Self {
        Self(kind as u8 | if hypervisor { Self::HYPERVISOR } else { 0 })
    }

    /// The kind; an unknown byte counts as [`PageKind::Reserved`], which nobody migrates.
    #[must_use]
    pub const fn kind(self) -> PageKind {
        match PageKind::from_u8(self.0 & !Self::HYPERVISOR) {
            Some(kind) => kind,
            None => PageKind::Reserved,
        }
    }

    /// Whether the hypervisor itself reaches the page.
    #[must_use]
    pub const fn hypervisor(self) -> bool {
        self.0 & Self::HYPERVISOR != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        for kind in PageKind::TARGETS {
            for flag in [false, true] {
                let byte = PageByte::new(kind, flag);
                assert_eq!((byte.kind(), byte.hypervisor()), (kind, flag));
            }
        }
        assert_eq!(PageByte(0x7f).kind(), PageKind::Reserved);
        assert_eq!(PageKind::from_u8(PageKind::COUNT as u8), None);
        assert!(PageKind::from_u8(PageKind::COUNT as u8 - 1).is_some());
    }
}
