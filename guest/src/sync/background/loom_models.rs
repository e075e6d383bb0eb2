use super::{ASKED, Background};
use crate::{
    Cpu,
    sync::{
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed},
        },
        loom_models::{explore, sched::ModelSched},
    },
};
use loom::{sync::Arc, thread};

/// What is to be done. Relaxed: to ask must be enough to have it seen.
type Asked = Arc<(Background, AtomicU32)>;

/// Somebody asks by `wake` while the thread, which was asked before, looks by `look`. It must see what
/// there is to do, or find that it was asked before it sleeps.
fn asked(wake: fn(&Background, &Cpu), look: fn(&Background, &AtomicU32) -> u32) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let asked: Asked = Arc::new((Background::new(), AtomicU32::new(0)));
            asked.0.wake(&sched.cpu(0));
            let asker = {
                let asked = asked.clone();
                thread::spawn(move || {
                    asked.1.store(1, Relaxed);
                    wake(&asked.0, &sched.cpu(0));
                })
            };
            let seen = look(&asked.0, &asked.1);
            asker.join().expect("no panic");
            let again = asked.0.word.load(Acquire) & ASKED != 0;
            assert!(seen != 0 || again, "sleeps for ever");
        });
    });
}

fn forget_and_look(background: &Background, work: &AtomicU32) -> u32 {
    background.forget();
    work.load(Relaxed)
}

#[test]
fn loom_background_forgets_nobody() {
    asked(Background::wake, forget_and_look);
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_background_that_looks_first_sleeps_for_ever() {
    asked(Background::wake, |background, work| {
        let seen = work.load(Relaxed);
        background.forget();
        seen
    });
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_background_that_is_asked_by_a_mere_look_sleeps_for_ever() {
    let wake = |background: &Background, cpu: &Cpu| {
        if background.word.load(Relaxed) & ASKED == 0 {
            background.wake(cpu);
        }
    };
    asked(wake, forget_and_look);
}
