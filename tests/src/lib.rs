//! Tests across crates, on real KVM and in the boxes.
