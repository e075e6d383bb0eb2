//! Whether two runs may be held against each other.

use crate::names::hint;
use crate::rundir::{StoredRun, plain};
use crate::units::ValueError;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Settings that say how long and with which choices was measured, not what: told, and no hindrance. Every other one
/// hinders.
const TOLD_ONLY: [&str; 5] = ["seed", "duration", "control", "warmup", "verify"];
/// The key of how a run ended.
const OUTCOME: &str = "outcome";

/// One thing that is not the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The setting, or `host.` with what of the host, `tool` or `outcome`.
    pub key: String,
    /// In the first.
    pub base: String,
    /// In the second.
    pub other: String,
}

/// What is not the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// What makes figures incomparable, unless it is what is compared.
    pub hindering: Vec<Difference>,
    /// What a reader should know, such as another kernel: often the very thing that is compared.
    pub told: Vec<Difference>,
}

impl Differences {
    /// How `other` differs from `base`.
    #[must_use]
    pub fn between(base: &StoredRun, other: &StoredRun) -> Self {
        let mut differences = Self::default();
        for (key, base, other) in facts(base, other) {
            if base == other {
                continue;
            }
            let told = TOLD_ONLY.contains(&key.as_str()) || key == "host.kernel" || key == "tool";
            let difference = Difference { key, base, other };
            if told {
                differences.told.push(difference);
            } else {
                differences.hindering.push(difference);
            }
        }
        let (mine, theirs) = (base.fault(), other.fault());
        if mine.is_some() || theirs.is_some() {
            let say = |fault: Option<String>| fault.unwrap_or_else(|| "sound".to_owned());
            let (base, other) = (say(mine), say(theirs));
            let key = OUTCOME.to_owned();
            differences.hindering.push(Difference { key, base, other });
        }
        differences
    }

    /// Those that hinder and are not among the keys in `vary`.
    #[must_use]
    pub fn unexpected(&self, vary: &[String]) -> Vec<&Difference> {
        let hindering = self.hindering.iter();
        hindering
            .filter(|difference| !vary.contains(&difference.key))
            .collect()
    }
}

/// Each fact about the runs: its key, and its value in both.
fn facts(base: &StoredRun, other: &StoredRun) -> Vec<(String, String, String)> {
    let host = |of: fn(&StoredRun) -> String| (of(base), of(other));
    let facts: [(&str, (String, String)); 7] = [
        ("host.stage2", host(|run| run.host.stage2.clone())),
        ("host.kvm_module", host(|run| run.host.kvm_module.clone())),
        ("host.nested", host(|run| run.host.nested.to_string())),
        ("host.cpu", host(|run| run.host.cpu.clone())),
        ("host.cpus", host(|run| run.host.cpus.to_string())),
        ("host.kernel", host(|run| run.host.kernel.clone())),
        ("tool", host(tool)),
    ];
    let facts = facts
        .into_iter()
        .map(|(key, (mine, theirs))| (key.to_owned(), mine, theirs));
    let keys: BTreeSet<&String> = base.config.keys().chain(other.config.keys()).collect();
    let settings = keys.into_iter().map(|key| {
        let (mine, theirs) = setting(base.config.get(key), other.config.get(key));
        (key.clone(), mine, theirs)
    });
    facts.chain(settings).collect()
}

fn tool(run: &StoredRun) -> String {
    let commit = run.tool.commit.as_deref().unwrap_or("commit unknown");
    format!("{} ({commit})", run.tool.version)
}

/// Both values in words; of tables only what differs.
fn setting(base: Option<&Value>, other: Option<&Value>) -> (String, String) {
    let say = |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), plain);
    let (Some(Value::Object(mine)), Some(Value::Object(theirs))) = (base, other) else {
        return (say(base), say(other));
    };
    let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for key in keys
        .into_iter()
        .filter(|key| mine.get(*key) != theirs.get(*key))
    {
        left.push(format!("{key}={}", say(mine.get(key))));
        right.push(format!("{key}={}", say(theirs.get(key))));
    }
    (left.join(","), right.join(","))
}

/// Checks the keys that were named as those that may differ: each must be one that some of `runs` has.
///
/// # Errors
/// [`ValueError::UnknownName`].
pub fn check_vary(vary: &[String], runs: &[StoredRun]) -> Result<(), ValueError> {
    let Some(base) = runs.first() else {
        return Ok(());
    };
    let of_all = runs.iter().flat_map(|run| facts(base, run));
    let mut known: BTreeSet<String> = of_all.map(|(key, _, _)| key).collect();
    known.insert(OUTCOME.to_owned());
    match vary.iter().find(|key| !known.contains(*key)) {
        None => Ok(()),
        Some(key) => Err(ValueError::UnknownName {
            value: key.clone(),
            what: "setting of these runs",
            hint: hint(key, known.iter().map(String::as_str)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;

    #[test]
    fn what_hinders_and_what_is_told() {
        type Change = fn(&mut StoredRun);
        let cases: [(Change, &str, bool); 9] = [
            (
                |run| run.host.stage2 = "ept".into(),
                "host.stage2: shadow, ept",
                true,
            ),
            (|run| run.host.cpu = "B".into(), "host.cpu: A CPU, B", true),
            (
                |run| run.host.kernel = "7.0".into(),
                "host.kernel: 6.18.0, 7.0",
                false,
            ),
            (|run| run.tool.version = "9".into(), "tool:", false),
            (
                |run| drop(run.config.insert("workload".into(), "lock".into())),
                "workload: walk, lock",
                true,
            ),
            (
                |run| drop(run.config.insert("batch".into(), 8.into())),
                "batch: 1, 8",
                true,
            ),
            (
                |run| drop(run.config.insert("seed".into(), 8.into())),
                "seed: 42, 8",
                false,
            ),
            (
                |run| run.outcome.complete = false,
                "outcome: sound, ended in the middle",
                true,
            ),
            (
                |run| run.integrity.errors = 3,
                "outcome: sound, 3 integrity errors",
                true,
            ),
        ];
        let base = stored();
        assert_eq!(Differences::between(&base, &base), Differences::default());
        for (change, text, hinders) in cases {
            let mut other = stored();
            change(&mut other);
            let differences = Differences::between(&base, &other);
            let found = if hinders {
                &differences.hindering
            } else {
                &differences.told
            };
            let [one] = found.as_slice() else {
                panic!("{text}: {differences:?}")
            };
            let said = format!("{}: {}, {}", one.key, one.base, one.other);
            assert!(said.starts_with(text), "{said}");
            assert_eq!(
                differences.unexpected(&[]).len(),
                usize::from(hinders),
                "{said}"
            );
            assert!(
                differences
                    .unexpected(std::slice::from_ref(&one.key))
                    .is_empty(),
                "{said}"
            );
        }
    }

    #[test]
    fn of_parameters_only_those_that_differ_are_named() {
        let values = [
            serde_json::json!({"a": 1, "b": "on"}),
            serde_json::json!({"a": 2, "b": "on", "c": 3}),
        ];
        let (base, other) = setting(Some(&values[0]), Some(&values[1]));
        assert_eq!((base.as_str(), other.as_str()), ("a=1,c=unset", "a=2,c=3"));
    }

    #[test]
    fn only_settings_can_vary() {
        let runs = [stored(), stored()];
        let vary = |key: &str| check_vary(&[key.to_owned()], &runs);
        for key in ["strategy", "host.cpu", OUTCOME] {
            assert_eq!(vary(key), Ok(()));
        }
        let message = vary("stratgy").expect_err("unknown").to_string();
        assert!(
            message.contains("stratgy") && message.contains("strategy"),
            "{message}"
        );
    }
}
