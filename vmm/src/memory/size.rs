//! How much guest memory there is, and where it lies.

use super::MemoryError;
use crate::sys;
use std::sync::Arc;
use underfoot_abi::PAGE_SIZE;
use vm_memory::{FileOffset, GuestAddress};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where RAM stops below 4 GiB: what lies above holds the local APICs and KVM's own pages.
const LOW_RAM_END: u64 = 3 * GIB;
const HIGH_RAM_START: u64 = 4 * GIB;

/// A size of guest memory that can work: at least 16 MiB, a multiple of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least size, in bytes.
    pub const MIN: u64 = 16 * MIB;
    /// Every size is a multiple of this, in bytes.
    pub const ALIGN: u64 = 2 * MIB;

    /// `bytes` as a size of guest memory on a host that has `available` bytes to give.
    ///
    /// # Errors
    /// [`MemoryError::TooSmall`], [`MemoryError::Unaligned`] or [`MemoryError::TooLarge`].
    pub fn new(bytes: u64, available: u64) -> Result<Self, MemoryError> {
        if bytes < Self::MIN {
            Err(MemoryError::TooSmall { bytes })
        } else if !bytes.is_multiple_of(Self::ALIGN) {
            Err(MemoryError::Unaligned { bytes })
        } else if bytes > available {
            Err(MemoryError::TooLarge { bytes, available })
        } else {
            Ok(Self(bytes))
        }
    }

    /// A number of bytes from text such as `64MiB`, `64M`, `2G` or `16777216`; units are binary.
    ///
    /// # Errors
    /// [`MemoryError::Syntax`].
    pub fn parse_bytes(text: &str) -> Result<u64, MemoryError> {
        let syntax = || MemoryError::Syntax(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| syntax())?;
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => return Err(syntax()),
        };
        number.checked_mul(1 << shift).ok_or_else(syntax)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Guest frames from GPA 0 to the end of RAM, the hole below 4 GiB included.
    #[must_use]
    pub const fn frames(self) -> u64 {
        let end = if self.0 <= LOW_RAM_END {
            self.0
        } else {
            HIGH_RAM_START + self.0 - LOW_RAM_END
        };
        end / PAGE_SIZE as u64
    }

    pub(super) const fn low_end(self) -> u64 {
        if self.0 < LOW_RAM_END {
            self.0
        } else {
            LOW_RAM_END
        }
    }

    /// The ranges of RAM, one after the other in a file that was made for them.
    pub(super) fn ranges_of_file(
        self,
    ) -> Result<Vec<(GuestAddress, usize, Option<FileOffset>)>, MemoryError> {
        let file = sys::memfd(c"underfoot-guest", self.0).map_err(|source| MemoryError::File {
            bytes: self.0,
            source,
        })?;
        let file = Arc::new(file);
        let mut start = 0;
        Ok(self
            .ranges()
            .into_iter()
            .map(|(gpa, len)| {
                let offset = FileOffset::from_arc(Arc::clone(&file), start);
                start += len as u64;
                (gpa, len, Some(offset))
            })
            .collect())
    }

    pub(super) fn ranges(self) -> Vec<(GuestAddress, usize)> {
        let low = self.low_end();
        let mut ranges = vec![(GuestAddress(0), low as usize)];
        if self.0 > low {
            ranges.push((GuestAddress(HIGH_RAM_START), (self.0 - low) as usize));
        }
        ranges
    }
}

impl std::fmt::Display for MemorySize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}MiB", self.0 / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let available = 24 * GIB;
        for (bytes, good) in [
            (0, false),
            (2 * MIB, false),
            (16 * MIB - 1, false),
            (16 * MIB, true),
            (17 * MIB, false),
            (18 * MIB, true),
            (64 * MIB, true),
            (8 * GIB, true),
            (available, true),
            (available + 2 * MIB, false),
            (u64::MAX, false),
        ] {
            assert_eq!(MemorySize::new(bytes, available).is_ok(), good, "{bytes}");
        }
    }

    #[test]
    fn messages_name_value_bound_and_remedy() {
        let message = |bytes| MemorySize::new(bytes, GIB).unwrap_err().to_string();
        assert_eq!(
            message(MIB),
            "memory size 1048576 bytes is below the least of 16 MiB: ask for 16MiB or more"
        );
        assert!(message(33 * MIB).ends_with("the nearest below is 32 MiB"));
        assert!(message(2 * GIB).contains("2048 MiB is more than the 1024 MiB"));
    }

    #[test]
    fn text_is_parsed() {
        for (text, bytes) in [
            ("64MiB", Some(64 * MIB)),
            ("64m", Some(64 * MIB)),
            (" 2 GiB ", Some(2 * GIB)),
            ("16777216", Some(16 * MIB)),
            ("", None),
            ("MiB", None),
            ("-1M", None),
            ("64MB", None),
            ("99999999999G", None),
        ] {
            assert_eq!(MemorySize::parse_bytes(text).ok(), bytes, "{text}");
        }
    }
}
