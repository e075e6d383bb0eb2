//! The JSON summary of a run, `underfoot.run/1`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Histogram;

/// What became of the migrations that were begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Begun.
    pub attempted: u64,
    /// On a new frame.
    pub committed: u64,
    /// Back on the old one.
    pub aborted: u64,
    /// Not carried out, because nothing was there to move.
    pub skipped: u64,
}

impl Counters {
    fn parse(value: &Value) -> Self {
        let number = |key: &str| {
            value[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} is no whole number in {value}"))
        };
        let counters = Self {
            attempted: number("attempted"),
            committed: number("committed"),
            aborted: number("aborted"),
            skipped: number("skipped"),
        };
        assert_eq!(
            counters.attempted,
            counters.committed + counters.aborted + counters.skipped,
            "{counters:?} does not add up"
        );
        counters
    }

    fn plus(self, other: Self) -> Self {
        Self {
            attempted: self.attempted + other.attempted,
            committed: self.committed + other.committed,
            aborted: self.aborted + other.aborted,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// The summary of one run.
#[derive(Clone, Debug)]
pub struct Summary(Value);

impl Summary {
    /// Parses it.
    ///
    /// # Panics
    ///
    /// If `text` is no JSON of this schema.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
        assert_eq!(value["schema"], "underfoot.run/1");
        Self(value)
    }

    /// The value at a JSON pointer; null where there is none.
    #[must_use]
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The whole number at a JSON pointer.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn number(&self, pointer: &str) -> u64 {
        self.at(pointer)
            .as_u64()
            .unwrap_or_else(|| panic!("{pointer} is no whole number: {}", self.at(pointer)))
    }

    /// What became of the migrations, in all.
    ///
    /// # Panics
    ///
    /// If the counters do not add up, by outcome or by page kind.
    #[must_use]
    pub fn migration(&self) -> Counters {
        let total = Counters::parse(self.at("/migration"));
        let by_kind = self
            .by_kind()
            .into_values()
            .fold(Counters::default(), Counters::plus);
        assert_eq!(by_kind, total, "page kinds do not add up to the total");
        total
    }

    /// What became of them, by page kind.
    ///
    /// # Panics
    ///
    /// If the counters of a kind do not add up.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<String, Counters> {
        self.at("/migration/by_kind")
            .as_object()
            .expect("migration.by_kind is an object")
            .iter()
            .map(|(kind, value)| (kind.clone(), Counters::parse(value)))
            .collect()
    }

    /// Pages of `kind` whose frames were seen to change.
    #[must_use]
    pub fn verified(&self, kind: &str) -> u64 {
        self.at("/migration/by_kind")[kind]["verified"]
            .as_u64()
            .unwrap_or(0)
    }

    /// The histograms under `section` (`histograms` or `control`), each checked.
    ///
    /// # Panics
    ///
    /// If one contradicts itself.
    #[must_use]
    pub fn histograms(&self, section: &str) -> BTreeMap<String, Histogram> {
        self.0[section]
            .as_object()
            .unwrap_or_else(|| panic!("{section} is an object"))
            .iter()
            .map(|(name, value)| (name.clone(), Histogram::checked(name, value)))
            .collect()
    }

    /// What every finished run that moved pages must satisfy: no integrity error, something
    /// checked, counters and buckets that add up.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn assert_sound(&self) {
        assert_eq!(
            self.number("/integrity/errors"),
            0,
            "{}",
            self.at("/integrity")
        );
        assert!(self.number("/integrity/checked") > 0, "nothing was checked");
        let moved = self.migration();
        let histograms = self.histograms("histograms");
        assert!(!self.histograms("control").is_empty(), "no control");
        assert!(
            moved.committed == 0 || histograms["window"].count > 0,
            "pages moved without a window"
        );
    }

    /// That each vCPU was told of as many pages that came back as of those that were away, and of some; that each was
    /// waited for in one way, and whoever slept was woken. Returns how often each way was taken, over all vCPUs.
    ///
    /// # Panics
    ///
    /// If it was not so.
    #[must_use]
    pub fn page_events(&self) -> BTreeMap<String, u64> {
        const WAYS: [&str; 4] = ["switched", "early", "halted", "masked"];
        let vcpus = self.at("/waits/async").as_array().expect("a list of vCPUs");
        let count = |vcpu: &Value, what: &str| -> u64 {
            let count = vcpu[what].as_u64();
            count.unwrap_or_else(|| panic!("no {what} in {vcpu}"))
        };
        let mut sums = BTreeMap::new();
        for vcpu in vcpus {
            let told = count(vcpu, "not_present");
            assert_eq!(told, count(vcpu, "ready"), "{vcpu}");
            let ways: u64 = WAYS.iter().map(|way| count(vcpu, way)).sum();
            assert_eq!(told, ways, "{vcpu}");
            assert_eq!(count(vcpu, "switched"), count(vcpu, "woken"), "{vcpu}");
            // KVM's answer to being asked to tell.
            assert_eq!(count(vcpu, "broadcasts"), 1, "{vcpu}");
            for way in WAYS {
                *sums.entry(way.to_owned()).or_default() += count(vcpu, way);
            }
        }
        assert!(
            sums.values().sum::<u64>() > 0,
            "no page was away: {vcpus:?}"
        );
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn summary(slab: u64) -> Summary {
        let counters = |committed: u64| json!({"attempted": committed + 2, "committed": committed, "aborted": 1, "skipped": 1});
        let mut migration = counters(10);
        migration["attempted"] = json!(14);
        migration["aborted"] = json!(2);
        migration["skipped"] = json!(2);
        migration["by_kind"] = json!({"text": counters(3), "slab": counters(slab)});
        Summary::parse(&json!({"schema": "underfoot.run/1", "migration": migration}).to_string())
    }

    #[test]
    fn adds_page_kinds_up() {
        assert_eq!(summary(7).migration().committed, 10);
    }

    #[test]
    #[should_panic(expected = "page kinds do not add up")]
    fn refuses_kinds_that_do_not_add_up() {
        let _ = summary(6).migration();
    }

    #[test]
    #[should_panic(expected = "left: String(\"underfoot.run/2\")")]
    fn refuses_another_schema() {
        let _ = Summary::parse(r#"{"schema": "underfoot.run/2"}"#);
    }
}
