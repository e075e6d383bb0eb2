//! Files that reports go to, of which only reports are replaced.

use super::command::ReportError;
use super::{page, table, text, trace};
use crate::atomic_file::AtomicFile;
use crate::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Each form of a report holds one of these.
const MARKERS: [&str; 7] = [
    page::MARKER,
    text::MARKER,
    table::CSV_HEADING,
    table::REPORT_SCHEMA,
    trace::MARKER,
    crate::sweep::CSV_COUNTS,
    crate::sweep::SWEEP_SCHEMA,
];
/// More than any report: what is larger is none.
const MOST_BYTES: u64 = 64 << 20;

/// A place at `path` for a report; what is there already must be one, unless `force`.
///
/// # Errors
/// [`ReportError::NotAReport`], or [`Error::Results`] where nothing can be written.
pub(super) fn prepare(path: &Path, force: bool) -> Result<AtomicFile, Error> {
    if path.is_file() && !force && !is_report(path) {
        let path = path.to_owned();
        return Err(ReportError::NotAReport { path }.into());
    }
    AtomicFile::prepare(path).map_err(|source| Error::Results {
        flag: "--out",
        source,
    })
}

/// Whether a report may take the place of what is there: an empty file is nobody's loss.
fn is_report(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    read.is_ok() && (text.is_empty() || MARKERS.iter().any(|marker| text.contains(marker)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;
    use crate::error::chain;

    #[test]
    fn only_reports_are_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report.html");
        let run = [stored()];
        for (contents, is_replaced) in [
            (page::page(&run), true),
            (text::text(&run), true),
            (table::csv(&run), true),
            (table::to_json(&run), true),
            (String::new(), true),
            ("my thesis".to_owned(), false),
        ] {
            std::fs::write(&path, &contents).expect("room");
            let prepared = prepare(&path, false);
            assert_eq!(prepared.is_ok(), is_replaced, "{contents:.40}");
            if let Err(error) = prepared {
                assert!(chain(&error).contains("--force"), "{}", chain(&error));
            }
            prepare(&path, true).expect("by force");
            assert_eq!(
                std::fs::read_to_string(&path).expect("still there"),
                contents
            );
        }
    }
}
