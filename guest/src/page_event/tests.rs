use super::{BROADCAST, Ready, SLOTS, Waiters};
use crate::sched::ThreadId;

/// The token of the `count`th page of vCPU 3.
const fn token(count: u32) -> u32 {
    count << 12 | 3
}

#[test]
fn who_sleeps_is_named_once_and_who_does_not_never() {
    let waiters = Waiters::new();
    assert!(waiters.sleeps(token(1), ThreadId(7)));
    waiters.stays(token(2));
    assert!(
        waiters.sleeps(token(1 + SLOTS as u32), ThreadId(8)),
        "the same place"
    );
    assert_eq!(waiters.ready(token(2)), Ready::Nobody);
    assert_eq!(waiters.ready(token(1)), Ready::Sleeper(ThreadId(7)));
    assert_eq!(waiters.ready(token(1)), Ready::Early, "named once");
    assert_eq!(
        waiters.ready(token(1 + SLOTS as u32)),
        Ready::Sleeper(ThreadId(8))
    );
    assert!(waiters.is_empty());
}

#[test]
fn ready_that_comes_early_keeps_from_sleeping() {
    let waiters = Waiters::new();
    for sleeps in [true, false] {
        assert_eq!(waiters.ready(token(5)), Ready::Early);
        waiters.note_early(token(5));
        assert!(!waiters.is_empty());
        if sleeps {
            assert!(!waiters.sleeps(token(5), ThreadId(1)));
        } else {
            waiters.stays(token(5));
        }
        assert!(waiters.is_empty());
    }
}

#[test]
fn a_broadcast_wakes_every_sleeper_and_forgets_the_rest() {
    let waiters = Waiters::new();
    assert!(waiters.sleeps(token(1), ThreadId(1)));
    assert!(waiters.sleeps(token(2), ThreadId(2)));
    waiters.stays(token(3));
    waiters.note_early(token(4));
    let mut woken = Vec::new();
    waiters.ready_all(|thread| woken.push(thread.0));
    woken.sort_unstable();
    assert_eq!(woken, [1, 2]);
    assert!(waiters.is_empty());
}

#[test]
fn as_many_as_kvm_tells_of_have_room() {
    let waiters = Waiters::new();
    for count in 0..SLOTS as u32 {
        // All of them belong in two places.
        let token = token(1 + count % 2 + SLOTS as u32 * (count / 2));
        assert!(waiters.sleeps(token, ThreadId(count)));
    }
    for count in (0..SLOTS as u32).rev() {
        let token = token(1 + count % 2 + SLOTS as u32 * (count / 2));
        assert_eq!(waiters.ready(token), Ready::Sleeper(ThreadId(count)));
    }
    assert!(waiters.is_empty());
}

#[test]
#[should_panic(expected = "is no page's token")]
fn a_broadcast_is_no_page() {
    Waiters::new().stays(BROADCAST);
}

#[test]
#[should_panic(expected = "said twice")]
fn a_page_is_away_once() {
    let waiters = Waiters::new();
    waiters.stays(token(1));
    waiters.stays(token(1));
}
