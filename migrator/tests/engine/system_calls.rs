//! Every system call of a migration fails now and then, in bursts that outlast its retries: the run ends
//! sound, or with an error that says what it could not do. It never hangs, and loses nothing in silence.

use crate::interposer::{Call, Hit, Interposer, Rule};
use crate::rig::{Rig, rights};
use underfoot_migrator::{BackendKind, MoverError, PageSize, StrategyKind, Verify};

const PAGES: usize = 512;
const GOAL: u64 = 4000;

const COPY: Call = Call::Ioctl(0xc028_aa03);
const MOVE: Call = Call::Ioctl(0xc028_aa05);
const WRITEPROTECT: Call = Call::Ioctl(0xc018_aa06);
const WAKING: u32 = 0x8010_aa02;
const WAKE: Call = Call::Ioctl(WAKING);
const REGISTER: Call = Call::Ioctl(0xc020_aa00);
const READ: Call = Call::Number(libc::SYS_read);
const POLL: Call = Call::Number(libc::SYS_poll);
const PREAD: Call = Call::Number(libc::SYS_pread64);
const MADVISE: Call = Call::Number(libc::SYS_madvise);

/// How a run may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As if nothing had been.
    Well,
    /// Or by an error that ends the mover, which is run once more, or a handler, which is run again.
    OrError,
}

struct Case {
    strategy: StrategyKind,
    backend: BackendKind,
    call: Call,
    hits: &'static [Hit],
    /// Calls in a row that are hit.
    burst: u64,
    end: End,
}

const fn case(
    strategy: StrategyKind,
    backend: BackendKind,
    call: Call,
    hits: &'static [Hit],
    burst: u64,
    end: End,
) -> Case {
    Case {
        strategy,
        backend,
        call,
        hits,
        burst,
        end,
    }
}

use BackendKind::{Copy, Move, Remap};
use End::{OrError, Well};
use Hit::{Errno, Short};
use StrategyKind::{Lazy, ProtectCopy, Transactional, UnmapCopy};

/// Longer than the retries of a step.
const LONG: u64 = 40;

#[rustfmt::skip]
const CASES: [Case; 16] = [
    // What the kernel asks to repeat, and what it says when it has no memory.
    case(UnmapCopy, Move, MOVE, &[Errno(libc::EAGAIN), Errno(libc::EBUSY), Errno(libc::ENOMEM)], LONG, Well),
    case(UnmapCopy, Move, MOVE, &[Errno(libc::EINTR)], 1, Well),
    case(ProtectCopy, Move, MOVE, &[Errno(libc::EAGAIN), Errno(libc::ENOMEM)], LONG, Well),
    case(Transactional, Move, MOVE, &[Errno(libc::EBUSY), Errno(libc::ENOMEM)], LONG, Well),
    case(Lazy, Copy, MOVE, &[Errno(libc::EAGAIN), Errno(libc::ENOMEM)], LONG, Well),
    case(UnmapCopy, Copy, COPY, &[Errno(libc::EAGAIN), Errno(libc::ENOMEM)], LONG, Well),
    case(Lazy, Copy, COPY, &[Errno(libc::EAGAIN), Errno(libc::ENOMEM)], LONG, Well),
    case(ProtectCopy, Move, WRITEPROTECT, &[Errno(libc::EAGAIN), Errno(libc::ENOMEM)], LONG, Well),
    case(ProtectCopy, Remap, WRITEPROTECT, &[Errno(libc::EAGAIN)], LONG, Well),
    case(ProtectCopy, Remap, Call::MapFixed, &[Errno(libc::ENOMEM), Errno(libc::EAGAIN)], 3, Well),
    case(ProtectCopy, Remap, REGISTER, &[Errno(libc::ENOMEM), Errno(libc::EBUSY)], 3, OrError),
    case(ProtectCopy, Remap, WAKE, &[Errno(libc::EAGAIN), Errno(libc::EINVAL)], 1, OrError),
    case(UnmapCopy, Copy, MADVISE, &[Errno(libc::EAGAIN), Errno(libc::EINVAL)], 1, OrError),
    case(Lazy, Copy, READ, &[Errno(libc::EINTR), Errno(libc::EAGAIN), Short(32)], LONG, Well),
    case(Lazy, Copy, POLL, &[Errno(libc::EINTR)], LONG, Well),
    case(UnmapCopy, Move, PREAD, &[Errno(libc::EINTR), Short(8)], LONG, Well),
];

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_run_whose_system_calls_fail_ends_sound_or_says_why_not() {
    if !rights() {
        return;
    }
    for case in &CASES {
        for &hit in case.hits {
            fails(case, hit);
        }
    }
}

/// Calls between bursts.
fn spared(call: Call) -> u64 {
    match call {
        // Odd, so that bursts begin at each step of a window.
        Call::Ioctl(request) if request != WAKING => 151,
        Call::MapFixed => 151,
        // Far fewer than windows.
        // Few, and each may end the mover.
        MADVISE => 7,
        _ => 1,
    }
}

fn fails(case: &Case, hit: Hit) {
    let what = format!("{} {} {:?} {hit:?}", case.strategy, case.backend, case.call);
    let rig = Rig::fit(case.backend, PAGES);
    let migrator = rig
        .builder()
        .strategy(case.strategy)
        .backend(case.backend)
        .batch(4)
        .verify(Verify::Full)
        .page_size(PageSize::Small)
        .build()
        .expect("sound");
    let interposer = Interposer::new(
        Rule {
            call: case.call,
            hit,
            spared: spared(case.call),
            burst: case.burst,
        },
        2,
    );
    let enough = || migrator.counters().total().attempted >= GOAL && interposer.hits() > 0;
    let outcome = rig.run_as(&migrator, 1, PAGES, &enough, &|| interposer.enter());
    let hits = interposer.end();
    outcome.assert_sound(&what);
    assert_eq!(outcome.counters.lost_pages, 0, "{what}");
    match &outcome.mover {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(case.end, OrError, "{what}: {error}");
            assert!(
                !matches!(error, MoverError::Panicked { .. } | MoverError::Lost { .. }),
                "{what}: {error}"
            );
        }
    }
    let handlers = &outcome.handlers;
    assert!(
        handlers.is_empty() || case.end == OrError,
        "{what}: {handlers:?}"
    );
    assert!(hits > 0, "{what}: no call was hit");
    let total = outcome.counters.total();
    assert!(total.committed > 0, "{what}: {total:?}");
}
