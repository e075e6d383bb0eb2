use super::graph::{Chain, Graph};
use crate::{
    fixture,
    sync::{TicketLock, loom_models::explore},
};
use loom::{sync::Arc, thread};

/// Two CPUs see two orders that contradict each other, at once; `locked` is the right form.
fn contradiction(locked: bool) {
    explore(3, move || {
        let shared = Arc::new((TicketLock::<(), false>::new(()), Graph::<2>::new()));
        let take = move |shared: &(TicketLock<(), false>, Graph<2>), id: usize| {
            let cpu = fixture::shared_cpu(id);
            let (held, wanted) = (id as u8, 1 - id as u8);
            if shared.1.knows(1 << held, wanted) {
                return false;
            }
            let _table = locked.then(|| shared.0.lock(&cpu));
            let found = shared.1.add(1 << held, wanted, Chain::default());
            assert!(shared.1.knows(1 << held, wanted), "judged");
            found.is_some()
        };
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || take(&shared, 1))
        };
        let accused = [take(&shared, 0), thread.join().expect("no panic")];
        assert!(accused[0] != accused[1], "one of the two is accused");
    });
}

#[test]
fn loom_lockdep_the_later_of_two_contradictory_orders_is_accused() {
    contradiction(true);
}

#[test]
#[should_panic(expected = "one of the two is accused")]
fn loom_lockdep_orders_judged_at_once_are_overlooked() {
    contradiction(false);
}
