//! Pools that cannot be had.

use std::io;

use crate::arena::ArenaError;
use crate::pagemap::Pagemap;
use crate::{BackendKind, PAGE_SIZE, PageSize};

/// Why there is no pool of frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Watermarks that are out of order.
    #[error(
        "watermarks reserve {reserve}, min {min}, low {low}, high {high}: each must be above the one before it, \
         and the first above 0"
    )]
    Watermarks {
        /// What only the slow path takes.
        reserve: u32,
        /// What the fast path leaves.
        min: u32,
        /// Where the refiller is woken.
        low: u32,
        /// Where it rests again.
        high: u32,
    },
    /// The fast path is never tried.
    #[error("0 tries of the fast path: each user goes through it; give at least 1")]
    Tries,
    /// Too few frames for what is to be done with them.
    #[error(
        "a pool of {size} frames: high watermark, limbo and two batches take {least}; give at least so many"
    )]
    TooSmall {
        /// What was asked for.
        size: u32,
        /// The least that will do.
        least: u32,
    },
    /// More than the engine numbers.
    #[error("a pool of {size} frames: it holds up to {most}; give fewer")]
    TooLarge {
        /// What was asked for.
        size: u32,
        /// The most that will do.
        most: u32,
    },
    /// More than the host has.
    #[error(
        "a pool of {size} frames takes {} MiB, and the host has {} MiB available; give at most {} frames",
        (u64::from(*.size) * PAGE_SIZE as u64) >> 20,
        .available >> 20,
        .available / PAGE_SIZE as u64
    )]
    Memory {
        /// What was asked for.
        size: u32,
        /// Bytes that are available.
        available: u64,
    },
    /// A backend that has its own supply.
    #[error(
        "the backend {backend} cannot take frames from the pool, which has anonymous memory; use move or copy"
    )]
    Backend {
        /// Which.
        backend: BackendKind,
    },
    /// Frames of another size.
    #[error(
        "pages of {page_size} cannot take frames from the pool, which has frames of 4KiB; use pages of 4KiB"
    )]
    PageSize {
        /// Which.
        page_size: PageSize,
    },
    /// No such node.
    #[error(
        "frames cannot be placed on NUMA node {node}; online are {online}: name one of those, or none"
    )]
    Node {
        /// Which.
        node: u32,
        /// Those that are online.
        online: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A broken form of the pool, and no pool.
    #[error(
        "the variant {variant} is one of the pool of frames, and there is none; ask for one by Builder::frames"
    )]
    NoPool {
        /// Which.
        variant: crate::Variant,
    },
    /// No memory or no descriptor.
    #[error("the pool's memory cannot be had")]
    Arena(#[from] ArenaError),
    /// Its bell.
    #[error("no descriptor is left to wake the refiller by")]
    Bell(#[source] io::Error),
}

/// To look at slots where the kernel's word is not enough.
pub(super) fn open_pagemap() -> Result<Pagemap, FrameError> {
    Pagemap::open(1).map_err(|error| FrameError::Arena(ArenaError::Pagemap(error)))
}
