//! Ratios of two sides, slice by slice, and bars for them.

use std::fmt;

/// Ratios, one for each pair of slices.
#[derive(Clone, Debug, Default)]
pub struct Ratios(Vec<f64>);

impl Ratios {
    /// Of `above` to `below`, pair by pair. A pair in which either side has no value is left out.
    pub fn of<'a>(
        above: impl IntoIterator<Item = &'a Option<f64>>,
        below: impl IntoIterator<Item = &'a Option<f64>>,
    ) -> Self {
        let pairs = above.into_iter().zip(below);
        pairs
            .filter_map(|(above, below)| Some((*above)? / (*below)?))
            .collect()
    }

    /// As displayed, with four decimals.
    #[must_use]
    pub fn precise(&self) -> String {
        self.rounded_to(4)
    }

    fn rounded_to(&self, decimals: usize) -> String {
        match (self.0.first(), self.median(), self.0.last()) {
            (Some(least), Some(median), Some(most)) => {
                format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
            }
            _ => "-".to_owned(),
        }
    }

    /// The median; none of no pairs.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.0.get(self.0.len() / 2).copied()
    }
}

impl FromIterator<f64> for Ratios {
    fn from_iter<T: IntoIterator<Item = f64>>(ratios: T) -> Self {
        let mut ratios: Vec<f64> = ratios
            .into_iter()
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        Self(ratios)
    }
}

/// The median and, in parentheses, least and greatest.
impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.rounded_to(2))
    }
}

/// The median of what there is.
pub fn median(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    values.into_iter().flatten().collect::<Ratios>().median()
}

/// A number without decimals, or a dash.
#[must_use]
pub fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

/// What was held against bars. A benchmark ends by [`Bars::end`].
#[derive(Debug, Default)]
pub struct Bars {
    above: u32,
}

impl Bars {
    /// Says whether the median is at most `bar`. Where nothing was measured, it is not.
    #[must_use]
    pub fn hold(&mut self, ratios: &Ratios, bar: f64) -> String {
        self.hold_value(ratios.median(), bar)
    }

    /// The same for a value.
    #[must_use]
    pub fn hold_value(&mut self, value: Option<f64>, bar: f64) -> String {
        let within = value.is_some_and(|value| value <= bar);
        self.above += u32::from(!within);
        let verdict = if within { "within" } else { "ABOVE" };
        // Without zeroes at the end.
        format!("{verdict} {}", (bar * 1000.0).round() / 1000.0)
    }

    /// Ends the process with status 1 if a bar was not met.
    pub fn end(self) {
        if self.above > 0 {
            println!("{} above their bars", self.above);
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_without_a_value_are_left_out_and_nothing_is_within_no_bar() {
        let above = [Some(3.0), None, Some(2.0), Some(8.0)];
        let below = [Some(2.0), Some(1.0), Some(2.0), Some(2.0)];
        let ratios = Ratios::of(&above, &below);
        assert_eq!(ratios.to_string(), "1.50 (1.00 to 4.00)");
        let mut bars = Bars::default();
        assert_eq!(bars.hold(&ratios, 1.5), "within 1.5");
        assert_eq!(bars.above, 0);
        assert_eq!(bars.hold(&ratios, 1.4), "ABOVE 1.4");
        assert_eq!(bars.hold(&Ratios::default(), 1.4), "ABOVE 1.4");
        assert_eq!(bars.above, 2);
    }
}
