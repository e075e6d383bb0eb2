//! A few threads' locks, written down in one line.

use crate::{
    Cpu,
    arch::PrivOps,
    fixture::Fixture,
    sync::lockdep::{LockClass, checker::Checker},
};
use std::{cell::RefCell, collections::HashMap, sync::atomic::Ordering::Relaxed};
use underfoot_abi::{Context, ReportKind};

/// One report, as the host would read it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: ReportKind,
    pub(super) words: [u64; 4],
    pub(super) text: String,
}

thread_local! {
    /// The console of the one guest that each test runs at a time.
    static CONSOLE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn console(bytes: &[u8]) {
    CONSOLE.with_borrow_mut(|text| *text += &String::from_utf8_lossy(bytes));
}

/// Interrupts that are open or masked by what the context word says.
struct Ops;

impl PrivOps for Ops {
    fn irq_save(&self, cpu: &Cpu) -> bool {
        let open = !cpu.context().masked();
        cpu.set_masked(true);
        open
    }
    fn irq_restore(&self, cpu: &Cpu, open: bool) {
        cpu.set_masked(!open);
    }
    fn halt(&self, _cpu: &Cpu) {}
    fn kick(&self, _cpu: &Cpu, _id: usize) {}
    fn flush_page(&self, _address: usize) {}
    unsafe fn load_page_table(&self, _root: usize) {}
    unsafe fn write_msr(&self, _msr: u32, _value: u64) {}
    fn flush_all(&self) {}
    fn doorbell(&self, _value: u32) {}
    fn exit(&self, status: u32) -> ! {
        panic!("left with status {status}");
    }
    fn triple_fault(&self) -> ! {
        panic!("triple-faulted");
    }
}

fn new_class(name: &str) -> &'static LockClass {
    Box::leak(Box::new(LockClass::new(name.to_owned().leak())))
}

/// The findings of a guest.
pub(super) fn findings(fixture: &Fixture) -> Vec<Found> {
    let found = fixture.reports().into_iter().map(|report| {
        let len = report.text_len.load(Relaxed) as usize;
        let bytes = report.text[..len].iter().map(|b| b.load(Relaxed)).collect();
        Found {
            kind: ReportKind::from_number(report.kind.load(Relaxed)).expect("a kind"),
            words: report.words.each_ref().map(|word| word.load(Relaxed)),
            text: String::from_utf8(bytes).expect("text"),
        }
    });
    found.collect()
}

/// Plays `script` on a new checker; the reports, and the console.
///
/// A step is `thread:what`: a lock is taken `a`, at a level `a/1`, without waiting `?a`, let go `-a`;
/// interrupts are masked `off` and `on`, bottom halves held back `bhoff` and `bhon`; an interrupt
/// `irq`, and a bottom half `bh`, comes and goes `irq!`, `bh!`.
pub(super) fn reports(script: &str) -> (Vec<Found>, String) {
    CONSOLE.take();
    let checker = Box::leak(Box::new(Checker::new()));
    let fixture = Fixture::new(4);
    let cpus = [0, 1, 2, 3].map(|id| Cpu {
        ops: &Ops,
        console,
        ..fixture.cpu(id)
    });
    let mut classes = HashMap::new();
    for step in script.split_whitespace() {
        let (thread, what) = step.split_once(':').expect("a thread");
        let cpu = &cpus[thread.parse::<usize>().expect("a number")];
        match what {
            "off" | "on" => cpu.set_masked(what == "off"),
            "irq" => cpu.context_add(Context::INTERRUPT),
            "irq!" => cpu.context_sub(Context::INTERRUPT),
            "bh" => cpu.context_add(Context::BOTTOM_HALF),
            "bh!" => cpu.context_sub(Context::BOTTOM_HALF),
            "bhoff" => cpu.bottom_half_disable(),
            "bhon" => cpu.bottom_half_enable(),
            lock => {
                let (name, level) = lock.split_once('/').unwrap_or((lock, "0"));
                let name = name.trim_start_matches(['-', '?']);
                let class = *classes
                    .entry(name.to_owned())
                    .or_insert_with(|| new_class(name));
                let instance = core::ptr::from_ref(class).addr();
                if lock.starts_with('-') {
                    checker.release(cpu, instance);
                } else {
                    let level = level.parse().expect("a level");
                    checker.acquire(cpu, class, level, instance, lock.starts_with('?'));
                }
            }
        }
    }
    (findings(&fixture), CONSOLE.take())
}

/// What [`reports`] finds, in short.
pub(super) fn play(script: &str) -> Vec<(ReportKind, String)> {
    let found = reports(script).0.into_iter();
    found.map(|report| (report.kind, report.text)).collect()
}
