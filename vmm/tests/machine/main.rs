//! Machines that run guests of a few instructions, on KVM.

mod common;
mod control;
mod exits;
mod figures;
mod waits;
