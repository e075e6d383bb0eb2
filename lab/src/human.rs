//! Numbers for people: aligned, with a unit, three digits that mean something.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time with a unit: `873 ns`, `6.31 µs`, `120 ms`. Never wider than 7 characters below 1000 s.
#[must_use]
pub fn time(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    let units = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    for (scale, unit) in units {
        let value = ns as f64 / scale;
        // 999.5 would be printed as 1000.
        if value < 999.5 || unit == "s" {
            return format!("{} {unit}", three_digits(value));
        }
    }
    unreachable!("seconds take every value")
}

/// `value` with three digits, or with all before the point where there are more.
fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Bytes, with three digits and a binary unit.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 1023.5 would be printed as 1024.
    while value >= 1023.5
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    format!("{} {unit}", three_digits(value))
}

/// A count with a comma at every third digit.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in at most six characters: `999,999`, then `12.3M`.
#[must_use]
pub fn short_count(value: u64) -> String {
    const UNITS: [(f64, &str); 5] = [
        (1e6, "M"),
        (1e9, "G"),
        (1e12, "T"),
        (1e15, "P"),
        (1e18, "E"),
    ];
    if value < 1_000_000 {
        return count(value);
    }
    let number = value as f64;
    let (scale, unit) = UNITS
        .into_iter()
        .find(|(scale, _)| number / scale < 999.5)
        .unwrap_or(UNITS[4]);
    format!("{}{unit}", three_digits(number / scale))
}

/// A count in at most four characters: `9999`, `31k`, `1.2M`.
#[must_use]
pub fn tiny_count(value: u64) -> String {
    const UNITS: [(f64, &str); 6] = [
        (1e3, "k"),
        (1e6, "M"),
        (1e9, "G"),
        (1e12, "T"),
        (1e15, "P"),
        (1e18, "E"),
    ];
    if value < 10_000 {
        return value.to_string();
    }
    let number = value as f64;
    let (scale, unit) = UNITS
        .into_iter()
        .find(|(scale, _)| number / scale < 999.5)
        .unwrap_or(UNITS[5]);
    let places = usize::from(number / scale < 9.95);
    format!("{:.places$}{unit}", number / scale)
}

/// A share (0 to 1) in per cent, with as many places as show something: `0.012 %`.
#[must_use]
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 1.0 {
        format!("{percent:.1} %")
    } else if percent >= 0.001 {
        format!("{percent:.3} %")
    } else {
        "<0.001 %".to_owned()
    }
}

/// `text` in lines of at most `width` columns, broken between words; a word that is longer has a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `text` as a field of CSV (RFC 4180).
#[must_use]
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// `time` in UTC as `20261121T042201Z`: sorts by time and is a file name everywhere.
#[must_use]
pub fn utc_stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day comes last: then month lengths repeat
/// every five months (153 days), and leap years every 400 years (146,097 days).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // 719,468 days from 0000-03-01 to 1970-01-01.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_990, "9.99 µs"),
            (9_999, "10.0 µs"),
            (99_960, "100 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (1_500_000_000, "1.50 s"),
            (1_500_000_000_000, "1500 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.00 KiB"),
            (67_584, "66.0 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_200, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(short_count(999_999), "999,999");
        assert_eq!(short_count(12_345_678), "12.3M");
        assert_eq!(short_count(u64::MAX), "18.4E");
        assert_eq!(tiny_count(9_999), "9999");
        assert_eq!(tiny_count(31_234), "31k");
        assert_eq!(tiny_count(999_999), "1.0M");
        assert_eq!(tiny_count(u64::MAX), "18E");
        assert_eq!(share(0.0), "0.0 %");
        assert_eq!(share(0.000_12), "0.012 %");
        assert_eq!(share(0.5), "50.0 %");
        assert_eq!(share(0.000_000_1), "<0.001 %");
    }

    #[test]
    fn lines_break_between_words() {
        assert!(wrap(" ", 5).is_empty());
        assert_eq!(
            wrap("a bc  déf g incredible x", 5),
            ["a bc", "déf g", "incredible", "x"]
        );
    }

    #[test]
    fn dates() {
        let at = |seconds| utc_stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_399), "20000228T235959Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_709_164_800), "20240229T000000Z");
        assert_eq!(at(1_795_235_321), "20261121T042841Z");
        assert_eq!(at(4_102_444_799), "20991231T235959Z");
    }
}
