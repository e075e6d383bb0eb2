//! Exact decimal numbers with a unit behind them.

/// Splits `text` into its number and the unit behind it, blanks around both dropped.
pub(super) fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// What became of a decimal number times a scale.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scaled {
    /// A whole number.
    Whole(u64),
    /// Not whole; the nearest whole number below.
    Fraction(u64),
    /// Beyond `u64`.
    TooLarge,
    /// Not a decimal number.
    Malformed,
}

/// `number` (digits, at most one point) times `scale`, without rounding: integers only, because
/// `0.1 * 1e9` as a float is not what was written.
pub(super) fn scale(number: &str, scale: u64) -> Scaled {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Scaled::Malformed;
    }
    if number.contains('.') && fraction.is_empty() {
        return Scaled::Malformed;
    }
    let fraction = fraction.trim_end_matches('0');
    // 18 digits keep `fraction * scale` inside 128 bits for every u64 scale.
    if fraction.len() > 18 {
        return Scaled::Malformed;
    }
    let Ok(whole) = whole.parse::<u64>() else {
        return Scaled::TooLarge;
    };
    let scale = u128::from(scale);
    let divisor = 10u128.pow(fraction.len() as u32);
    let part = fraction.parse::<u128>().unwrap_or(0) * scale;
    match u64::try_from(u128::from(whole) * scale + part / divisor) {
        Ok(value) if part.is_multiple_of(divisor) => Scaled::Whole(value),
        Ok(value) => Scaled::Fraction(value),
        Err(_) => Scaled::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_exactly() {
        assert_eq!(scale("0.1", 1_000_000_000), Scaled::Whole(100_000_000));
        assert_eq!(scale("1.50", 2), Scaled::Whole(3));
        assert_eq!(scale("0.3", 2), Scaled::Fraction(0));
        assert_eq!(scale("18446744073709551616", 1), Scaled::TooLarge);
        assert_eq!(scale("18446744073709551615", 2), Scaled::TooLarge);
        for bad in ["", ".", "1.", ".5", "1.2.3", "1.0000000000000000001"] {
            assert_eq!(scale(bad, 1), Scaled::Malformed, "{bad}");
        }
    }

    #[test]
    fn splits_at_the_unit() {
        assert_eq!(split_unit(" 20 % "), ("20", "%"));
        assert_eq!(split_unit("10"), ("10", ""));
        assert_eq!(split_unit("parsecs"), ("", "parsecs"));
    }
}
