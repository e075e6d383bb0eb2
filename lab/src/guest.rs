//! `underfoot guest`: the embedded guest, for other VMMs.

use crate::atomic_file::AtomicFile;
use crate::error::Error;
use crate::image::GUEST_IMAGE;
use std::path::Path;

/// Writes the guest's ELF to `path`.
///
/// # Errors
/// [`Error::Results`].
pub fn export(path: &Path) -> Result<(), Error> {
    AtomicFile::prepare(path)
        .and_then(|file| file.commit(GUEST_IMAGE))
        .map_err(|source| Error::Results {
            flag: "--export",
            source,
        })
}
