//! The longest stalls of a run, each whole, as its directory tells them.

use super::STALLS_JSONL;
use super::read::{ReadError, parse, read_text};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One stall.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StoredStall {
    /// `control` or `moving`.
    pub phase: String,
    /// Who stalled.
    pub vcpu: u32,
    /// When, in ns from the beginning of the control phase.
    pub start_ns: u64,
    /// For how long.
    pub stall_ns: u64,
    /// What was accessed.
    pub gva: u64,
    /// The kind of the page; `None` where nobody knows.
    pub kind: Option<String>,
    /// Nested read sections of RCU in which it was.
    #[serde(default)]
    pub rcu_depth: u32,
    /// Spinlocks that it held.
    #[serde(default)]
    pub locks: u32,
    /// Whether interrupts were masked.
    #[serde(default)]
    pub masked: bool,
    /// Whether it was in an interrupt.
    #[serde(default)]
    pub in_interrupt: bool,
    /// What it was made of, in ns.
    pub causes: BTreeMap<String, u64>,
    /// The same in the order of time: cause, and when it began, in ns from the begin of the stall.
    #[serde(default)]
    pieces: Vec<(String, u64)>,
}

impl StoredStall {
    /// What most of it was.
    #[must_use]
    pub fn main_cause(&self) -> &str {
        let causes = self.causes.iter().max_by_key(|(_, ns)| **ns);
        causes.map_or("", |(name, _)| name)
    }

    /// What it was made of in the order of time: cause, begin from that of the stall, length, both in ns.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let ends = self.pieces.iter().skip(1).map(|(_, from_ns)| *from_ns);
        let ends = ends.chain([self.stall_ns]);
        let pieces = self.pieces.iter().zip(ends);
        pieces.map(|((cause, from_ns), end_ns)| {
            (cause.as_str(), *from_ns, end_ns.saturating_sub(*from_ns))
        })
    }
}

/// The stalls that the directory `path` tells, the longest of each phase first; none where it has no such file.
pub(super) fn read(path: &Path) -> Result<Vec<StoredStall>, ReadError> {
    let file = path.join(STALLS_JSONL);
    // Whoever copied only the JSON has a report too.
    if !path.is_dir() || file.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let text = read_text(&file)?;
    let lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines
        .map(|(number, line)| match line.ends_with(b"\n") {
            true => {
                serde_json::from_value(parse(&file, line)?).map_err(|source| ReadError::Broken {
                    path: file.clone(),
                    source,
                })
            }
            false => Err(ReadError::Truncated {
                path: file.clone(),
                line: number + 1,
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    const LINE: &str = r#"{"phase":"moving","vcpu":1,"start_ns":5,"stall_ns":9,"gva":4096,"kind":"slab","causes":{"window":8,"unexplained":1}}"#;

    fn written(text: &str) -> (tempfile::TempDir, Result<Vec<StoredStall>, ReadError>) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(STALLS_JSONL), text).expect("room");
        let read = read(directory.path());
        (directory, read)
    }

    #[test]
    fn each_line_is_a_stall() {
        let (_directory, stalls) = written(&format!("{LINE}\n{LINE}\n"));
        let stalls = stalls.expect("two");
        assert_eq!(
            (stalls.len(), stalls[1].main_cause(), stalls[0].vcpu),
            (2, "window", 1)
        );
        let none = tempfile::tempdir().expect("a directory");
        assert_eq!(read(none.path()).expect("no such file").len(), 0);
    }

    #[test]
    fn a_file_that_is_cut_off_or_something_else_is_told() {
        for (text, part) in [
            (
                format!("{LINE}\n{}", &LINE[..20]),
                "is cut off after line 2",
            ),
            (format!("{}\n", &LINE[..20]), "no JSON"),
            ("hello\n".to_owned(), "no JSON"),
            ("{}\n".to_owned(), "missing field"),
        ] {
            let (_directory, stalls) = written(&text);
            let message = chain(&stalls.expect_err(part));
            assert!(
                message.contains(part) && message.contains(STALLS_JSONL),
                "{message}"
            );
        }
    }
}
