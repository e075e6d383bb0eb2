//! Telling the host what a checker found, and the console too.

use crate::{Cpu, arch::tsc};
use core::fmt::{self, Write};
use core::sync::atomic::{
    AtomicU8,
    Ordering::{Relaxed, Release},
};
use underfoot_abi::{REPORT_TEXT, ReportKind};

/// One line on its way to the host; what does not fit is cut.
struct Line {
    bytes: [u8; REPORT_TEXT],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if let Some(place) = self.bytes.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// Reports a finding: `words` are the numbers that the host shows beside `text`. From anywhere.
#[cold]
pub fn report(cpu: &Cpu, kind: ReportKind, words: [u64; 4], text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; REPORT_TEXT],
        used: 0,
    };
    // It never fails.
    let _ = line.write_fmt(text);
    let text = &line.bytes[..line.used];
    // Whoever writes to the console keeps others from it.
    let open = cpu.ops.irq_save(cpu);
    for part in [kind.name().as_bytes(), b": ", text, b"\n"] {
        (cpu.console)(part);
    }
    cpu.ops.irq_restore(cpu, open);
    let number = cpu.header.reports_made.fetch_add(1, Relaxed);
    let of_kind = &cpu.header.reports[kind.index()];
    let made = of_kind.made.fetch_add(1, Relaxed);
    let Some(slot) = of_kind.first.get(made as usize) else {
        return;
    };
    slot.number.store(number, Relaxed);
    slot.cpu.store(cpu.id as u32, Relaxed);
    slot.tsc.store(tsc(), Relaxed);
    for (place, word) in slot.words.iter().zip(words) {
        place.store(word, Relaxed);
    }
    copy(&slot.text, text);
    slot.text_len.store(text.len() as u32, Relaxed);
    // Pairs with the host's acquire: who sees the kind sees the rest.
    slot.kind.store(kind as u32, Release);
}

pub(super) fn copy(to: &[AtomicU8], from: &[u8]) {
    for (place, byte) in to.iter().zip(from) {
        place.store(*byte, Relaxed);
    }
}
