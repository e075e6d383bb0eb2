//! What the guest's own checkers found, as the guest alleges it.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use underfoot_abi::{Report, ReportKind};

/// A finding of one of the guest's checkers, copied out of the shared region. Nothing in it is to be
/// relied on: the guest may have scribbled over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestReport {
    /// Its place among the reports of all kinds, from 0.
    pub number: u32,
    /// Which checker, or a number that does not belong into its slot.
    pub kind: Result<ReportKind, u32>,
    /// The CPU that found it.
    pub cpu: u32,
    /// TSC.
    pub tsc: u64,
    /// Numbers by kind of report.
    pub words: [u64; 4],
    /// What was found, in one line: what is no text in it, or would steer a terminal, is replaced.
    pub text: String,
}

impl GuestReport {
    /// The report in a slot of `kind`; `None` while it is empty or being written.
    pub(crate) fn read(kind: ReportKind, report: &Report) -> Option<Self> {
        // Pairs with the guest's release: who sees the kind sees the rest.
        let kind = match report.kind.load(Acquire) {
            0 => return None,
            number if number == kind as u32 => Ok(kind),
            number => Err(number),
        };
        let length = (report.text_len.load(Relaxed) as usize).min(report.text.len());
        Some(Self {
            number: report.number.load(Relaxed),
            kind,
            cpu: report.cpu.load(Relaxed),
            tsc: report.tsc.load(Relaxed),
            words: report.words.each_ref().map(|word| word.load(Relaxed)),
            text: guest_text(&report.text[..length]),
        })
    }
}

/// Text that the guest wrote, up to its first zero: what is no text in it, or would steer a terminal,
/// is replaced.
#[must_use]
pub fn guest_text(bytes: &[AtomicU8]) -> String {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|byte| byte.load(Relaxed))
        .take_while(|byte| *byte != 0)
        .collect();
    let harmless = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    String::from_utf8_lossy(&bytes)
        .chars()
        .map(harmless)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Release;

    fn written(kind: u32, text: &[u8]) -> Box<Report> {
        // SAFETY: a report is atomics throughout, for which zero is a valid value.
        let report: Box<Report> = unsafe { Box::new_zeroed().assume_init() };
        for (place, byte) in report.text.iter().zip(text) {
            place.store(*byte, Relaxed);
        }
        report.text_len.store(text.len() as u32, Relaxed);
        report.cpu.store(1, Relaxed);
        report.number.store(2, Relaxed);
        report.words[3].store(7, Relaxed);
        report.kind.store(kind, Release);
        report
    }

    #[test]
    fn reads_what_the_guest_wrote() {
        let kind = ReportKind::LockCycle;
        assert_eq!(GuestReport::read(kind, &written(0, b"half")), None);
        let report = GuestReport::read(kind, &written(kind as u32, b"a -> b -> a"));
        let report = report.expect("written");
        assert_eq!((report.number, report.kind, report.cpu), (2, Ok(kind), 1));
        assert_eq!((report.words, &*report.text), ([0, 0, 0, 7], "a -> b -> a"));
    }

    #[test]
    fn steers_no_terminal() {
        let read =
            |number| GuestReport::read(ReportKind::Fragment, &written(number, b"\x1b[2Jx\ny\xff"));
        let report = read(77).expect("written");
        assert_eq!(report.kind, Err(77));
        assert_eq!(report.text, "\u{fffd}[2Jx\u{fffd}y\u{fffd}");
        // A kind of the contract, in another one's slot.
        let strayed = ReportKind::RcuStall as u32;
        assert_eq!(read(strayed).expect("written").kind, Err(strayed));
    }
}
