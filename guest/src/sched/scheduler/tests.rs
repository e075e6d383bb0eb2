//! The scheduler on the host, where no thread of the guest can run.

use super::*;
use crate::fixture::Fixture;
use underfoot_abi::Variant;

#[test]
fn a_thread_that_was_made_runs_no_earlier_than_it_is_started() {
    let fixture = Fixture::with(2, Variant::None);
    let [here, there] = [0, 1].map(|id| &*Box::leak(Box::new(fixture.cpu(id))));
    let hooks = Hooks {
        switch: |_, _, _| (),
        bottom_halves: |_, _| (),
    };
    let scheduler: &Scheduler = Box::leak(Box::new(Scheduler::new(hooks)));
    for cpu in [here, there] {
        scheduler.adopt(cpu, Priority::NORMAL);
    }
    let make = |on| {
        let stack = Box::leak(Box::new([0_u128; 256])).as_mut_ptr_range();
        let stack = stack.start.expose_provenance()..stack.end.expose_provenance();
        // SAFETY: leaked, aligned to 16 bytes, and the thread's alone; nothing ever runs on it.
        let made = unsafe { scheduler.prepare(on, Priority::NORMAL, stack, |_, _| (), 0) };
        made.expect("numbers are left")
    };
    let threads = [0, 1, 1].map(make);
    let can_run = || [here, there].map(|cpu| !scheduler.is_alone(cpu));
    assert_eq!(can_run(), [false, false]);
    scheduler.start(here, threads[2]);
    assert_eq!(can_run(), [false, true]);
    scheduler.start(here, threads[0]);
    assert_eq!(can_run(), [true, true]);
}
