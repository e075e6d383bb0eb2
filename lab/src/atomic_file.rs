//! Files that are there as a whole or not at all.

use crate::leftovers;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The place exists.
    #[error("{} exists: name a place that does not, or remove it", .path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A file was to be written where a directory is.
    #[error("{} is a directory: name a file", .path.display())]
    IsDirectory {
        /// Where.
        path: PathBuf,
    },
    /// There is no directory to put it into.
    #[error("{} does not exist or is no directory: make it first", .path.display())]
    NoParent {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing can be made there.
    #[error("cannot make {}: choose a directory that you may write to", .path.display())]
    NotWritable {
        /// What was to be made.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system is full, or a quota or limit is reached.
    #[error("no room for {}: free some space, or write to another file system", .path.display())]
    NoRoom {
        /// What was written.
        path: PathBuf,
        /// Which limit.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {}", .path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WriteError {
    /// What `source` means for `path`.
    #[must_use]
    pub fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoRoom { path, source },
            _ => Self::Write { path, source },
        }
    }

    /// `path` could not be made beforehand. Temporary names that `source` carries mean nothing to
    /// the user, so that only what the system said is kept.
    pub(crate) fn not_writable(path: &Path, source: io::Error) -> Self {
        let system = source
            .get_ref()
            .and_then(|inner| inner.source())
            .and_then(|inner| inner.downcast_ref::<io::Error>())
            .and_then(io::Error::raw_os_error)
            .map(io::Error::from_raw_os_error);
        let path = path.to_owned();
        match system.unwrap_or(source) {
            source if source.kind() == io::ErrorKind::StorageFull => Self::NoRoom { path, source },
            source => Self::NotWritable { path, source },
        }
    }

    /// Whether the user named a place that cannot be used, before anything was run.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Exists { .. }
            | Self::IsDirectory { .. }
            | Self::NoParent { .. }
            | Self::NotWritable { .. } => true,
            Self::NoRoom { .. } | Self::Write { .. } => false,
        }
    }
}

/// The directory in which `path` is to be made.
///
/// # Errors
/// [`WriteError::NoParent`].
pub(crate) fn parent_of(path: &Path) -> Result<&Path, WriteError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    if parent.is_dir() {
        return Ok(parent);
    }
    Err(WriteError::NoParent {
        path: parent.to_owned(),
    })
}

/// Writes the whole of `bytes` to `file` and waits until they are on the disk: only then is it
/// known that there was room.
pub(crate) fn write_synced(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    match file.sync_all() {
        // fsync(2): the file is a pipe or a device without synchronisation.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// A place for one file, made sure of before the run, filled after it.
///
/// Where `path` is or will be a regular file, readers see the old file or the new one and never
/// half of one; whatever else it is (a pipe, a device) is written to as it is.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// `None` where `path` exists and is no regular file.
    temporary: Option<tempfile::NamedTempFile>,
}

impl AtomicFile {
    /// Makes sure that `path` can be written. Nothing is left if it is dropped.
    ///
    /// # Errors
    /// [`WriteError`] with [`WriteError::is_usage`].
    pub fn prepare(path: &Path) -> Result<Self, WriteError> {
        if path.exists() && !path.is_file() {
            if path.is_dir() {
                return Err(WriteError::IsDirectory {
                    path: path.to_owned(),
                });
            }
            return Ok(Self {
                path: path.to_owned(),
                temporary: None,
            });
        }
        let parent = parent_of(path)?;
        leftovers::sweep(parent);
        let temporary = tempfile::Builder::new()
            .prefix(leftovers::PREFIX)
            .rand_bytes(leftovers::RANDOM)
            .permissions(default_permissions())
            .tempfile_in(parent)
            .map_err(|source| WriteError::not_writable(path, source))?;
        // As `leftovers::hold`: where there are no locks, nobody else gets one either.
        let _ = temporary.as_file().try_lock();
        Ok(Self {
            path: path.to_owned(),
            temporary: Some(temporary),
        })
    }

    /// Writes `bytes` and puts them in place.
    ///
    /// # Errors
    /// [`WriteError::NoRoom`] or [`WriteError::Write`]; then nothing is left.
    pub fn commit(self, bytes: &[u8]) -> Result<(), WriteError> {
        let failed = |source| WriteError::new(&self.path, source);
        let Some(mut temporary) = self.temporary else {
            let mut file = File::options()
                .write(true)
                .open(&self.path)
                .map_err(failed)?;
            return write_synced(&mut file, bytes).map_err(failed);
        };
        write_synced(temporary.as_file_mut(), bytes).map_err(failed)?;
        temporary
            .persist(&self.path)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// What an ordinary file gets before the umask is applied; temporary files are private otherwise.
fn default_permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run.json");
        for contents in ["old", "newer"] {
            let file = AtomicFile::prepare(&path).expect("a place");
            file.commit(contents.as_bytes()).expect("room");
            assert_eq!(std::fs::read_to_string(&path).expect("the file"), contents);
        }
        drop(AtomicFile::prepare(&path).expect("a place"));
        assert_eq!(directory.path().read_dir().expect("readable").count(), 1);
    }

    #[test]
    fn devices_are_written_not_replaced() {
        let null = Path::new("/dev/null");
        AtomicFile::prepare(null)
            .and_then(|file| file.commit(b"x"))
            .expect("it takes everything");
        assert!(!null.is_file() && null.exists());
        let full = AtomicFile::prepare(Path::new("/dev/full")).expect("it is there");
        let error = full.commit(b"x").expect_err("it takes nothing");
        assert!(matches!(error, WriteError::NoRoom { .. }), "{error:?}");
        assert!(error.to_string().contains("free some space"), "{error}");
    }

    #[test]
    fn places_that_cannot_be_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = AtomicFile::prepare(directory.path()).expect_err("a directory");
        assert!(
            error.is_usage() && error.to_string().contains("is a directory"),
            "{error}"
        );
        let deep = directory.path().join("missing/run.json");
        let error = AtomicFile::prepare(&deep).expect_err("no parent");
        assert!(
            error.is_usage() && error.to_string().contains("make it first"),
            "{error}"
        );
        // /proc lets nobody make files, not even root.
        let error = AtomicFile::prepare(Path::new("/proc/run.json")).expect_err("read-only");
        assert!(
            error.is_usage() && error.to_string().contains("/proc"),
            "{error}"
        );
    }
}
