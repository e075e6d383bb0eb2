//! Moves pages of guest memory to other physical frames while the guest runs.
