//! What was run, in one line: enough to run it again.

use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::names::{Mover, Named};
use crate::parameters::Parameters;
use crate::settings::{Key, Settings};
use underfoot_migrator::{PageSize, StrategyKind};

/// What the words at the beginning of the line say.
const IN_WORDS: [Key; 12] = [
    Key::Workload,
    Key::Mover,
    Key::Strategy,
    Key::Backend,
    Key::Wait,
    Key::PageSize,
    Key::Batch,
    Key::SlotSize,
    Key::Rate,
    Key::Seed,
    Key::Cpus,
    Key::Memory,
];

/// What `experiment` is, in words; and as flags what is not as it is by default.
#[must_use]
pub fn setup_line(experiment: &Experiment) -> String {
    let how = match experiment.mover {
        // It knows one strategy, or rests.
        Mover::Guest if experiment.strategy == StrategyKind::None => "mover guest, none".to_owned(),
        Mover::Guest => "mover guest".to_owned(),
        Mover::Host => format!(
            "{}, {}, {}, {}",
            experiment.strategy.name(),
            experiment.backend.name(),
            experiment.wait.name(),
            match experiment.page_size {
                PageSize::Huge => format!("pages of {}", PageSize::Huge),
                PageSize::Small => match experiment.slot_size {
                    Some(size) => format!("slots of {size}"),
                    None => format!("batch {}", experiment.batch),
                },
            },
        ),
    };
    let mut line = format!(
        "{}, seed {}, {how}, rate {}, {} vCPUs, {}",
        experiment.workload.name(),
        experiment.seed,
        experiment.rate,
        experiment.cpus,
        experiment.memory,
    );
    for (key, value) in flags(experiment) {
        line.push_str(&format!(", --{key} {value}"));
    }
    line
}

/// What is not as it is by default, nor said in words.
fn flags(experiment: &Experiment) -> Vec<(String, String)> {
    let defaults = defaults(experiment).map(|defaults| defaults.to_table());
    let is_told = |key: &str, value: &toml::Value| {
        let default = defaults.as_ref().and_then(|defaults| defaults.get(key));
        !IN_WORDS.iter().any(|said| said.name() == key) && default != Some(value)
    };
    let told = experiment.to_table().into_iter();
    let told = told.filter(|(key, value)| is_told(key, value));
    told.map(|(key, value)| {
        let text = match value {
            toml::Value::Table(_) => parameters(experiment),
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        (key, text)
    })
    .filter(|(_, text)| !text.is_empty())
    .collect()
}

/// Those that are not as they are by default.
fn parameters(experiment: &Experiment) -> String {
    let variant = experiment.variant.guest();
    let defaults = Parameters::defaults(experiment.workload, variant).to_table();
    let told = experiment.parameters.to_table().into_iter();
    let told = told.filter(|(name, value)| defaults.get(name) != Some(value));
    let told: Vec<_> = told
        .map(|(name, value)| match value {
            toml::Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    told.join(",")
}

/// The experiment of the same words, and nothing else said. `None` where that is refused: then all is
/// told.
fn defaults(experiment: &Experiment) -> Option<Experiment> {
    let limits = HostLimits {
        cpus: "0".parse().ok()?,
        memory: experiment.memory,
    };
    let table = experiment.to_table();
    let mut settings = Settings::default();
    for key in IN_WORDS {
        match table.get(key.name()) {
            Some(toml::Value::String(text)) => settings.set_flag(key, text),
            Some(other) => settings.set_flag(key, other.to_string()),
            None => {}
        }
    }
    Experiment::resolve(&settings, &limits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(told: &[(Key, &str)]) -> Experiment {
        let mut settings = Settings::default();
        settings.set_flag(Key::Seed, "42");
        settings.set_flag(Key::Cpus, "2");
        for (key, value) in told {
            settings.set_flag(*key, *value);
        }
        let limits = HostLimits {
            cpus: "0-1".parse().expect("a list"),
            memory: crate::units::Size::from_mib(4096),
        };
        Experiment::resolve(&settings, &limits).expect("a sound experiment")
    }

    #[test]
    fn what_is_not_the_default_is_told() {
        for (told, line) in [
            (
                &[][..],
                "walk, seed 42, unmap-copy, move, halt, batch 1, rate max, 2 vCPUs, 64MiB",
            ),
            (
                &[(Key::Mover, "guest"), (Key::Duration, "3s")],
                "walk, seed 42, mover guest, rate max, 2 vCPUs, 64MiB, --duration 3s",
            ),
            (
                &[(Key::Mover, "guest"), (Key::Strategy, "none")],
                "walk, seed 42, mover guest, none, rate max, 2 vCPUs, 64MiB",
            ),
            (
                &[
                    (Key::Workload, "exit"),
                    (Key::Parameters, "threads=2,regions=32,path=speculative"),
                    (Key::Uffds, "4"),
                    (Key::MaxWindow, "1ms"),
                    (Key::Target, "data"),
                    (Key::Frames, "512"),
                ],
                "exit, seed 42, unmap-copy, move, halt, batch 1, rate max, 2 vCPUs, 64MiB, \
                 --frames 512,reserve=8,min=16,low=32,high=64, --max-window 1ms, --parameters path=speculative,regions=32, --target data, --uffds 4",
            ),
            (
                &[
                    (Key::Workload, "mmap1"),
                    (Key::Variant, "busted-plain-lock"),
                ],
                "mmap1, seed 42, unmap-copy, move, halt, batch 1, rate max, 2 vCPUs, 64MiB, \
                 --variant busted-plain-lock",
            ),
        ] {
            assert_eq!(setup_line(&experiment(told)), line);
        }
    }
}
