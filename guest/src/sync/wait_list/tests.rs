use super::*;
use crate::fixture::Fixture;

/// The list's threads with their tags, taken off it.
fn drain(list: &mut WaitList, sched: &dyn Sched) -> Vec<(u32, u32)> {
    std::iter::from_fn(|| {
        let (first, tag) = list.first(sched)?;
        assert_eq!(list.pop(sched), Some(first));
        assert!(!WaitList::has(sched, first));
        Some((first.0, tag))
    })
    .collect()
}

#[test]
fn threads_leave_in_the_order_in_which_they_came_or_from_anywhere() {
    let fixture = Fixture::new(1);
    let sched = fixture.cpu(0).sched;
    // By the threads that are removed from 4, 2, 7, 0 before the rest is taken off.
    for (removed, rest) in [
        (&[][..], &[(4, 40), (2, 20), (7, 70), (0, 0)][..]),
        (&[4], &[(2, 20), (7, 70), (0, 0)]),
        (&[7], &[(4, 40), (2, 20), (0, 0)]),
        (&[0], &[(4, 40), (2, 20), (7, 70)]),
        (&[0, 7, 3], &[(4, 40), (2, 20)]),
        (&[4, 2, 7, 0], &[]),
    ] {
        let mut list = WaitList::new();
        for thread in [4, 2, 7, 0] {
            list.push(sched, ThreadId(thread), thread * 10);
            assert!(WaitList::has(sched, ThreadId(thread)));
        }
        for thread in removed {
            list.remove(sched, ThreadId(*thread));
        }
        // The end of the list is right too.
        list.push(sched, ThreadId(9), 90);
        assert_eq!(drain(&mut list, sched), [rest, &[(9, 90)]].concat());
        assert!(list.is_empty());
    }
}
