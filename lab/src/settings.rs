//! What the user wrote, before it is understood: flags over the experiment file.

use crate::names::{Named, hint};
use crate::units::{Size, Span, ValueError};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The table of an experiment file that says which tool wrote it; it is not read back.
pub const TOOL_TABLE: &str = "tool";

macro_rules! keys {
    ($($variant:ident = $name:literal, $about:literal;)+) => {
        /// One setting of an experiment: a flag of `run` and a key of an experiment file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $(#[doc = $about] $variant,)+
        }

        impl Named for Key {
            const WHAT: &'static str = "key";
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }
        }
    };
}

keys! {
    Workload = "workload", "What the guest does.";
    Parameters = "parameters", "What the workload is told.";
    Mover = "mover", "Who moves the guest's pages.";
    Strategy = "strategy", "When what is copied.";
    Backend = "backend", "How the new frame arrives.";
    Allocate = "allocate", "When new frames are allocated.";
    Wait = "wait", "What a vCPU does that meets a window.";
    Target = "target", "Which kinds of pages move.";
    Rate = "rate", "Pages per second.";
    Batch = "batch", "Pages per window.";
    PageSize = "page-size", "How large the pages are that move.";
    Frames = "frames", "The pool that movers and the fault path take frames from.";
    FramesAfter = "frames-after", "When old frames of the pool may be used again.";
    Uffds = "uffds", "userfaultfds that guest memory is shared among.";
    FaultLock = "fault-lock", "How a fault keeps its block of guest memory from being unplugged.";
    Replug = "replug", "Blocks of guest memory that are unplugged and plugged again per second.";
    SlotSize = "slot-size", "The largest slot that KVM knows guest memory by, where slots are moved.";
    Movers = "movers", "Threads that move pages.";
    Cpus = "cpus", "vCPUs.";
    Memory = "memory", "Guest memory.";
    Hugepages = "hugepages", "Whether transparent huge pages may back guest memory.";
    Duration = "duration", "Length of the control phase and the moving phase together.";
    Control = "control", "Share of the duration in which nothing moves.";
    Warmup = "warmup", "Time before measuring.";
    Seed = "seed", "Seed of every random choice.";
    Cpl = "cpl", "Privilege level of the guest kernel.";
    Affinity = "affinity", "Host CPUs by role.";
    Sched = "sched", "Scheduling policy, with priority or nice value and slice, by role.";
    Overcommit = "overcommit", "vCPUs that share each host CPU, by affinity.";
    Antagonists = "antagonists", "Threads that take CPU time on purpose, with duty and nice value.";
    Kernel = "kernel", "Another PVH image than the embedded one.";
    MaxWindow = "max-window", "The longest window; longer ones are given up and tried again.";
    Verify = "verify", "How many frame numbers are compared.";
    Variant = "variant", "A deliberately wrong form that a checker must catch.";
    Torment = "torment", "Random aborts, pauses of movers and holds of vCPUs while pages move.";
    StallThreshold = "stall-threshold", "Accesses that take longer are stalls.";
    ProbePeriod = "probe-period", "Period of the paced probe.";
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(Key),
    /// In an experiment file.
    File(PathBuf, Key),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{}", key.name()),
            Self::File(path, key) => write!(f, "{}, key `{}`", path.display(), key.name()),
        }
    }
}

/// Why an experiment was refused.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// A value was refused.
    #[error("invalid value of {origin}")]
    Value {
        /// Where it was written.
        origin: Origin,
        /// Why.
        #[source]
        source: Box<ValueError>,
    },
    /// A default that this host cannot carry.
    #[error("the default of --{} does not fit this host", .key.name())]
    Default {
        /// The key.
        key: Key,
        /// Why.
        #[source]
        source: Box<ValueError>,
    },
    /// Settings that do not go together.
    #[error("{combination}: {reason}")]
    Unsound {
        /// The settings.
        combination: String,
        /// Why, and what to use instead.
        reason: &'static str,
    },
    /// More vCPUs than the host's CPUs take at so many on each.
    #[error(
        "--overcommit {per_cpu}, --cpus {vcpus}: these want {wanted} host CPUs, and this process may use CPUs {allowed}: \
         give it --overcommit {least_per_cpu} or more, or --cpus {most_vcpus} or fewer"
    )]
    TooFewCpus {
        /// vCPUs on each host CPU.
        per_cpu: u16,
        /// vCPUs.
        vcpus: u16,
        /// Host CPUs that these want.
        wanted: u16,
        /// Those that there are.
        allowed: String,
        /// The least `per_cpu` that would do.
        least_per_cpu: u16,
        /// The most vCPUs that would do.
        most_vcpus: u16,
    },
    /// More than guest memory can hold.
    #[error(
        "--memory {memory} is too little for workload {workload} with --cpus {cpus} and --parameters \
         {parameter}={value}, which wants {pages} free pages of the {free} that there would be: give it --memory \
         {least} or more, or a lower {parameter}"
    )]
    TooLittleMemory {
        /// Guest memory.
        memory: Size,
        /// The workload.
        workload: &'static str,
        /// vCPUs.
        cpus: u16,
        /// The parameter that wants most.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// Pages that must be free for it.
        pages: u64,
        /// Those that would be.
        free: u64,
        /// The least memory that would do.
        least: Size,
    },
    /// A wrong form of what the workload does not do.
    #[error(
        "variant {variant}, workload {workload}: this workload does nothing that the variant does wrongly, or \
         hardly ever, so that nothing could be caught; choose the workload {others}"
    )]
    Elsewhere {
        /// The variant.
        variant: &'static str,
        /// The workload.
        workload: &'static str,
        /// Those in which the variant can be caught.
        others: String,
    },
    /// A wrong form that the workload's parameters keep from doing anything wrong.
    #[error(
        "variant {variant}, workload {workload}, {parameter}={value}: with this value the workload does \
         nothing that the variant does wrongly, so that nothing could be caught: say --parameters \
         {parameter}={remedy}"
    )]
    Idle {
        /// The wrong form.
        variant: &'static str,
        /// The workload.
        workload: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What to say instead.
        remedy: String,
    },
    /// A wrong form whose check speaks after some time only.
    #[error(
        "variant {variant}, --duration {duration}: the check that must catch the variant speaks after seconds, and \
         the run would be over: give --duration {least} or more"
    )]
    TooShort {
        /// The wrong form.
        variant: &'static str,
        /// How long the run would be.
        duration: Span,
        /// How long it must be.
        least: Span,
    },
    /// The experiment file cannot be read.
    #[error("cannot read the experiment file {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The experiment file is no TOML.
    #[error("{} is not TOML", .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that no experiment has.
    #[error("{}: unknown key `{key}`: {hint}", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest key, or all of them.
        hint: String,
    },
    /// A value of a type that no setting has.
    #[error("{}, key `{key}`: a {found} will not do: write a string, a number, true or false, or an array of strings", .path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type found.
        found: &'static str,
    },
}

/// Values as text, each with its origin; the most important origin wins.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<Key, (String, Origin)>,
}

impl Settings {
    /// Sets `key` from the command line, over whatever a file says.
    pub fn set_flag(&mut self, key: Key, value: impl Into<String>) {
        self.values.insert(key, (value.into(), Origin::Flag(key)));
    }

    /// Takes `key` out: its text and where that was written, if it was set.
    pub fn remove(&mut self, key: Key) -> Option<(String, Origin)> {
        self.values.remove(&key)
    }

    /// Reads the experiment file `path`; what was set already stays.
    ///
    /// # Errors
    /// [`ExperimentError`], naming the file and the key.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ExperimentError> {
        let text = std::fs::read_to_string(path).map_err(|source| ExperimentError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.read_toml(path, &text)
    }

    /// Reads `text`, the contents of the experiment file `path`; what was set already stays.
    ///
    /// # Errors
    /// [`ExperimentError`], naming the file and the key.
    pub fn read_toml(&mut self, path: &Path, text: &str) -> Result<(), ExperimentError> {
        let table: toml::Table = text.parse().map_err(|source| ExperimentError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        self.read_table(path, &table)
    }

    /// Reads `table`, keys of an experiment in the file `path`; what was set already stays.
    ///
    /// # Errors
    /// [`ExperimentError`], naming the file and the key.
    pub fn read_table(&mut self, path: &Path, table: &toml::Table) -> Result<(), ExperimentError> {
        for (name, value) in table {
            if name == TOOL_TABLE {
                continue;
            }
            let key = Self::known_key(path, name)?;
            let text = Self::text_of(path, key, value)?;
            self.set_of_file(path, key, text);
        }
        Ok(())
    }

    /// Sets `key` as the file `path` says, unless it was set already.
    pub fn set_of_file(&mut self, path: &Path, key: Key, value: impl Into<String>) {
        self.values
            .entry(key)
            .or_insert_with(|| (value.into(), Origin::File(path.to_owned(), key)));
    }

    /// The key called `name` in the file `path`.
    ///
    /// # Errors
    /// [`ExperimentError::UnknownKey`].
    pub fn known_key(path: &Path, name: &str) -> Result<Key, ExperimentError> {
        let mut keys = Key::ALL.iter().copied();
        keys.find(|key| key.name() == name)
            .ok_or_else(|| ExperimentError::UnknownKey {
                path: path.to_owned(),
                key: name.to_owned(),
                hint: hint(name, Key::ALL.iter().map(|key| key.name())),
            })
    }

    /// The text that a flag would carry for the value of `key` in the file `path`; parameters may be a table.
    ///
    /// # Errors
    /// [`ExperimentError::Type`].
    pub fn text_of(path: &Path, key: Key, value: &toml::Value) -> Result<String, ExperimentError> {
        let text = match value {
            toml::Value::Table(table) if key == Key::Parameters => table
                .iter()
                .map(|(name, value)| Some(format!("{name}={}", plain_text(value)?)))
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.join(",")),
            _ => plain_text(value),
        };
        text.ok_or_else(|| ExperimentError::Type {
            path: path.to_owned(),
            key: key.name().to_owned(),
            found: value.type_str(),
        })
    }

    /// Whether `key` was set, as the text of its value.
    #[must_use]
    pub fn text(&self, key: Key) -> Option<&str> {
        self.values.get(&key).map(|(text, _)| text.as_str())
    }

    /// The value of `key` as `parse` understands it, if it was set.
    ///
    /// # Errors
    /// [`ExperimentError::Value`] with the value's origin.
    pub fn get<T>(
        &self,
        key: Key,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, ExperimentError> {
        let Some((text, origin)) = self.values.get(&key) else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .map_err(|source| ExperimentError::Value {
                origin: origin.clone(),
                source: Box::new(source),
            })
    }
}

/// The text that a flag would carry for `value`; `None` for types that no flag has.
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(toml::Value::as_str)
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
