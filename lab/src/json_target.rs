//! Where `--json` goes.

use crate::atomic_file::AtomicFile;
use crate::error::Error;
use crate::output::print;
use std::path::Path;

const FLAG: &str = "--json";

/// A place for JSON, made sure of before it is known.
#[derive(Debug)]
pub enum JsonTarget {
    /// Standard output, alone: whatever else is for people goes to standard error.
    Stdout,
    /// A file, there as a whole or not at all.
    File(AtomicFile),
}

impl JsonTarget {
    /// Makes sure that `path` can be written; `-` is standard output.
    ///
    /// # Errors
    /// [`Error::Results`].
    pub fn prepare(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        AtomicFile::prepare(path)
            .map(Self::File)
            .map_err(|source| Error::Results { flag: FLAG, source })
    }

    /// Whether standard output is taken.
    #[must_use]
    pub const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Writes `text`.
    ///
    /// # Errors
    /// [`Error::Results`] or [`Error::Stdout`].
    pub fn commit(self, text: &str) -> Result<(), Error> {
        match self {
            Self::Stdout => print(text),
            Self::File(file) => file
                .commit(text.as_bytes())
                .map_err(|source| Error::Results { flag: FLAG, source }),
        }
    }
}
