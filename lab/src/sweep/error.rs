//! Why a sweep was refused.

use crate::settings::ExperimentError;
use std::path::PathBuf;

/// Why a sweep was refused, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// Something of the file that an experiment file would be refused for too.
    #[error(transparent)]
    File(#[from] ExperimentError),
    /// A key at the top that no sweep has.
    #[error("{}: unknown key `{key}`: {hint}", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A key at the top with a value that it cannot have.
    #[error("{}, key `{key}`: {found} will not do: {expected}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What was found.
        found: String,
        /// What it takes.
        expected: &'static str,
    },
    /// One value where several are wanted.
    #[error("{}, key `{key}`: a {found} is not varied: write an array of values, or put the key under [base]", .path.display())]
    NoArray {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type found.
        found: &'static str,
    },
    /// No value at all.
    #[error("{}, key `{key}`: it has no values, so that there would be no cells: give it one or more, or take it out", .path.display())]
    EmptyAxis {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A zip of nothing.
    #[error("{}: a [[zip]] without keys: give it two or more, or take it out", .path.display())]
    EmptyZip {
        /// The file.
        path: PathBuf,
    },
    /// Zipped keys of which one has more values.
    #[error(
        "{}: `{first}` has {rows} values and `{other}`, zipped with it, has {other_rows}: give them as many, or put one \
         of them under [matrix]", .path.display()
    )]
    Uneven {
        /// The file.
        path: PathBuf,
        /// A key.
        first: &'static str,
        /// Its values.
        rows: usize,
        /// Another.
        other: &'static str,
        /// Its values.
        other_rows: usize,
    },
    /// A key that is set, or varied, twice.
    #[error("{}: `{key}` stands in it twice: leave it in one of [base], [matrix] and [[zip]]", .path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// More runs than anybody waits for.
    #[error("{}: {runs} runs, {most} at most: take values out of [matrix], or make several sweeps", .path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many there would be.
        runs: u128,
        /// The bound.
        most: u128,
    },
    /// A cell that is no experiment.
    #[error("{}, cell {cell}{remedy}", .path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// What it sets.
        cell: String,
        /// What can be done, if it is more than to mend the cell.
        remedy: &'static str,
        /// Why.
        #[source]
        source: Box<ExperimentError>,
    },
    /// Every cell was left out.
    #[error("{}: none of its cells goes together, so that nothing would be run; the first", .path.display())]
    AllUnsound {
        /// The file.
        path: PathBuf,
        /// Why the first was left out.
        #[source]
        source: Box<ExperimentError>,
    },
    /// A place that has something else in it.
    #[error("{} is there and holds no sweep: name another place with --out", .path.display())]
    NoSweep {
        /// The place.
        path: PathBuf,
    },
    /// A place that was to be merged.
    #[error("--merge {}: no sweep lies there: name directories that `underfoot sweep` wrote", .path.display())]
    NothingToMerge {
        /// The place.
        path: PathBuf,
    },
    /// A value that an axis has twice.
    #[error("{}: {keys} is {value} twice on the same axis: leave one out, or run cells more often (repeat = 2)", .path.display())]
    SameTwice {
        /// The file.
        path: PathBuf,
        /// The axis.
        keys: String,
        /// Its value.
        value: String,
    },
    /// A place that another sweep has.
    #[error("{} holds a sweep of another file ({what}): name another place with --out", .path.display())]
    OtherSweep {
        /// The place.
        path: PathBuf,
        /// What is different.
        what: &'static str,
    },
    /// Somebody else does the same runs.
    #[error("{}: shard {shard} of it is being run by another process: wait for it, or end it", .path.display())]
    Busy {
        /// The place.
        path: PathBuf,
        /// Which shard.
        shard: String,
    },
    /// A run that two shards have, with other results.
    #[error("{} and {} are the same run with different results: leave one of the directories out", .first.display(), .second.display())]
    Collision {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A place that cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A plan that is damaged.
    #[error("{} is damaged: put that of another shard there, or begin again in another place (--out)", .path.display())]
    Plan {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl SweepError {
    /// Whether another command line or file would do.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}
