//! From reset to the guest's first Rust line: boot, descriptor tables, the ring-0 trap layer.
