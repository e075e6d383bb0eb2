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
