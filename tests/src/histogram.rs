//! A histogram of the summary, checked against itself.

use serde_json::Value;

/// The percentiles of a histogram, ascending, between its least and its greatest value.
const ASCENDING: [&str; 7] = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"];

/// A histogram whose arithmetic was found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Values in it.
    pub count: u64,
    /// The median, in ns.
    pub p50_ns: u64,
    /// The greatest value, in ns.
    pub max_ns: u64,
}

impl Histogram {
    /// Checks that the histogram `name` adds up.
    ///
    /// # Panics
    ///
    /// If its buckets, its count, its sum, and its percentiles contradict each other.
    #[must_use]
    pub fn checked(name: &str, value: &Value) -> Self {
        let number = |key: &str| {
            value[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {key} is no whole number in {value}"))
        };
        assert_eq!(value["unit"], "ns", "{name}");
        let count = number("count");
        let buckets = buckets(name, value);
        let in_buckets: u64 = buckets.iter().map(|bucket| bucket.1).sum();
        assert_eq!(in_buckets + number("overflow"), count, "{name}: buckets");
        assert!(
            buckets.is_sorted_by(|low, high| low.0 < high.0),
            "{name}: buckets ascend"
        );
        if count > 0 {
            assert!(
                ASCENDING.is_sorted_by_key(|key| number(key)),
                "{name}: percentiles ascend in {value}"
            );
            // In 128 bits: a count times a long stall leaves 64.
            let (count, sum) = (u128::from(count), u128::from(number("sum")));
            assert!(u128::from(number("min")) * count <= sum, "{name}: sum");
            assert!(u128::from(number("max")) * count >= sum, "{name}: sum");
            if let Some(first) = buckets.first() {
                assert!(first.0 <= number("min"), "{name}: first bucket holds min");
            }
        }
        Self {
            count,
            p50_ns: value["p50"].as_u64().unwrap_or(0),
            max_ns: value["max"].as_u64().unwrap_or(0),
        }
    }
}

fn buckets(name: &str, value: &Value) -> Vec<(u64, u64)> {
    let list = value["buckets"]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: no buckets in {value}"));
    list.iter()
        .map(|bucket| {
            let part = |index: usize| bucket[index].as_u64();
            part(0)
                .zip(part(1))
                .unwrap_or_else(|| panic!("{name}: a bucket is [low_ns, count], not {bucket}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"unit": "ns", "count": 4, "sum": 70, "min": 10, "p50": 10, "p90": 30, "p99": 30,
               "p99_9": 30, "p99_99": 30, "max": 30, "buckets": [[10, 2], [20, 1], [30, 1]],
               "overflow": 0})
    }

    #[test]
    fn takes_one_that_adds_up() {
        let histogram = Histogram::checked("sample", &sample());
        assert_eq!((histogram.count, histogram.max_ns), (4, 30));
    }

    #[test]
    fn refuses_each_contradiction() {
        for (key, wrong) in [
            ("count", json!(5)),
            ("overflow", json!(1)),
            ("p90", json!(31)),
            ("sum", json!(39)),
            ("sum", json!(121)),
            ("buckets", json!([[20, 2], [10, 1], [30, 1]])),
            ("unit", json!("us")),
        ] {
            let mut value = sample();
            value[key] = wrong;
            let refused = std::panic::catch_unwind(|| Histogram::checked("sample", &value));
            assert!(refused.is_err(), "{key} wrong and taken");
        }
    }
}
