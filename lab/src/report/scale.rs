//! Where values lie on an axis.

/// A range of numbers laid over a range of places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The least and the greatest number.
    pub from: (f64, f64),
    /// Their places.
    pub to: (f64, f64),
}

impl Scale {
    /// The place of `number`, to a tenth; beyond the ends at the ends.
    pub fn place(self, number: f64) -> f64 {
        let share = (number - self.from.0) / (self.from.1 - self.from.0);
        let place = self.to.0 + share.clamp(0.0, 1.0) * (self.to.1 - self.to.0);
        (place * 10.0).round() / 10.0
    }
}

/// Whole powers of ten that hold all of `least_ns` to `most_ns`, two decades or more: their exponents.
pub(super) fn decades(least_ns: u64, most_ns: u64) -> (u32, u32) {
    let low = least_ns.max(1).ilog10();
    let high = most_ns.max(1).ilog10() + u32::from(!is_power_of_ten(most_ns.max(1)));
    (low, high.max(low + 2))
}

fn is_power_of_ten(value: u64) -> bool {
    10u64.checked_pow(value.ilog10()) == Some(value)
}

/// 10 to the power of `exponent` ns as a label: `100 ns`, `1 µs`.
pub(super) fn decade_label(exponent: u32) -> String {
    let digits = 10u64.pow(exponent % 3);
    let unit = ["ns", "µs", "ms"].get(exponent as usize / 3);
    match unit {
        Some(unit) => format!("{digits} {unit}"),
        None => format!("{} s", 10u64.pow(exponent.saturating_sub(9))),
    }
}

/// Percentiles that an axis names, from no nine to `nines` of them, and where: the number of nines, and the label.
pub(super) fn nines(nines: u32) -> Vec<(f64, String)> {
    let half = (2.0f64.log10(), "50".to_owned());
    let more = (1..=nines).map(|nines| {
        let label = match nines {
            1 => "90".to_owned(),
            2 => "99".to_owned(),
            _ => format!("99.{}", "9".repeat(nines as usize - 2)),
        };
        (f64::from(nines), label)
    });
    std::iter::once(half).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_hold_their_values() {
        for (least, most, expected) in [
            (30, 5_000, (1, 4)),
            (1_000, 1_000, (3, 5)),
            (0, 0, (0, 2)),
            (999, 10_000_000, (2, 7)),
            (1, u64::MAX, (0, 20)),
        ] {
            assert_eq!(decades(least, most), expected, "{least} {most}");
        }
    }

    #[test]
    fn labels() {
        let labels: Vec<_> = [0, 2, 3, 8, 9, 11, 20].map(decade_label).to_vec();
        assert_eq!(
            labels,
            [
                "1 ns",
                "100 ns",
                "1 µs",
                "100 ms",
                "1 s",
                "100 s",
                "100000000000 s"
            ]
        );
        let nines: Vec<_> = nines(4).into_iter().map(|(_, label)| label).collect();
        assert_eq!(nines, ["50", "90", "99", "99.9", "99.99"]);
    }

    #[test]
    fn places_stay_within_the_ends() {
        let scale = Scale {
            from: (1.0, 3.0),
            to: (100.0, 0.0),
        };
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 9.0].map(|number| scale.place(number)),
            [100.0, 100.0, 50.0, 0.0, 0.0]
        );
    }
}
