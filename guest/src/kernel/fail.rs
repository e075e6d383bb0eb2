//! How the kernel ends when it can't go on: registers, a message, and a word to the host.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::{Relaxed, Release};
use underfoot_abi::{Cpl, GuestState, Header};
use underfoot_firmware::{TrapFrame, kernel_cpl};
use underfoot_guest::arch::{PrivOps, Ring0, exit_from_ring3};

use super::{console, state};

/// Status with which the guest leaves after a failure.
const EXIT_FAILED: u32 = 1;
/// By these words a fault of the processor is told apart from one of ours.
const MASKED_INTERRUPT: &str = "an interrupt was delivered while they were masked";

/// Collects a line so that the console, and the host, get it whole: each write may cost an exit.
pub struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Line {
    pub const fn new() -> Self {
        Self {
            bytes: [0; 512],
            used: 0,
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.used;
        let taken = text.len().min(room);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        Ok(())
    }
}

/// Prints one formatted line on the console.
pub fn print(line: fmt::Arguments<'_>) {
    let mut text = Line::new();
    // Neither writer can fail.
    let _ = text.write_fmt(line);
    let _ = text.write_str("\n");
    console::write(text.as_bytes());
}

/// Ends the guest.
pub fn exit(status: u32) -> ! {
    match kernel_cpl() {
        Cpl::Zero => Ring0.exit(status),
        Cpl::Three | Cpl::Auto => exit_from_ring3(status),
    }
}

/// Ends the guest by a trap that nobody expected.
pub fn unexpected_trap(cpu: usize, frame: &TrapFrame) -> ! {
    publish_registers(cpu, frame);
    panic!("cpu {cpu}: unexpected trap: {frame:#x?}");
}

/// Ends the guest by an interrupt that no processor delivers: the interrupted context had them masked, so
/// that what the trap layer had not yet saved is lost. QEMU's TCG does it under nested SVM: see
/// CONTRIBUTING.md.
pub fn interrupt_while_masked(cpu: usize, frame: &TrapFrame) -> ! {
    publish_registers(cpu, frame);
    panic!(
        "cpu {cpu}: {MASKED_INTERRUPT}, vector {:#x} at rip {:#x}: the processor's fault, or its emulator's",
        frame.vector, frame.rip
    );
}

/// Puts the registers of a trap where the host finds them.
fn publish_registers(cpu: usize, frame: &TrapFrame) {
    if let Some(header) = state::header() {
        let words = [
            frame.vector,
            frame.error,
            frame.rip,
            frame.rsp,
            frame.cr2,
            cpu as u64,
        ];
        for (slot, word) in header.crash.iter().zip(words) {
            slot.store(word, Relaxed);
        }
    }
}

/// What was found, or the end of the guest for want of memory: that is no fault of the guest's, so the
/// host is told what lacked.
pub fn wanted<T>(found: Option<T>, what: &str) -> T {
    found.unwrap_or_else(|| out_of_memory(format_args!("{what}")))
}

/// Ends the guest, which has too little memory for `what`.
pub fn out_of_memory(what: fmt::Arguments<'_>) -> ! {
    let mut line = Line::new();
    // The writer cannot fail.
    let _ = line.write_fmt(what);
    if let Some(header) = state::header() {
        publish(header, line.as_bytes(), GuestState::TooLittleMemory);
    }
    print(format_args!("too little memory for {what}"));
    exit(EXIT_FAILED)
}

fn publish(header: &Header, text: &[u8], state: GuestState) {
    let bytes = &text[..text.len().min(header.message.len())];
    for (slot, byte) in header.message.iter().zip(bytes) {
        slot.store(*byte, Relaxed);
    }
    header.message_len.store(bytes.len() as u32, Relaxed);
    // Pairs with the host's acquire: who sees the state sees the message.
    header.state.store(state as u32, Release);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    let _ = write!(line, "guest panic: {info}");
    if let Some(header) = state::header() {
        publish(header, line.as_bytes(), GuestState::Failed);
    }
    print(format_args!(
        "{}",
        core::str::from_utf8(line.as_bytes()).unwrap_or("guest panic")
    ));
    exit(EXIT_FAILED)
}
