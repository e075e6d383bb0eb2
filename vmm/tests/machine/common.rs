//! A tiny assembler and the machine around it, for guests of a few instructions.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use underfoot_abi::{Cpl, PORT_DOORBELL, PORT_EXIT, PORT_SERIAL, Variant, WorkloadId};
use underfoot_vmm::placement::Placement;
use underfoot_vmm::wait::WaitKind;
use underfoot_vmm::{
    Backing, Boot, Console, ExitReport, HeaderInit, Machine, MachineConfig, MemorySize, MoverInit,
    Wake,
};
use vm_memory::{Bytes, GuestAddress};

/// Where code that the boot processor runs is loaded.
pub const TEXT: u32 = 0x10_0000;
/// Where code that the others run is loaded, in real mode.
pub const TRAMPOLINE: u32 = 0x8000;
/// A word for guests to count in.
pub const COUNTER: u32 = 0x20_0000;
/// A word that real mode reaches.
pub const LOW_COUNTER: u16 = 0x9000;

/// 32-bit protected-mode code, byte by byte.
#[derive(Clone, Default)]
pub struct Code(pub Vec<u8>);

impl Code {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn imm32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn port(self, port: u16) -> Self {
        self.raw(&[0x66, 0xba]).raw(&port.to_le_bytes()) // mov dx, port
    }

    /// mov dx, PORT; mov eax, value; out dx, eax
    pub fn out32(self, port: u16, value: u32) -> Self {
        self.port(port).raw(&[0xb8]).imm32(value).raw(&[0xef])
    }

    pub fn exit(self, status: u32) -> Self {
        self.out32(PORT_EXIT, status)
    }

    pub fn doorbell(self) -> Self {
        self.out32(PORT_DOORBELL, 1)
    }

    pub fn print(self, text: &str) -> Self {
        // mov al, byte; out dx, al
        text.bytes().fold(self.port(PORT_SERIAL), |code, byte| {
            code.raw(&[0xb0, byte, 0xee])
        })
    }

    /// mov dword [address], value
    pub fn store32(self, address: u32, value: u32) -> Self {
        self.raw(&[0xc7, 0x05]).imm32(address).imm32(value)
    }

    /// mov eax, [address]
    pub fn load32(self, address: u32) -> Self {
        self.raw(&[0xa1]).imm32(address)
    }

    /// 1: lock inc dword [address]; jmp 1
    pub fn count_for_ever(self, address: u32) -> Self {
        self.raw(&[0xf0, 0xff, 0x05])
            .imm32(address)
            .raw(&[0xeb, 0xf7])
    }

    /// mov ecx, times; 1: lock inc dword [address]; loop 1
    pub fn count(self, address: u32, times: u32) -> Self {
        self.raw(&[0xb9])
            .imm32(times)
            .raw(&[0xf0, 0xff, 0x05])
            .imm32(address)
            .raw(&[0xe2, 0xf7])
    }

    /// 1: cmp dword [address], value; jne 1
    pub fn wait_for(self, address: u32, value: u32) -> Self {
        self.raw(&[0x81, 0x3d])
            .imm32(address)
            .imm32(value)
            .raw(&[0x75, 0xf4])
    }

    /// lidt of an empty table; mov eax, 0x1000; mov ds, eax: a selector without a descriptor.
    pub fn triple_fault(self) -> Self {
        self.raw(&[0x0f, 0x01, 0x1d])
            .imm32(COUNTER)
            .raw(&[0xb8, 0, 0x10, 0, 0, 0x8e, 0xd8])
    }

    /// 1: hlt; jmp 1
    pub fn halt(self) -> Self {
        self.raw(&[0xf4, 0xeb, 0xfd])
    }

    /// INIT and SIPI to every other CPU: they start at TRAMPOLINE.
    pub fn start_others(self) -> Self {
        let icr = 0xfee0_0300;
        self.store32(icr, 0x000c_4500)
            .store32(icr, 0x000c_4600 | TRAMPOLINE >> 12)
    }
}

/// Real-mode code: lock inc word [LOW_COUNTER]; then lock inc dword [ds:COUNTER] cannot be reached,
/// so it counts there for ever in the word after it.
pub fn trampoline() -> Vec<u8> {
    let [low, high] = LOW_COUNTER.to_le_bytes();
    let [low2, high2] = (LOW_COUNTER + 4).to_le_bytes();
    vec![
        0xf0, 0xff, 0x06, low, high, 0xf0, 0x66, 0xff, 0x06, low2, high2, 0xeb, 0xf8,
    ]
}

fn program_header(kind: u32, offset: u64, address: u32, len: usize) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(7_u32.to_le_bytes());
    for word in [
        offset,
        address.into(),
        address.into(),
        len as u64,
        len as u64,
        4,
    ] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// An ELF file with a PVH note that enters at TEXT.
pub fn elf(code: &Code) -> Vec<u8> {
    let note = {
        let mut note = Vec::new();
        [4_u32, 4, 18]
            .iter()
            .for_each(|word| note.extend(word.to_le_bytes()));
        note.extend(b"Xen\0");
        note.extend(TEXT.to_le_bytes());
        note
    };
    let parts = [
        (1, TEXT, code.0.clone()),
        (1, TRAMPOLINE, trampoline()),
        (4, 0, note),
    ];
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    file.resize(16, 0);
    [2_u16, 62]
        .iter()
        .for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    [u64::from(TEXT), 64, 0]
        .iter()
        .for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64_u16, 56, parts.len() as u16, 64, 0, 0]
        .iter()
        .for_each(|half| file.extend(half.to_le_bytes()));
    let mut offset = 64 + 56 * parts.len() as u64;
    for (kind, address, bytes) in &parts {
        file.extend(program_header(*kind, offset, *address, bytes.len()));
        offset += bytes.len() as u64;
    }
    parts.iter().for_each(|(_, _, bytes)| file.extend(bytes));
    file
}

/// Says that a test does not run, and why.
///
/// # Panics
/// If UNDERFOOT_REQUIRE_KVM=1: then everything that the host can carry must run.
pub fn skip(reason: &str) {
    let required = std::env::var("UNDERFOOT_REQUIRE_KVM").is_ok_and(|value| value == "1");
    assert!(!required, "cannot run: {reason}");
    eprintln!("skipped: {reason}");
}

/// Whether KVM can be used; says that the test is skipped if not.
pub fn have_kvm() -> bool {
    let path = "/dev/kvm";
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    opened
        .inspect_err(|error| skip(&format!("{path}: {error}")))
        .is_ok()
}

pub fn config(image: &[u8], cpus: u32) -> MachineConfig<'_> {
    MachineConfig {
        kvm: PathBuf::from("/dev/kvm"),
        memory: MemorySize::new(16 << 20, 16 << 20).unwrap(),
        backing: Backing::Small,
        slot_size: None,
        cpus,
        boot: Boot { image, cmdline: "" },
        header: HeaderInit {
            seed: 1,
            tsc_khz: 0,
            cpl: Cpl::Auto,
            workload: WorkloadId::Walk,
            variant: Variant::None,
            stall_threshold_ns: 2000,
            probe_period_ns: 0,
            parameters: [0; underfoot_abi::MAX_PARAMETERS],
            mover: MoverInit::HOST,
        },
        console: Console::discard(),
        wait: WaitKind::Halt,
        placement: Placement::default(),
        signals: false,
    }
}

pub fn machine(code: &Code, cpus: u32) -> Machine {
    Machine::new(config(&elf(code), cpus)).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// A deadline that only a test that fails reaches.
pub fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Waits for the first exit.
pub fn exit(machine: &mut Machine) -> ExitReport {
    loop {
        match machine.wait(patience()).unwrap() {
            Wake::Exited(mut reports) => return reports.remove(0),
            Wake::Doorbell => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn word(machine: &Machine, address: u32) -> u32 {
    machine
        .ram()
        .memory()
        .load(GuestAddress(address.into()), Ordering::SeqCst)
        .unwrap()
}

/// Waits until `done` holds.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = patience();
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}
