//! The minimal KVM virtual machine monitor under underfoot.
