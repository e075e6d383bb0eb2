//! KVM's binary statistics: counters per VM and per vCPU, without debugfs.
//!
//! Source: Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD.

use crate::sys;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bounds that no kernel comes near: a header beyond them is garbage.
const MAX_DESCRIPTORS: usize = 4096;
const MAX_NAME: usize = 256;
const MAX_VALUES: usize = 4096;

const HEADER_LEN: usize = 24;
const DESCRIPTOR_LEN: usize = 16;

/// Why statistics cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// KVM has none, or refused.
    #[error("KVM_GET_STATS_FD failed: KVM's binary statistics need Linux 5.14 or later")]
    Open(#[source] io::Error),
    /// Reading failed.
    #[error("KVM's statistics file cannot be read at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes make no sense.
    #[error("KVM's statistics are malformed: {what} is {value}, at most {max}")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: usize,
        /// What it may hold.
        max: usize,
    },
}

/// What a statistic counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// Only grows.
    Cumulative,
    /// Goes up and down.
    Instant,
    /// The most seen.
    Peak,
    /// A histogram; its values are buckets.
    Histogram,
    /// A kind that this program does not know.
    Other,
}

impl StatKind {
    /// From the low four bits of a descriptor's flags.
    const fn from_flags(flags: u32) -> Self {
        match flags & 0xf {
            0 => Self::Cumulative,
            1 => Self::Instant,
            2 => Self::Peak,
            3 | 4 => Self::Histogram,
            _ => Self::Other,
        }
    }
}

/// One statistic: its name, and where its values lie in the data block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Descriptor {
    name: String,
    kind: StatKind,
    offset: usize,
    values: usize,
}

/// Where the parts of the file lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    name_size: usize,
    descriptors: usize,
    descriptor_offset: usize,
    data_offset: usize,
}

fn bounded(what: &'static str, value: usize, max: usize) -> Result<usize, StatsError> {
    if value <= max {
        Ok(value)
    } else {
        Err(StatsError::Malformed { what, value, max })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

impl Header {
    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, StatsError> {
        let field = |at| word(bytes, at) as usize;
        let offset_max = i32::MAX as usize;
        Ok(Self {
            name_size: bounded("name_size", field(4), MAX_NAME)?,
            descriptors: bounded("num_desc", field(8), MAX_DESCRIPTORS)?,
            descriptor_offset: bounded("desc_offset", field(16), offset_max)?,
            data_offset: bounded("data_offset", field(20), offset_max)?,
        })
    }

    const fn descriptor_len(&self) -> usize {
        DESCRIPTOR_LEN + self.name_size
    }
}

impl Descriptor {
    /// One descriptor from exactly `Header::descriptor_len` bytes.
    fn parse(bytes: &[u8]) -> Result<Self, StatsError> {
        let (fixed, name) = bytes.split_at(DESCRIPTOR_LEN);
        let end = name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(name.len());
        let values = usize::from(u16::from_le_bytes([fixed[6], fixed[7]]));
        Ok(Self {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            kind: StatKind::from_flags(word(fixed, 0)),
            values: bounded("size", values, MAX_VALUES)?,
            offset: bounded("offset", word(fixed, 8) as usize, i32::MAX as usize)?,
        })
    }
}

fn parse_descriptors(header: &Header, bytes: &[u8]) -> Result<Vec<Descriptor>, StatsError> {
    bytes
        .chunks_exact(header.descriptor_len())
        .map(Descriptor::parse)
        .collect()
}

/// The statistics of one VM or vCPU.
#[derive(Debug)]
pub struct StatsFile {
    file: File,
    data_offset: u64,
    descriptors: Vec<Descriptor>,
}

/// Every value at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    values: BTreeMap<String, (StatKind, Vec<u64>)>,
}

impl StatsFile {
    /// Opens the statistics of `kvm`, a VM or a vCPU that has not run yet.
    ///
    /// # Errors
    /// Any [`StatsError`].
    pub fn open(kvm: &impl AsRawFd) -> Result<Self, StatsError> {
        Self::new(sys::kvm_stats_file(kvm).map_err(StatsError::Open)?)
    }

    fn new(file: File) -> Result<Self, StatsError> {
        let mut bytes = [0; HEADER_LEN];
        read(&file, &mut bytes, 0)?;
        let header = Header::parse(&bytes)?;
        let mut bytes = vec![0; header.descriptor_len() * header.descriptors];
        read(&file, &mut bytes, header.descriptor_offset as u64)?;
        let descriptors = parse_descriptors(&header, &bytes)?;
        Ok(Self {
            file,
            data_offset: header.data_offset as u64,
            descriptors,
        })
    }

    /// The first value called `name`, by a descriptor of its own; `None` if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<StatValue> {
        let mut descriptors = self.descriptors.iter();
        let descriptor = descriptors.find(|of| of.name == name && of.values > 0)?;
        Some(StatValue {
            file: self.file.try_clone().ok()?,
            offset: self.data_offset + descriptor.offset as u64,
        })
    }

    /// Reads every value. The kernel updates them meanwhile: they are not of one instant.
    ///
    /// # Errors
    /// [`StatsError::Read`].
    pub fn snapshot(&self) -> Result<Stats, StatsError> {
        let mut values = BTreeMap::new();
        for descriptor in &self.descriptors {
            let mut bytes = vec![0; descriptor.values * 8];
            read(
                &self.file,
                &mut bytes,
                self.data_offset + descriptor.offset as u64,
            )?;
            let (words, _) = bytes.as_chunks::<8>();
            let words = words.iter().map(|&word| u64::from_le_bytes(word)).collect();
            values.insert(descriptor.name.clone(), (descriptor.kind, words));
        }
        Ok(Stats { values })
    }
}

/// One value of a [`StatsFile`], to be read often.
#[derive(Debug)]
pub struct StatValue {
    file: File,
    offset: u64,
}

impl StatValue {
    /// The value now; `None` if the kernel refuses.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        read(&self.file, &mut bytes, self.offset).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

fn read(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), StatsError> {
    file.read_exact_at(bytes, offset)
        .map_err(|source| StatsError::Read { offset, source })
}

impl Stats {
    /// The value named `name`; of a histogram, the sum of its buckets. `None` when this KVM does
    /// not have it, which is not the same as 0.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        let (_, words) = self.values.get(name)?;
        Some(words.iter().fold(0, |sum, &word| sum.wrapping_add(word)))
    }

    /// Names, kinds and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, StatKind, &[u64])> {
        self.values
            .iter()
            .map(|(name, (kind, words))| (name.as_str(), *kind, words.as_slice()))
    }

    /// What changed since `before`: growth of what only grows, the present value of the rest.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut values = self.values.clone();
        for (name, (kind, words)) in &mut values {
            if !matches!(kind, StatKind::Cumulative | StatKind::Histogram) {
                continue;
            }
            if let Some((_, old)) = before.values.get(name) {
                words
                    .iter_mut()
                    .zip(old)
                    .for_each(|(new, old)| *new = new.wrapping_sub(*old));
            }
        }
        Self { values }
    }

    /// Adds `other`'s values to these: to sum over vCPUs.
    pub fn add(&mut self, other: &Self) {
        for (name, (kind, words)) in &other.values {
            let (_, mine) = self
                .values
                .entry(name.clone())
                .or_insert_with(|| (*kind, vec![0; words.len()]));
            mine.iter_mut()
                .zip(words)
                .for_each(|(mine, word)| *mine = mine.wrapping_add(*word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// Name, flags, offset and values of one statistic.
    type Stat<'a> = (&'a str, u32, u32, &'a [u64]);

    const NAME_SIZE: usize = 48;

    /// A file as KVM lays it out: header, id string, descriptors, data.
    fn file(stats: &[Stat<'_>]) -> Vec<u8> {
        let descriptor_offset = HEADER_LEN + NAME_SIZE;
        let data_offset = descriptor_offset + stats.len() * (DESCRIPTOR_LEN + NAME_SIZE);
        let mut bytes = Vec::new();
        let header = [
            0,
            NAME_SIZE,
            stats.len(),
            HEADER_LEN,
            descriptor_offset,
            data_offset,
        ];
        header
            .iter()
            .for_each(|&field| bytes.extend((field as u32).to_le_bytes()));
        let name = |text: &str| {
            let mut name = text.as_bytes().to_vec();
            name.resize(NAME_SIZE, 0);
            name
        };
        bytes.extend(name("kvm-1/vcpu-0"));
        for (text, flags, offset, values) in stats {
            bytes.extend(flags.to_le_bytes());
            bytes.extend(0_i16.to_le_bytes());
            bytes.extend((values.len() as u16).to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(name(text));
        }
        for (_, _, offset, values) in stats {
            bytes.resize(
                bytes
                    .len()
                    .max(data_offset + *offset as usize + values.len() * 8),
                0,
            );
            for (index, value) in values.iter().enumerate() {
                let at = data_offset + *offset as usize + index * 8;
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    fn open(bytes: &[u8]) -> Result<StatsFile, StatsError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        StatsFile::new(file)
    }

    fn snapshot(stats: &[Stat<'_>]) -> Stats {
        open(&file(stats)).unwrap().snapshot().unwrap()
    }

    #[test]
    fn values_are_found_by_name_wherever_they_lie() {
        let stats = snapshot(&[
            ("pf_taken", 0, 16, &[7]),
            ("pages_4k", 1, 0, &[9]),
            ("halt_wait_hist", 4, 24, &[1, 2, 3]),
            ("max_mmu_hash", 2, 8, &[u64::MAX]),
            ("from_the_future", 9, 48, &[5]),
        ]);
        assert_eq!(stats.get("pf_taken"), Some(7));
        assert_eq!(stats.get("pages_4k"), Some(9));
        assert_eq!(stats.get("halt_wait_hist"), Some(6));
        assert_eq!(stats.get("max_mmu_hash"), Some(u64::MAX));
        assert_eq!(stats.get("absent"), None);
        let kinds: Vec<_> = stats.iter().map(|(_, kind, _)| kind).collect();
        use StatKind::{Cumulative, Histogram, Instant, Other, Peak};
        assert_eq!(kinds, [Other, Histogram, Peak, Instant, Cumulative]);
    }

    #[test]
    fn only_what_grows_is_subtracted() {
        let before = snapshot(&[("a", 0, 0, &[5]), ("b", 1, 8, &[5]), ("h", 3, 16, &[1, 1])]);
        let after = snapshot(&[("a", 0, 0, &[9]), ("b", 1, 8, &[4]), ("h", 3, 16, &[1, 4])]);
        let mut since = after.since(&before);
        let get = |stats: &Stats| ["a", "b", "h"].map(|name| stats.get(name).unwrap());
        assert_eq!(get(&since), [4, 4, 3]);
        since.add(&before);
        assert_eq!(get(&since), [9, 9, 5]);
        let mut empty = Stats::default();
        empty.add(&before);
        assert_eq!(empty, before);
    }

    #[test]
    fn garbage_is_refused_by_name() {
        let mut bytes = file(&[("a", 0, 0, &[5])]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = open(&bytes).unwrap_err().to_string();
        assert_eq!(
            error,
            "KVM's statistics are malformed: num_desc is 4294967295, at most 4096"
        );
        assert!(matches!(
            open(b"short"),
            Err(StatsError::Read { offset: 0, .. })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(stats) = open(&bytes) {
                let _ = stats.snapshot();
            }
        }

        #[test]
        fn no_damage_makes_the_parser_panic(at in 0_usize..200, byte in any::<u8>()) {
            let mut bytes = file(&[("a", 0, 0, &[5]), ("b", 3, 8, &[1, 2])]);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(stats) = open(&bytes) {
                let _ = stats.snapshot();
            }
        }
    }
}
