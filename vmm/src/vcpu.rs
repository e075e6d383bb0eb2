//! One vCPU: its thread, what it does with each exit, and how others reach it.

use crate::device::Devices;
use crate::exit::{ExitQueue, ExitReason, ExitReport, Registers};
use crate::gate::{Gate, Pass};
use crate::held::HeldWord;
use crate::placement::{Placement, PlacementError};
use crate::run_page::{self, RunPage};
use crate::sys;
use crate::wait::{WaitKind, WaitRecorder, Window};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// What a vCPU's thread shares with everybody else.
pub(crate) struct VcpuShared {
    pub(crate) gate: Gate,
    pub(crate) page: RunPage,
    pub(crate) waits: WaitRecorder,
    /// Times that the thread entered KVM_RUN.
    pub(crate) entries: AtomicU64,
    /// The kernel's id of the thread.
    pub(crate) thread_id: AtomicI32,
}

impl VcpuShared {
    pub(crate) fn new(page: RunPage, wait: WaitKind) -> Self {
        Self {
            gate: Gate::held(),
            page,
            waits: WaitRecorder::new(wait),
            entries: AtomicU64::new(0),
            thread_id: AtomicI32::new(0),
        }
    }
}

/// What the thread itself needs.
pub(crate) struct Vcpu {
    pub(crate) index: u32,
    pub(crate) fd: VcpuFd,
    pub(crate) shared: Arc<VcpuShared>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) exits: Arc<ExitQueue>,
    pub(crate) window: Arc<OnceLock<Arc<dyn Window>>>,
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) held: HeldWord,
}

/// A thread and what it shares.
pub(crate) struct VcpuHandle {
    pub(crate) shared: Arc<VcpuShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The interruption of KVM_RUN is all that the signal is for.
}

fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

/// Installs the kick signal's empty handler for the whole process. Doing it again does no harm.
pub(crate) fn install_kick_handler() -> io::Result<()> {
    register_signal_handler(kick_signal(), on_kick)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

impl VcpuHandle {
    /// Starts the thread, which reports its placement through `ready` and then waits at the gate.
    pub(crate) fn spawn(
        vcpu: Vcpu,
        placement: Placement,
        ready: SyncSender<Result<(), PlacementError>>,
    ) -> io::Result<Self> {
        let shared = Arc::clone(&vcpu.shared);
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{}", vcpu.index))
            .spawn(move || vcpu.thread(&placement, ready))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Makes KVM_RUN return: now, or as soon as it is entered.
    pub(crate) fn poke(&self) {
        self.shared.page.set_immediate_exit(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            // Fails only for a thread that has ended, and then there is nobody to interrupt.
            let _ = thread.kill(kick_signal());
        }
    }

    /// Waits for the thread's end. The second call finds nothing to wait for.
    pub(crate) fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // The thread catches its own panics and reports them.
            let _ = thread.join();
        }
    }
}

/// Marks the vCPU as gone however its thread ends.
struct Leave(Arc<VcpuShared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

impl Vcpu {
    fn thread(mut self, placement: &Placement, ready: SyncSender<Result<(), PlacementError>>) {
        let _leave = Leave(Arc::clone(&self.shared));
        self.shared
            .thread_id
            .store(sys::thread_id(), Ordering::Relaxed);
        let placed = placement.apply(self.index as usize);
        let failed = placed.is_err();
        // The other end is gone only when the machine was given up, which the gate says too.
        let given_up = ready.send(placed).is_err();
        // The maker waits until every thread has let go of its end.
        drop(ready);
        if given_up || failed {
            return;
        }
        let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
        let reason = match ended {
            Ok(None) => return,
            Ok(Some(reason)) => reason,
            Err(payload) => ExitReason::ThreadDied {
                message: panic_message(&*payload),
            },
        };
        let registers = self.registers();
        self.exits.push(ExitReport {
            vcpu: self.index,
            reason,
            registers,
        });
    }

    fn registers(&self) -> Option<Box<Registers>> {
        let general = self.fd.get_regs().ok()?;
        let special = self.fd.get_sregs().ok()?;
        Some(Box::new(Registers { general, special }))
    }

    /// Runs the guest until it is told to stop (`None`) or cannot go on.
    fn run(&mut self) -> Option<ExitReason> {
        let shared = Arc::clone(&self.shared);
        loop {
            if shared.gate.is_wanted() {
                self.held.out();
                match shared.gate.pass(|| shared.page.set_immediate_exit(false)) {
                    Pass::Stop => return None,
                    Pass::Enter => {}
                }
                if let Err(error) = self.held.resume(&self.fd) {
                    let errno = error.errno();
                    return Some(ExitReason::RunFailed { errno });
                }
            }
            // One writer, this thread.
            let entries = shared.entries.load(Ordering::Relaxed);
            shared.entries.store(entries + 1, Ordering::Relaxed);
            if let Some(reason) = self.enter() {
                return Some(reason);
            }
        }
    }

    /// Enters the guest once and deals with the exit.
    fn enter(&mut self) -> Option<ExitReason> {
        match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => self.devices.io_out(port, data),
            Ok(VcpuExit::IoIn(port, data)) => {
                self.devices.io_in(port, data);
                None
            }
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => None,
            Ok(VcpuExit::MmioRead(gpa, data)) => {
                let len = data.len();
                Some(self.no_device(gpa, len, false))
            }
            Ok(VcpuExit::MmioWrite(gpa, data)) => {
                let len = data.len();
                Some(self.no_device(gpa, len, true))
            }
            Ok(VcpuExit::Shutdown) => Some(ExitReason::TripleFault),
            Ok(VcpuExit::FailEntry(reason, _cpu)) => Some(ExitReason::FailEntry { reason }),
            Ok(VcpuExit::InternalError) => {
                let suberror = run_page::internal_suberror(&mut self.fd);
                Some(ExitReason::InternalError { suberror })
            }
            Ok(VcpuExit::MemoryFault { .. }) => self.fault(),
            Ok(other) => Some(ExitReason::Unsupported {
                what: format!("{other:?}"),
            }),
            Err(error) => match error.errno() {
                // EAGAIN: an application processor that still waits for its INIT or SIPI.
                libc::EINTR | libc::EAGAIN => None,
                libc::EFAULT => self.fault(),
                errno => Some(ExitReason::RunFailed { errno }),
            },
        }
    }

    fn no_device(&self, gpa: u64, len: usize, write: bool) -> ExitReason {
        // KVM's emulator takes RAM that it cannot reach for a device.
        if self.memory.address_in_range(GuestAddress(gpa)) {
            ExitReason::Unreachable { gpa, len, write }
        } else {
            ExitReason::Mmio { gpa, len, write }
        }
    }

    fn fault(&self) -> Option<ExitReason> {
        let Some(window) = self.window.get() else {
            return Some(ExitReason::Fault);
        };
        window.meets(self.index);
        self.shared.waits.wait(&**window, &self.shared.gate);
        window.goes_on(self.index);
        None
    }
}
