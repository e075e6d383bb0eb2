//! The engine in a plain process, with threads in the guest's place.

mod budget;
mod builder;
mod busted;
mod consumers;
mod faults;
mod frames;
mod huge;
mod interposer;
mod kernel;
mod lost;
mod moving;

mod plug;
mod prefetch;
mod rig;
mod signals;
mod slots;
mod system_calls;
mod torment;
mod uffds;
mod watchdog;
