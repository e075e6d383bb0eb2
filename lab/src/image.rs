//! The guest that is embedded in this program.

/// The guest kernel: an ELF with a PVH note, built along with this program.
pub const GUEST_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));

#[cfg(test)]
mod tests {
    use super::GUEST_IMAGE;

    #[test]
    fn is_an_elf_for_x86_64() {
        assert_eq!(&GUEST_IMAGE[..4], b"\x7fELF");
        // e_machine, EM_X86_64.
        assert_eq!(&GUEST_IMAGE[18..20], 62u16.to_le_bytes());
    }
}
