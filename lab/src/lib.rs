//! Moves a running guest kernel's pages behind its back and measures what it feels.
