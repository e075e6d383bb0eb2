//! What there is to choose from.

use crate::names::{FramesAfter, Mover, Named, Variant};
use crate::parameters::{default_text, range};
use crate::variant_needs::needs;
use serde::Serialize;
use underfoot_abi::{PageKind, Parameter, WorkloadId};
use underfoot_migrator::{
    Allocate, BackendKind, Combination, FaultLock, PageSize, StrategyKind, WaitKind,
};

/// The schema of `list --json`.
pub const LIST_SCHEMA: &str = "underfoot.list/1";

/// A name and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What the user writes.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
}

/// Something that a workload can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterChoice {
    /// What the user writes.
    pub name: &'static str,
    /// What it is, in one line, with the unit.
    pub about: &'static str,
    /// Least and greatest number; absent where it is one of `choices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[u64; 2]>,
    /// What there is to choose from; absent where it is a number.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub choices: &'static [&'static str],
    /// What it is if the user says nothing.
    pub default: String,
    #[serde(skip)]
    range: String,
}

impl From<&Parameter> for ParameterChoice {
    fn from(parameter: &Parameter) -> Self {
        let bounds = [parameter.least, parameter.most];
        Self {
            name: parameter.name,
            about: parameter.about,
            bounds: parameter.choices.is_empty().then_some(bounds),
            choices: parameter.choices,
            default: default_text(parameter),
            range: range(parameter),
        }
    }
}

/// A workload, what it can be told and what it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its name and what it does.
    #[serde(flatten)]
    pub choice: Choice,
    /// What it can be told.
    pub parameters: Vec<ParameterChoice>,
    /// What it counts.
    pub counters: Vec<Choice>,
}

impl From<WorkloadId> for Workload {
    fn from(id: WorkloadId) -> Self {
        let counters = id.counters().iter().map(|counter| Choice {
            name: counter.name,
            about: counter.about,
        });
        Self {
            choice: Choice {
                name: id.name(),
                about: id.about(),
            },
            parameters: id.parameters().iter().map(ParameterChoice::from).collect(),
            counters: counters.collect(),
        }
    }
}

/// A deliberately wrong form, or the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Form {
    /// Its name and what it does wrongly.
    #[serde(flatten)]
    pub choice: Choice,
    /// What the run must be told so that it is caught, in flags; null where it needs nothing.
    pub needs: Option<String>,
}

/// A way to move pages, for every page kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// When what is copied.
    pub strategy: &'static str,
    /// How the new frame arrives.
    pub backend: &'static str,
    /// What a vCPU does that meets a window.
    pub wait: &'static str,
    /// How large the pages are that move.
    pub page_size: &'static str,
    /// Whether `run` takes it.
    pub sound: bool,
    /// Why it does not, and what to use instead; null where it does.
    pub reason: Option<&'static str>,
}

/// Everything that there is to choose from.
#[derive(Clone, Debug, Serialize)]
pub struct Choices {
    /// [`LIST_SCHEMA`].
    pub schema: &'static str,
    /// `--workload`.
    pub workloads: Vec<Workload>,
    /// `--mover`.
    pub movers: Vec<Choice>,
    /// `--strategy`.
    pub strategies: Vec<Choice>,
    /// `--backend`, but for `auto`.
    pub backends: Vec<Choice>,
    /// `--allocate`.
    pub allocations: Vec<Choice>,
    /// `--frames-after`.
    pub frames_after: Vec<Choice>,
    /// `--fault-lock`.
    pub fault_locks: Vec<Choice>,
    /// `--wait`.
    pub wait_policies: Vec<Choice>,
    /// `--page-size`.
    pub page_sizes: Vec<Choice>,
    /// `--target`.
    pub page_kinds: Vec<Choice>,
    /// `--variant`.
    pub variants: Vec<Form>,
    /// Each strategy with each backend, each wait policy and each page size.
    pub combinations: Vec<Way>,
}

impl Choices {
    /// All of them, in the order in which lists show them.
    #[must_use]
    pub fn all() -> Self {
        Self {
            schema: LIST_SCHEMA,
            workloads: WorkloadId::ALL.iter().map(|id| (*id).into()).collect(),
            movers: choices::<Mover>(),
            strategies: choices::<StrategyKind>(),
            backends: choices::<BackendKind>(),
            allocations: choices::<Allocate>(),
            frames_after: choices::<FramesAfter>(),
            fault_locks: choices::<FaultLock>(),
            wait_policies: choices::<WaitKind>(),
            page_sizes: choices::<PageSize>(),
            page_kinds: choices::<PageKind>(),
            variants: Variant::ALL.iter().map(|variant| form(*variant)).collect(),
            combinations: Combination::all().map(way).collect(),
        }
    }

    /// For people: a line each.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        text.push_str("workloads (--workload), below each its parameters (--parameters)\n");
        for workload in &self.workloads {
            line(&mut text, workload.choice.name, workload.choice.about);
            for parameter in &workload.parameters {
                parameter_line(&mut text, parameter);
            }
        }
        section(&mut text, "movers (--mover)", &self.movers);
        section(&mut text, "strategies (--strategy)", &self.strategies);
        section(&mut text, "backends (--backend)", &self.backends);
        section(
            &mut text,
            "when frames are allocated (--allocate)",
            &self.allocations,
        );
        line(
            &mut text,
            "auto",
            "the default: the one that suits the strategy",
        );
        section(
            &mut text,
            "ends that old frames of the pool wait for (--frames-after)",
            &self.frames_after,
        );
        section(
            &mut text,
            "how faults keep their block (--fault-lock)",
            &self.fault_locks,
        );
        section(&mut text, "wait policies (--wait)", &self.wait_policies);
        section(&mut text, "page sizes (--page-size)", &self.page_sizes);
        section(&mut text, "page kinds (--target)", &self.page_kinds);
        text.push_str("variants (--variant), below each what it needs to be caught\n");
        for form in &self.variants {
            line(&mut text, form.choice.name, form.choice.about);
            if let Some(needs) = &form.needs {
                text.push_str(&format!("    {:<22} {needs}\n", "needs"));
            }
        }
        text.push_str(
            "combinations of strategy, backend, wait policy and page size, for every page kind\n",
        );
        for way in &self.combinations {
            let name = format!(
                "{} {} {} {}",
                way.strategy, way.backend, way.wait, way.page_size
            );
            line(&mut text, &name, way.reason.unwrap_or("sound"));
        }
        text
    }

    /// For programs.
    ///
    /// # Panics
    /// Never: plain data has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }
}

fn choices<T: Named>() -> Vec<Choice> {
    let choice = |item: &T| Choice {
        name: item.name(),
        about: item.about(),
    };
    T::ALL.iter().map(choice).collect()
}

fn form(variant: Variant) -> Form {
    Form {
        choice: Choice {
            name: variant.name(),
            about: variant.about(),
        },
        needs: needs(variant),
    }
}

fn way(combination: Combination) -> Way {
    let reason = combination.check().err();
    Way {
        strategy: combination.strategy.name(),
        backend: combination.backend.name(),
        wait: combination.wait.name(),
        page_size: combination.page_size.name(),
        sound: reason.is_none(),
        reason,
    }
}

fn section(text: &mut String, title: &str, choices: &[Choice]) {
    text.push_str(title);
    text.push('\n');
    for choice in choices {
        line(text, choice.name, choice.about);
    }
}

fn line(text: &mut String, name: &str, about: &str) {
    text.push_str(&format!("  {name:<24} {about}\n"));
}

fn parameter_line(text: &mut String, parameter: &ParameterChoice) {
    let ParameterChoice {
        name,
        about,
        range,
        default,
        ..
    } = parameter;
    text.push_str(&format!(
        "    {name:<22} {about}: {range} [default: {default}]\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_show_bounds_or_choices() {
        let number = Parameter::number("readers", "reader threads", 1, 16, 4);
        let choice = Parameter::choice("flavour", "which RCU", &["classic", "srcu"]);
        let mut text = String::new();
        for parameter in [&number, &choice] {
            parameter_line(&mut text, &parameter.into());
        }
        for part in [
            "readers                reader threads: 1 to 16 [default: 4]",
            "which RCU: classic, srcu [default: classic]",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let json = |parameter: &Parameter| {
            serde_json::to_value(ParameterChoice::from(parameter)).expect("plain data")
        };
        assert_eq!(json(&number)["bounds"], serde_json::json!([1, 16]));
        assert!(json(&number).get("choices").is_none());
        assert_eq!(json(&choice)["choices"][1], "srcu");
        assert_eq!(json(&choice)["default"], "classic");
    }

    #[test]
    fn names_everything_once_a_line() {
        let text = Choices::all().to_text();
        let count = |name: &str| {
            // Parameters are indented further.
            let starts = |line: &&str| {
                let item = line
                    .strip_prefix("  ")
                    .and_then(|item| item.split_once("  "));
                item.is_some_and(|(first, _)| first == name)
            };
            text.lines().filter(starts).count()
        };
        for kind in PageKind::TARGETS {
            assert_eq!(count(kind.name()), 1, "{}", kind.name());
        }
        assert_eq!(count("walk"), 1);
        assert_eq!(count("unmap-copy"), 1);
        assert_eq!(count("busted-no-unmap"), 1);
        let refused = Combination::all()
            .filter(|way| way.check().is_err())
            .count();
        let sound = text.lines().filter(|line| line.ends_with(" sound")).count();
        assert_eq!(sound + refused, Combination::all().count());
    }

    #[test]
    fn programs_read_the_same_as_people() {
        let choices = Choices::all();
        let text = choices.to_text();
        let json: serde_json::Value = serde_json::from_str(&choices.to_json()).expect("JSON");
        assert_eq!(json["schema"], LIST_SCHEMA);
        let ways = json["combinations"].as_array().expect("a list");
        assert_eq!(ways.len(), Combination::all().count());
        for way in ways {
            assert_eq!(way["sound"] == true, way["reason"].is_null(), "{way}");
        }
        let forms = json["variants"].as_array().expect("a list");
        let needs = |name| {
            forms
                .iter()
                .find(|form| form["name"] == name)
                .map(|form| form["needs"].clone())
        };
        assert_eq!(needs("none"), Some(serde_json::Value::Null));
        let stall = needs("busted-rcu-stall").expect("a variant");
        let stall = stall.as_str().expect("what it needs");
        assert!(
            text.contains(&format!("needs                  {stall}\n")),
            "{text}"
        );
        assert!(text.contains("takes the classic path at once"), "{text}");
        assert_eq!(json["page_kinds"][0]["name"], PageKind::TARGETS[0].name());
    }
}
