//! Which tool this is.

/// The name of the package and of the command.
pub const NAME: &str = env!("CARGO_PKG_NAME");

/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-dirty` behind it where files differed; `None` where it
/// was not built from a repository.
pub const COMMIT: Option<&str> = option_env!("UNDERFOOT_COMMIT");
