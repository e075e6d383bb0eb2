//! Standard output.

use crate::error::Error;
use std::io::Write;

/// Writes `text` to standard output and flushes it: only then is it known that it was taken.
///
/// # Errors
/// [`Error::Stdout`]; see [`Error::is_broken_pipe`].
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::Stdout)
}
