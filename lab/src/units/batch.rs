//! Pages in one window.

use super::ValueError;
use super::count::{count, parse_count};
use std::fmt;
use std::str::FromStr;

count!(
    /// Contiguous pages that share one window: 1 to 512 (2 MiB).
    Batch,
    512,
    "a number of pages",
    "512 pages of 4KiB are 2MiB, the largest window"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!("512".parse::<Batch>().map(Batch::get), Ok(512));
        for text in ["0", "513"] {
            let message = text.parse::<Batch>().expect_err(text).to_string();
            assert!(
                message.contains(text) && message.contains("1 to 512"),
                "{message}"
            );
        }
    }
}
