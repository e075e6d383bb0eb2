//! What a workload is told.

use crate::names::hint;
use crate::units::ValueError;
use underfoot_abi::{MAX_PARAMETERS, MIX_PARTS, Parameter, Variant, WorkloadId};

/// The parameter `kind` of a workload that is about RCU.
const PREEMPTIBLE: u64 = 1;

/// A value for each parameter of one workload, all within their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    described: &'static [Parameter],
    values: [u64; MAX_PARAMETERS],
}

impl Parameters {
    /// What `workload` is told in the form `variant` if the user says nothing.
    #[must_use]
    pub fn defaults(workload: WorkloadId, variant: Variant) -> Self {
        Self {
            described: workload.parameters(),
            values: variant.defaults(workload),
        }
    }

    #[cfg(test)]
    fn of(described: &'static [Parameter]) -> Self {
        Self {
            described,
            values: Parameter::defaults(described),
        }
    }

    /// Reads `NAME=VALUE[,NAME=VALUE…]`; what is not named has its default.
    ///
    /// # Errors
    /// [`ValueError`]: a name that `workload` does not have, a value outside its bounds, or the same
    /// name twice; a mix of nothing, pressure by nobody, or boosting of readers that cannot be boosted.
    pub fn parse(workload: WorkloadId, variant: Variant, text: &str) -> Result<Self, ValueError> {
        let told = Self::defaults(workload, variant).with(text)?;
        let is_off = |value: &u64| *value == 0;
        if workload == WorkloadId::Mix && told.values[..MIX_PARTS.len()].iter().all(is_off) {
            return Err(ValueError::Malformed {
                value: text.to_owned(),
                expected: "a mix of at least one workload",
                example: "walk=on",
            });
        }
        let of = |name| told.index(name).map(|index| told.values[index]);
        if workload == WorkloadId::Pressure && of("faulters")? == 0 && of("allocators")? == 0 {
            return Err(ValueError::Malformed {
                value: text.to_owned(),
                expected: "pressure by a faulter or an allocator at least",
                example: "faulters=1",
            });
        }
        if workload == WorkloadId::Torture && of("boost")? != 0 && of("kind")? != PREEMPTIBLE {
            return Err(ValueError::Malformed {
                value: text.to_owned(),
                expected: "boosting of preemptible RCU, the only kind whose readers can be boosted",
                example: "kind=preemptible,boost=on",
            });
        }
        Ok(told)
    }

    fn with(mut self, text: &str) -> Result<Self, ValueError> {
        let mut named = [false; MAX_PARAMETERS];
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| ValueError::Malformed {
                value: part.to_owned(),
                expected: "a parameter with its value",
                example: "NAME=VALUE",
            })?;
            let index = self.index(name.trim())?;
            if std::mem::replace(&mut named[index], true) {
                return Err(ValueError::Twice {
                    value: text.to_owned(),
                    part: name.trim().to_owned(),
                });
            }
            self.values[index] = value_of(&self.described[index], value.trim())?;
        }
        Ok(self)
    }

    fn index(&self, name: &str) -> Result<usize, ValueError> {
        let names = || self.described.iter().map(|parameter| parameter.name);
        names()
            .position(|known| known == name)
            .ok_or_else(|| ValueError::UnknownName {
                value: name.to_owned(),
                what: "parameter of this workload",
                hint: if self.described.is_empty() {
                    "it has none".to_owned()
                } else {
                    hint(name, names())
                },
            })
    }

    /// As the contract with the guest carries them: 0 where the workload has no parameter.
    #[must_use]
    pub const fn values(&self) -> [u64; MAX_PARAMETERS] {
        self.values
    }

    /// The value of the parameter `name`; `None` if the workload has no such parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<u64> {
        Some(self.values[self.index(name).ok()?])
    }

    /// The same as the user writes it.
    ///
    /// # Panics
    /// If there is no such parameter.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        self.shown_with_others(name, &[]).0
    }

    /// The value of the parameter `name` as the user writes it, and what else it may be: all that is
    /// not among `ruled_out`.
    ///
    /// # Panics
    /// If there is no such parameter.
    #[must_use]
    pub fn shown_with_others(&self, name: &str, ruled_out: &[u64]) -> (String, String) {
        let index = self
            .index(name)
            .expect("only parameters of the workload are asked for");
        let parameter = &self.described[index];
        let others: Vec<&str> = (0..)
            .zip(parameter.choices)
            .filter(|(value, _)| !ruled_out.contains(value))
            .map(|(_, choice)| *choice)
            .collect();
        let others = if others.is_empty() {
            let mut values = parameter.least..=parameter.most;
            let least = values.find(|value| !ruled_out.contains(value));
            format!("{} or more", least.unwrap_or(parameter.most))
        } else {
            others.join(" or ")
        };
        (text_of(parameter, self.values[index]), others)
    }

    /// Every value by the name of its parameter, choices by their names too. Empty where the
    /// workload has no parameters.
    #[must_use]
    pub fn to_table(&self) -> toml::Table {
        self.described
            .iter()
            .zip(self.values)
            .map(|(parameter, value)| (parameter.name.to_owned(), shown(parameter, value)))
            .collect()
    }
}

/// `value` as the user writes it.
fn shown(parameter: &Parameter, value: u64) -> toml::Value {
    match usize::try_from(value)
        .ok()
        .and_then(|index| parameter.choices.get(index))
    {
        Some(choice) => toml::Value::String((*choice).to_owned()),
        // TOML integers have 63 bits.
        None => i64::try_from(value).map_or_else(
            |_| toml::Value::String(value.to_string()),
            toml::Value::Integer,
        ),
    }
}

/// The range or the choices of `parameter`, as one reads them in a list.
#[must_use]
pub fn range(parameter: &Parameter) -> String {
    if parameter.choices.is_empty() {
        format!("{} to {}", parameter.least, parameter.most)
    } else {
        parameter.choices.join(", ")
    }
}

/// The default of `parameter` as the user would write it.
#[must_use]
pub fn default_text(parameter: &Parameter) -> String {
    text_of(parameter, parameter.default)
}

fn text_of(parameter: &Parameter, value: u64) -> String {
    match shown(parameter, value) {
        toml::Value::String(text) => text,
        number => number.to_string(),
    }
}

fn value_of(parameter: &Parameter, text: &str) -> Result<u64, ValueError> {
    if !parameter.choices.is_empty() {
        let index = parameter.choices.iter().position(|choice| *choice == text);
        return index
            .map(|index| index as u64)
            .ok_or_else(|| ValueError::UnknownName {
                value: text.to_owned(),
                what: parameter.name,
                hint: hint(text, parameter.choices.iter().copied()),
            });
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Malformed {
            value: format!("{}={text}", parameter.name),
            expected: "a parameter with a whole number",
            example: "NAME=7",
        });
    }
    let value = text.parse().ok();
    value
        .filter(|value| (parameter.least..=parameter.most).contains(value))
        .ok_or_else(|| ValueError::OutOfBounds {
            value: format!("{}={text}", parameter.name),
            least: parameter.least.to_string(),
            most: parameter.most.to_string(),
            remedy: format!(
                "choose a number in between ({}; {} is the default)",
                parameter.about, parameter.default
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DESCRIBED: &[Parameter] = &[
        Parameter::number("readers", "reader threads", 0, 16, 4),
        Parameter::choice("flavour", "which RCU", &["classic", "preemptible", "srcu"]),
        Parameter::number("hold", "time a lock is held, in ns", 1, u64::MAX, 100),
    ];

    fn with(text: &str) -> Result<[u64; 3], String> {
        let values = Parameters::of(DESCRIBED).with(text);
        values
            .map(|parameters| [0, 1, 2].map(|index| parameters.values()[index]))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_named_has_its_default() {
        for (text, values) in [
            ("", [4, 0, 100]),
            ("readers=0", [0, 0, 100]),
            (" flavour = srcu , readers=16", [16, 2, 100]),
            ("hold=18446744073709551615", [4, 0, u64::MAX]),
        ] {
            assert_eq!(with(text).as_ref(), Ok(&values), "{text}");
        }
        assert_eq!(
            Parameters::of(DESCRIBED).values()[3..],
            [0; MAX_PARAMETERS - 3]
        );
    }

    #[test]
    fn refusals_name_value_bound_and_remedy() {
        for (text, parts) in [
            ("raeders=1", &["`raeders`", "mean `readers`"][..]),
            ("x=1", &["`x`", "one of readers, flavour, hold"]),
            (
                "readers=17",
                &[
                    "readers=17",
                    "0 to 16",
                    "reader threads",
                    "4 is the default",
                ],
            ),
            ("readers=99999999999999999999999", &["0 to 16"]),
            ("readers=-1", &["readers=-1", "0 to 16"]),
            ("readers=many", &["readers=many", "whole number"]),
            (
                "flavour=clasic",
                &["`clasic` is not a flavour", "mean `classic`"],
            ),
            (
                "flavour=1",
                &["`1` is not a flavour", "classic, preemptible, srcu"],
            ),
            ("readers", &["`readers`", "NAME=VALUE"]),
            ("readers=1,readers=2", &["`readers` twice"]),
        ] {
            let message = with(text).expect_err(text);
            for part in parts {
                assert!(message.contains(part), "{part} not in {message}");
            }
        }
        let none = Parameters::of(&[]).with("x=1");
        let none = none.map_err(|error| error.to_string());
        let none = none.expect_err("there are no parameters");
        assert!(none.contains("`x`") && none.contains("has none"), "{none}");
    }

    #[test]
    fn a_mix_of_nothing_is_refused() {
        let parts = MIX_PARTS.map(|part| format!("{}=off", part.name()));
        let mix = |text: &str| Parameters::parse(WorkloadId::Mix, Variant::None, text);
        let refusal = mix(&parts.join(",")).map_err(|error| error.to_string());
        let refusal = refusal.expect_err("nothing would run");
        assert!(refusal.contains("at least one workload"), "{refusal}");
        let one = mix(&parts[1..].join(",")).expect("walk is left");
        assert_eq!(one.values()[..2], [1, 0]);
    }

    #[test]
    fn only_readers_that_can_be_boosted_are() {
        let torture = |text: &str| Parameters::parse(WorkloadId::Torture, Variant::None, text);
        assert!(torture("kind=preemptible,boost=on").is_ok());
        for text in ["boost=on", "kind=sleepable,boost=on"] {
            let refusal = torture(text).expect_err(text).to_string();
            for part in [text, "preemptible RCU", "kind=preemptible,boost=on"] {
                assert!(refusal.contains(part), "{part} not in {refusal}");
            }
        }
    }

    #[test]
    fn tables_carry_names() {
        let table = Parameters::of(DESCRIBED)
            .with("flavour=srcu,hold=18446744073709551615")
            .expect("valid")
            .to_table();
        assert_eq!(table["flavour"].as_str(), Some("srcu"));
        assert_eq!(table["readers"].as_integer(), Some(4));
        assert_eq!(table["hold"].as_str(), Some("18446744073709551615"));
        assert_eq!(range(&DESCRIBED[1]), "classic, preemptible, srcu");
        assert_eq!(default_text(&DESCRIBED[1]), "classic");
        assert_eq!(
            (range(&DESCRIBED[0]), default_text(&DESCRIBED[0])),
            ("0 to 16".into(), "4".into())
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|(readers|flavour|hold)=[0-9a-z-]{0,24}") {
            let _ = Parameters::of(DESCRIBED).with(&text);
        }
    }
}
