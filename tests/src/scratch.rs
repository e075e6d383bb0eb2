//! A directory of one's own, where everything that a run leaves behind is seen.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary directory with a working directory and a directory for temporary files in it.
pub struct Scratch(TempDir);

impl Scratch {
    /// A fresh one.
    ///
    /// # Panics
    ///
    /// If it cannot be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it creates a directory")]
    pub fn new() -> Self {
        let scratch = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::create_dir(scratch.work()).expect("a fresh directory");
        fs::create_dir(scratch.temporary()).expect("a fresh directory");
        scratch
    }

    /// The directory itself, for what the test writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `name` in the directory.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The working directory of commands.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.join("work")
    }

    /// Their `TMPDIR`.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.join("tmp")
    }

    /// Checks that a command left no file in its working directory, nor a temporary one, hidden
    /// ones included.
    ///
    /// # Panics
    ///
    /// If there is one.
    pub fn assert_untouched(&self) {
        for directory in [self.work(), self.temporary()] {
            let left = names(&directory);
            assert!(left.is_empty(), "left in {}: {left:?}", directory.display());
        }
    }
}

/// What lies in `directory`.
fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect()
}
