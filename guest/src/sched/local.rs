//! What a thread keeps for the primitives that it uses.

/// One per thread; only that thread writes it, but for what its parts say.
#[derive(Default)]
pub struct ThreadLocal {}

impl ThreadLocal {
    /// That of a new thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}
