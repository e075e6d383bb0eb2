//! The guest in QEMU, migrated by postcopy from one process to another over a Unix socket.

use crate::qmp::Qmp;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_benches::flat::{self, Log, Stalls};

const BINARY: &str = "qemu-system-x86_64";
/// All that KVM offers, but for a register that kvm-pvm offers and refuses.
const CPU: &str = "host,arch-capabilities=off";
/// A line of QEMU's log for each page that it asks the source for. It costs the request a microsecond.
const REQUEST: &str = "postcopy_ram_fault_thread_request";
const UP: Duration = Duration::from_secs(30);
const DONE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Bytes per second before the switch: nearly all pages are left for after it.
const BEFORE: u64 = 4096;

/// What QEMU is here, if it is.
pub fn version() -> Option<String> {
    let said = Command::new(BINARY).arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    said.lines().next().map(str::to_owned)
}

/// How QEMU does it.
pub struct Way {
    pub name: &'static str,
    capabilities: &'static [&'static str],
}

pub const WAYS: [Way; 2] = [
    Way {
        name: "one channel",
        capabilities: &["postcopy-ram"],
    },
    Way {
        name: "one for pages asked for",
        capabilities: &["postcopy-ram", "postcopy-preempt"],
    },
];

/// One migration of a guest that runs.
///
/// # Errors
/// What QEMU said.
///
/// # Panics
/// If the guest read what it did not write.
pub fn round(way: &Way) -> io::Result<Stalls> {
    let folder = tempfile::tempdir()?;
    let rom = folder.path().join("rom");
    fs::write(&rom, flat::rom())?;
    let mut source = Machine::start(folder.path(), "source", &rom, &[])?;
    let mut target = Machine::start(folder.path(), "target", &rom, &["-incoming", "defer"])?;
    source.wait_until_ready()?;
    for machine in [&mut source, &mut target] {
        machine.allow(way.capabilities)?;
    }
    let uri = format!("unix:{}", folder.path().join("pages").display());
    target.qmp.ask("migrate-incoming", json!({"uri": uri}))?;
    // After the switch there is no bound. With one, pages that are asked for wait for it too at times, 100 ms long.
    let rate = json!({"max-bandwidth": BEFORE});
    source.qmp.ask("migrate-set-parameters", rate)?;
    source.qmp.ask("migrate", json!({"uri": uri}))?;
    source.wait_for("active")?;
    source.qmp.ask("migrate-start-postcopy", json!({}))?;
    source.wait_for("completed")?;
    let since = Log::new(source.memory(Log::HEADER_BYTES)?).cursor();
    let log = Log::new(target.memory(flat::LOG_BYTES)?);
    log.check();
    let demanded = target.requests()?;
    Ok(Stalls::of_ticks(&log.ticks_of(&demanded, since)))
}

/// One QEMU.
struct Machine {
    qmp: Qmp,
    _process: Process,
    folder: PathBuf,
}

/// Ended with whoever started it.
struct Process(Child);

impl Machine {
    fn start(folder: &Path, name: &str, rom: &Path, more: &[&str]) -> io::Result<Self> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let monitor = folder.join("qmp");
        let megabytes = (flat::MEMORY >> 20).to_string();
        let process = Command::new(BINARY)
            .args(["-accel", "kvm", "-machine", "pc", "-cpu", CPU])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-m", &megabytes, "-bios"])
            .arg(rom)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("said"))?)
            .args(["-trace", REQUEST, "-D"])
            .arg(folder.join("trace"))
            .spawn()
            .map(Process)?;
        let qmp = Qmp::connect(&monitor).map_err(|error| {
            let said = fs::read_to_string(folder.join("said")).unwrap_or_default();
            io::Error::other(format!("{error}; QEMU said: {}", said.trim()))
        })?;
        Ok(Self {
            qmp,
            _process: process,
            folder,
        })
    }

    /// Until the guest reads.
    fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + UP;
        while !Log::new(self.memory(Log::HEADER_BYTES)?).is_ready() {
            in_time(deadline, "the guest did not come up")?;
        }
        Ok(())
    }

    fn allow(&mut self, capabilities: &[&str]) -> io::Result<()> {
        let on = |name| json!({"capability": name, "state": true});
        let on: Vec<_> = capabilities.iter().map(on).collect();
        let arguments = json!({"capabilities": on});
        self.qmp.ask("migrate-set-capabilities", arguments)?;
        Ok(())
    }

    /// Until the migration is as `status` says; all that is known of it then.
    fn wait_for(&mut self, status: &str) -> io::Result<Value> {
        let deadline = Instant::now() + DONE;
        loop {
            let found = self.qmp.ask("query-migrate", json!({}))?;
            if found["status"] == status {
                return Ok(found);
            }
            if found["status"] == "failed" {
                return Err(io::Error::other(format!("the migration failed: {found}")));
            }
            in_time(deadline, "the migration did not end")?;
        }
    }

    /// The pages of the area that this one asked for.
    fn requests(&self) -> io::Result<HashSet<u64>> {
        let trace = fs::read_to_string(self.folder.join("trace"))?;
        let lines = trace.lines().filter(|line| line.contains("rb=pc.ram"));
        let offsets = lines.filter_map(|line| line.split("offset=0x").nth(1)?.split(' ').next());
        let pages = offsets.filter_map(|offset| {
            let offset = u64::from_str_radix(offset, 16).ok()?;
            Some(offset.checked_sub(flat::AREA)? / PAGE_SIZE as u64)
        });
        Ok(pages.collect())
    }

    /// The first `bytes` bytes of what the guest wrote down.
    fn memory(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let file = self.folder.join("memory");
        let arguments = json!({"val": flat::header(0), "size": bytes, "filename": file});
        self.qmp.ask("pmemsave", arguments)?;
        fs::read(file)
    }
}

fn in_time(deadline: Instant, otherwise: &str) -> io::Result<()> {
    if Instant::now() > deadline {
        return Err(io::Error::new(io::ErrorKind::TimedOut, otherwise));
    }
    thread::sleep(LOOK);
    Ok(())
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that is worth an orderly end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
