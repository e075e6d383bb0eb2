//! Which part of a sweep is whose.

use crate::units::ValueError;
use std::fmt;
use std::str::FromStr;

/// One part of several: number `part`, from 1, of `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    part: u32,
    parts: u32,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { part: 1, parts: 1 };

    /// The part of a task of a Slurm array, by the variables that Slurm sets for it; `None` outside of an array.
    ///
    /// Source: `sbatch(1)`, "OUTPUT ENVIRONMENT VARIABLES".
    ///
    /// # Errors
    /// [`ValueError`] if the variables do not belong together.
    pub fn of_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ValueError> {
        let Some(task) = variable("SLURM_ARRAY_TASK_ID") else {
            return Ok(None);
        };
        let number = |name: &str, default: u32| match variable(name) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| malformed(name, &text)),
        };
        let id: u32 = task
            .trim()
            .parse()
            .map_err(|_| malformed("SLURM_ARRAY_TASK_ID", &task))?;
        let first = number("SLURM_ARRAY_TASK_MIN", 0)?;
        let step = number("SLURM_ARRAY_TASK_STEP", 1)?.max(1);
        let last = number("SLURM_ARRAY_TASK_MAX", id)?;
        let parts = number("SLURM_ARRAY_TASK_COUNT", 1)?;
        // A list with gaps (`--array=1,2,7`) says not which place a task has in it.
        let even = last >= first
            && u64::from(last - first) == u64::from(step) * u64::from(parts.max(1) - 1);
        let place = id.checked_sub(first).filter(|above| above % step == 0);
        match place.map(|above| above / step) {
            Some(place) if even && place < parts => Ok(Some(Self {
                part: place + 1,
                parts,
            })),
            _ => Err(ValueError::Malformed {
                value: format!(
                    "SLURM_ARRAY_TASK_ID={id}, from {first} to {last} by {step}, {parts} tasks"
                ),
                expected: "an array without gaps (--array=0-3), or a shard by hand",
                example: "--shard 1/4",
            }),
        }
    }

    /// Whether the run at `place` in the order of all is one of it: runs that follow each other are in different parts.
    #[must_use]
    pub const fn has(self, place: usize) -> bool {
        place % self.parts as usize == self.part as usize - 1
    }

    /// Whether it is all.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }
}

fn malformed(name: &str, text: &str) -> ValueError {
    ValueError::Malformed {
        value: format!("{name}={text}"),
        expected: "a number, as Slurm sets it, or a shard by hand",
        example: "--shard 1/4",
    }
}

impl FromStr for Shard {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
        let parsed = text
            .split_once('/')
            .and_then(|(part, parts)| Some((number(part)?, number(parts)?)))
            .filter(|(part, parts)| part <= parts);
        match parsed {
            Some((part, parts)) => Ok(Self { part, parts }),
            None => Err(ValueError::Malformed {
                value: text.to_owned(),
                expected: "a part of several, from 1",
                example: "1/4",
            }),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slurm(values: &[(&str, &str)]) -> Result<Option<Shard>, ValueError> {
        Shard::of_slurm(|name| {
            let short = name.strip_prefix("SLURM_ARRAY_TASK_")?;
            let found = values.iter().find(|(key, _)| *key == short);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn tasks_of_an_array_are_parts_in_order() {
        for (values, shard) in [
            (&[][..], None),
            (
                &[
                    ("ID", "3"),
                    ("MIN", "0"),
                    ("MAX", "3"),
                    ("COUNT", "4"),
                    ("STEP", "1"),
                ],
                Some("4/4"),
            ),
            (
                &[
                    ("ID", "5"),
                    ("MIN", "5"),
                    ("MAX", "9"),
                    ("COUNT", "3"),
                    ("STEP", "2"),
                ],
                Some("1/3"),
            ),
            (
                &[
                    ("ID", "9"),
                    ("MIN", "5"),
                    ("MAX", "9"),
                    ("COUNT", "3"),
                    ("STEP", "2"),
                ],
                Some("3/3"),
            ),
            (
                &[("ID", "7"), ("MIN", "7"), ("MAX", "7"), ("COUNT", "1")],
                Some("1/1"),
            ),
        ] {
            let told = slurm(values).expect("an array without gaps");
            assert_eq!(told.map(|shard| shard.to_string()).as_deref(), shard);
        }
        for values in [
            &[("ID", "x")][..],
            &[("ID", "7"), ("MIN", "1"), ("MAX", "7"), ("COUNT", "3")],
            &[("ID", "2"), ("MIN", "3"), ("MAX", "4"), ("COUNT", "2")],
            &[
                ("ID", "2"),
                ("MIN", "1"),
                ("MAX", "3"),
                ("COUNT", "2"),
                ("STEP", "2"),
            ],
            &[("ID", "1"), ("MIN", "1"), ("MAX", "9"), ("COUNT", "0")],
        ] {
            let message = slurm(values).expect_err("gaps, or no array").to_string();
            assert!(message.contains("--shard 1/4"), "{message}");
        }
    }

    #[test]
    fn parts_are_from_one() {
        for text in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/4", "1/4/2"] {
            let message = text.parse::<Shard>().expect_err(text).to_string();
            assert!(message.contains("1/4"), "{message}");
        }
        assert_eq!(
            " 2 / 3 "
                .parse::<Shard>()
                .map(|it| it.to_string())
                .as_deref(),
            Ok("2/3")
        );
        assert!(Shard::WHOLE.is_whole() && !"1/2".parse::<Shard>().expect("a part").is_whole());
    }

    proptest! {
        #[test]
        fn each_run_is_in_one_part(parts in 1u32..40, place in 0usize..1000) {
            let of = (1..=parts).filter(|&part| Shard { part, parts }.has(place)).count();
            prop_assert_eq!(of, 1);
        }
    }
}
