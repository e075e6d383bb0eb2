//! What a killed process left hidden beside its results, and how the next one tells that nobody
//! needs it any more: whoever does holds a lock on it (`flock(2)`), which ends with its process.

use std::fs::{DirEntry, File};
use std::path::Path;
use std::time::Duration;

/// How the names of temporary files and directories begin.
pub(crate) const PREFIX: &str = ".underfoot-";

/// Random letters behind [`PREFIX`].
pub(crate) const RANDOM: usize = 6;

/// Longer than anybody takes from making a temporary file to locking it.
const YOUNG: Duration = Duration::from_secs(60);

/// Locks the temporary file or directory `path` for as long as the result lives. `None` where the
/// file system has no locks; then nobody else gets one either, and it stays.
#[must_use]
pub(crate) fn hold(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}

/// Removes the temporary files and directories in `directory` that nobody holds. What cannot be
/// removed stays: this is a courtesy.
pub(crate) fn sweep(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        if is_ours(&entry) && is_old(&entry) {
            // Held while it is removed, so that two sweepers do not meet in it.
            let Some(_lock) = hold(&entry.path()) else {
                continue;
            };
            let path = entry.path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let named = random.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    // Not through a link: what lies behind it is not ours.
    let plain = entry.file_type();
    named && plain.is_ok_and(|kind| kind.is_dir() || kind.is_file())
}

fn is_old(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > YOUNG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn age(path: &Path, age: Duration) {
        let file = File::open(path).expect("it is there");
        file.set_modified(SystemTime::now() - age).expect("ours");
    }

    #[test]
    fn only_what_is_ours_old_and_held_by_nobody_goes() {
        let base = tempfile::tempdir().expect("a directory");
        let at = |name: &str| base.path().join(name);
        let (old, young) = (YOUNG * 2, Duration::ZERO);
        let mut held = None;
        for (name, is_directory, since) in [
            (".underfoot-aaaaaa", true, old),
            (".underfoot-bbbbbb", false, old),
            (".underfoot-cccccc", true, young),
            (".underfoot-dddddd", true, old),
            (".underfoot-notes1", false, young),
            (".underfoot-notes", true, old),
            ("underfoot", true, old),
        ] {
            if is_directory {
                std::fs::create_dir(at(name)).expect("room");
                std::fs::write(at(name).join("console.log"), "x").expect("room");
            } else {
                std::fs::write(at(name), "x").expect("room");
            }
            age(&at(name), since);
            if name.ends_with("dddddd") {
                held = hold(&at(name));
            }
        }
        std::os::unix::fs::symlink(at("underfoot"), at(".underfoot-eeeeee")).expect("room");
        assert!(held.is_some());
        sweep(base.path());
        let entries = base.path().read_dir().expect("readable");
        let mut left: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ".underfoot-cccccc",
                ".underfoot-dddddd",
                ".underfoot-eeeeee",
                ".underfoot-notes",
                ".underfoot-notes1",
                "underfoot",
            ]
        );
        drop(held);
        sweep(base.path());
        assert!(!at(".underfoot-dddddd").exists(), "its process has ended");
    }
}
