//! A sweep file, as far as it can be understood without a host.

use super::SweepError;
use super::axis::Axis;
use crate::names::{Named, hint};
use crate::settings::{ExperimentError, Key, Settings};
use crate::units::Seed;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The seed of a sweep that names none: shards on several hosts must agree.
const SEED: Seed = Seed(1);
/// The most times that each cell is run.
const MOST_REPEATS: i64 = 1_000;
const KEYS: [&str; 6] = ["base", "matrix", "repeat", "seed", "unsound", "zip"];

/// What becomes of cells whose settings do not go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsound {
    /// The sweep is refused.
    #[default]
    Refuse,
    /// They are left out, and told.
    Skip,
}

/// A sweep as it was written.
#[derive(Clone, Debug)]
pub struct SweepFile {
    /// Where it lies.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
    /// How often each cell is run.
    pub repeat: u32,
    /// Of the order of runs, and of the seeds of runs that are given none.
    pub seed: Seed,
    /// What becomes of cells that do not go together.
    pub unsound: Unsound,
    /// What all cells share.
    pub base: Settings,
    /// What is varied.
    pub axes: Vec<Axis>,
}

impl SweepFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`SweepError`], naming the file and the key.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        let text = std::fs::read_to_string(path).map_err(|source| ExperimentError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, text)
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, SweepError> {
        let table: toml::Table = text.parse().map_err(|source| ExperimentError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown(path, key));
        }
        let top = Top {
            path,
            table: &table,
        };
        let base_table = top.table("base")?;
        let mut base = Settings::default();
        base.read_table(path, &base_table)?;
        let mut axes = Axis::of_matrix(path, &top.table("matrix")?)?;
        for zip in top.tables("zip")? {
            axes.push(Axis::of_zip(path, zip)?);
        }
        check_once(path, &base, &axes)?;
        check_rows(path, &axes)?;
        Ok(Self {
            path: path.to_owned(),
            repeat: top.repeat()?,
            seed: top.seed()?,
            unsound: top.unsound()?,
            base,
            axes,
            text,
        })
    }
}

fn unknown(path: &Path, key: &str) -> SweepError {
    let path = path.to_owned();
    // Most often somebody took it for an experiment file.
    let hint = match Key::ALL.iter().any(|of_run| of_run.name() == key) {
        true => {
            "it is one of an experiment: put it under [base], or with several values under [matrix]"
                .to_owned()
        }
        false => hint(key, KEYS.into_iter()),
    };
    SweepError::UnknownKey {
        path,
        key: key.to_owned(),
        hint,
    }
}

/// No row of an axis stands in it twice: the cells would be the same.
fn check_rows(path: &Path, axes: &[Axis]) -> Result<(), SweepError> {
    for axis in axes {
        let mut seen = BTreeSet::new();
        if let Some(row) = axis.rows.iter().find(|row| !seen.insert(*row)) {
            let keys: Vec<_> = axis.keys.iter().map(|key| key.name()).collect();
            return Err(SweepError::SameTwice {
                path: path.to_owned(),
                keys: keys.join(" "),
                value: row.join(" "),
            });
        }
    }
    Ok(())
}

fn check_once(path: &Path, base: &Settings, axes: &[Axis]) -> Result<(), SweepError> {
    let mut seen = BTreeSet::new();
    let mut varied = axes.iter().flat_map(|axis| &axis.keys);
    match varied.find(|key| base.text(**key).is_some() || !seen.insert(**key)) {
        None => Ok(()),
        Some(key) => Err(SweepError::Twice {
            path: path.to_owned(),
            key: key.name(),
        }),
    }
}

/// The table of the whole file.
struct Top<'a> {
    path: &'a Path,
    table: &'a toml::Table,
}

impl Top<'_> {
    fn wrong(&self, key: &'static str, value: &toml::Value, expected: &'static str) -> SweepError {
        SweepError::Value {
            path: self.path.to_owned(),
            key,
            found: format!("`{value}`"),
            expected,
        }
    }

    /// A table, empty if there is none.
    fn table(&self, key: &'static str) -> Result<toml::Table, SweepError> {
        match self.table.get(key) {
            None => Ok(toml::Table::new()),
            Some(toml::Value::Table(table)) => Ok(table.clone()),
            Some(other) => Err(self.wrong(
                key,
                other,
                "it is a table, whose keys are those of an experiment",
            )),
        }
    }

    fn tables(&self, key: &'static str) -> Result<Vec<&toml::Table>, SweepError> {
        let expected = "write [[zip]] before the keys that are varied together";
        match self.table.get(key) {
            None => Ok(Vec::new()),
            Some(toml::Value::Array(tables)) => tables
                .iter()
                .map(|table| {
                    table
                        .as_table()
                        .ok_or_else(|| self.wrong(key, table, expected))
                })
                .collect(),
            Some(other) => Err(self.wrong(key, other, expected)),
        }
    }

    fn repeat(&self) -> Result<u32, SweepError> {
        match self.table.get("repeat") {
            None => Ok(1),
            Some(toml::Value::Integer(times @ 1..=MOST_REPEATS)) => Ok(*times as u32),
            Some(other) => {
                Err(self.wrong("repeat", other, "how often each cell is run, 1 to 1000"))
            }
        }
    }

    fn seed(&self) -> Result<Seed, SweepError> {
        match self.table.get("seed") {
            None => Ok(SEED),
            Some(toml::Value::Integer(seed)) if *seed >= 0 => Ok(Seed(*seed as u64)),
            Some(other) => {
                Err(self.wrong("seed", other, "a seed is a number of 63 bits, such as 42"))
            }
        }
    }

    fn unsound(&self) -> Result<Unsound, SweepError> {
        match self.table.get("unsound") {
            None => Ok(Unsound::Refuse),
            Some(toml::Value::String(text)) if text == "refuse" => Ok(Unsound::Refuse),
            Some(toml::Value::String(text)) if text == "skip" => Ok(Unsound::Skip),
            Some(other) => Err(self.wrong(
                "unsound",
                other,
                "cells that do not go together have the sweep refused (\"refuse\") or are left out (\"skip\")",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn parse(text: &str) -> Result<SweepFile, SweepError> {
        SweepFile::parse(Path::new("x.toml"), text.to_owned())
    }

    #[test]
    fn axes_are_the_matrix_and_each_zip() {
        let text = "repeat = 2\nseed = 9\nunsound = 'skip'\n[base]\nworkload = 'walk'\n\
                    [matrix]\ncpus = [1, 2]\nparameters = [{depth = 2}, 'depth=3']\n\
                    [[zip]]\nbatch = [1, 32]\nrate = ['max', 1000]\n[[zip]]\nwait = ['halt']\n";
        let file = parse(text).expect("a sweep");
        assert_eq!(
            (file.repeat, file.seed, file.unsound),
            (2, Seed(9), Unsound::Skip)
        );
        assert_eq!(file.base.text(Key::Workload), Some("walk"));
        let axes: Vec<_> = file
            .axes
            .iter()
            .map(|axis| {
                let names: Vec<_> = axis.keys.iter().map(|key| key.name()).collect();
                let rows: Vec<_> = axis.rows.iter().map(|row| row.join("+")).collect();
                format!("{}: {}", names.join("+"), rows.join(" "))
            })
            .collect();
        assert_eq!(
            axes,
            [
                "cpus: 1 2",
                "parameters: depth=2 depth=3",
                "batch+rate: 1+max 32+1000",
                "wait: halt"
            ]
        );
        let plain = parse("").expect("one cell, once");
        assert_eq!((plain.repeat, plain.seed, plain.axes.len()), (1, SEED, 0));
    }

    #[test]
    fn what_is_no_sweep_is_refused_with_the_key_and_the_remedy() {
        for (text, parts) in [
            ("cpus = [1]", ["unknown key `cpus`", "put it under [base]"]),
            (
                "metrix = 1",
                ["unknown key `metrix`", "did you mean `matrix`?"],
            ),
            (
                "[matrix]\ncpu = [1]",
                ["unknown key `cpu`", "did you mean `cpus`?"],
            ),
            ("[matrix]\ncpus = []", ["`cpus`", "has no values"]),
            ("[matrix]\ncpus = 2", ["a integer is not varied", "[base]"]),
            (
                "[base]\ncpus = 2\n[matrix]\ncpus = [1]",
                ["`cpus` stands in it twice", "[base]"],
            ),
            (
                "[matrix]\ncpus = [1]\n[[zip]]\ncpus = [1]",
                ["`cpus`", "twice"],
            ),
            (
                "[[zip]]\ncpus = [1, 2]\nbatch = [1]",
                ["`batch` has 1 values and `cpus`", "has 2"],
            ),
            ("[[zip]]", ["[[zip]] without keys", "two or more"]),
            ("[zip]\ncpus = [1]", ["key `zip`", "write [[zip]]"]),
            (
                "[matrix]\nbatch = [1, 2, 1]",
                ["batch is 1 twice", "repeat = 2"],
            ),
            ("repeat = 0", ["key `repeat`: `0`", "1 to 1000"]),
            ("repeat = 1001", ["`1001`", "1 to 1000"]),
            ("seed = -1", ["key `seed`: `-1`", "such as 42"]),
            ("unsound = 'drop'", ["key `unsound`", "\"skip\""]),
            ("base = 3", ["key `base`: `3`", "it is a table"]),
            ("[matrix]\ncpus = [[1, 2]]", ["key `cpus`", "will not do"]),
            ("cpus = ", ["x.toml is not TOML", "line 1"]),
        ] {
            let message = chain(&parse(text).expect_err(text));
            for part in parts {
                assert!(
                    message.contains(part) && message.contains("x.toml"),
                    "{text}: {message}"
                );
            }
        }
    }
}
