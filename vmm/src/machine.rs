//! A machine from its parts: KVM, memory, vCPUs, devices, the event loop.

use crate::boot::{Boot, BootError, Entry};
use crate::clock::{self, TscRelation};
use crate::console::Console;
use crate::cpuid;
use crate::device::Devices;
use crate::event_loop::{EventLoop, EventLoopError, Wake, Woken};
use crate::exit::{ExitQueue, ExitReport};
use crate::memory::{GuestRam, MemoryError, MemorySize};
use crate::placement::{Placement, PlacementError};
use crate::progress::ProgressWatch;
use crate::run_page::RunPage;
use crate::shared::{HeaderInit, SharedRegion};
use crate::stats::{StatsError, StatsFile};
use crate::vcpu::{self, Vcpu, VcpuHandle, VcpuShared};
use crate::vcpu_set::VcpuSet;
use crate::wait::{WaitPolicy, Window};
use kvm_bindings::{
    KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use underfoot_abi::{GuestState, MAX_CPUS, PORT_DOORBELL, Phase};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// Three pages and one that KVM uses on processors without unrestricted guests; far above RAM.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;
const SERIAL_GSI: u32 = 4;

/// Why there is no machine, or why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// /dev/kvm cannot be opened.
    #[error("{} cannot be opened: load the kvm modules, or ask for access (group kvm)", .path.display())]
    OpenKvm {
        /// The path tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A call of KVM failed.
    #[error("KVM refused {what}")]
    Kvm {
        /// The call.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The host lacks what the wait policy needs.
    #[error(
        "wait policy {policy} needs KVM_CAP_X86_DISABLE_EXITS for HLT, which this host lacks: use --wait halt"
    )]
    WaitPolicy {
        /// The policy.
        policy: WaitPolicy,
    },
    /// A number of vCPUs that cannot be.
    #[error("{cpus} vCPUs cannot be made: 1 to {max}")]
    Cpus {
        /// What was asked for.
        cpus: u32,
        /// The most that KVM and the guest contract carry.
        max: u32,
    },
    /// Guest memory.
    #[error("guest memory cannot be set up")]
    Memory(#[from] MemoryError),
    /// The image.
    #[error("the guest cannot be booted")]
    Boot(#[from] BootError),
    /// A vCPU thread cannot be placed.
    #[error("a vCPU thread cannot be placed")]
    Placement(#[from] PlacementError),
    /// A thread cannot be started.
    #[error("a thread for vCPU {vcpu} cannot be started")]
    Thread {
        /// Which vCPU.
        vcpu: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// KVM's statistics.
    #[error("KVM's statistics cannot be read")]
    Stats(#[from] StatsError),
    /// The event loop.
    #[error("the event loop failed")]
    EventLoop(#[from] EventLoopError),
}

fn kvm_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::Kvm {
        what,
        source: io::Error::from_raw_os_error(error.errno()),
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}

/// What machine to make.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// Where KVM is: `/dev/kvm`.
    pub kvm: PathBuf,
    /// RAM.
    pub memory: MemorySize,
    /// Whether huge pages may back it.
    pub huge_pages: bool,
    /// vCPUs, 1 to 64.
    pub cpus: u32,
    /// What to boot.
    pub boot: Boot<'a>,
    /// What the guest is told; `tsc_khz` is filled in from KVM when it is 0.
    pub header: HeaderInit,
    /// Where its serial output goes.
    pub console: Console,
    /// What a vCPU does that meets a page in flight.
    pub wait: WaitPolicy,
    /// Where the vCPU threads run.
    pub placement: Placement,
    /// Whether SIGINT and SIGTERM wake [`Machine::wait`] instead of ending the process. They are
    /// then blocked in the calling thread until the machine is dropped.
    pub signals: bool,
}

/// How a machine came to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct StopOutcome {
    /// The guest came to its own end within the time that it was given.
    pub in_order: bool,
    /// What its vCPUs reported since the last [`Wake::Exited`].
    pub exits: Vec<ExitReport>,
}

/// A machine. Dropping it ends and joins every thread that it started.
///
/// A vCPU that the kernel keeps waiting on a userfaultfd ends when that is answered or closed, so
/// close it before the machine goes.
pub struct Machine {
    // Threads end before what they use goes: fields are dropped in this order.
    vcpus: Arc<VcpuSet>,
    events: EventLoop,
    exits: Arc<ExitQueue>,
    devices: Arc<Devices>,
    window: Arc<OnceLock<Arc<dyn Window>>>,
    shared: SharedRegion,
    vm_stats: StatsFile,
    vcpu_stats: Vec<StatsFile>,
    progress: Option<ProgressWatch>,
    tsc_khz: u32,
    tsc: Vec<TscRelation>,
    started: bool,
    _vm: VmFd,
    ram: GuestRam,
}

fn open_kvm(path: &std::path::Path) -> Result<Kvm, MachineError> {
    let failed = |source| MachineError::OpenKvm {
        path: path.to_owned(),
        source,
    };
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
    Kvm::new_with_path(&name).map_err(|e| failed(io::Error::from_raw_os_error(e.errno())))
}

fn create_vm(kvm: &Kvm, wait: WaitPolicy) -> Result<VmFd, MachineError> {
    let vm = kvm.create_vm().map_err(kvm_error("to create a VM"))?;
    if wait.disables_halt_exits() {
        let offered = kvm.check_extension_raw(KVM_CAP_X86_DISABLE_EXITS.into());
        if offered.cast_unsigned() & KVM_X86_DISABLE_EXITS_HLT == 0 {
            return Err(MachineError::WaitPolicy { policy: wait });
        }
        let mut cap = kvm_enable_cap {
            cap: KVM_CAP_X86_DISABLE_EXITS,
            ..Default::default()
        };
        cap.args[0] = KVM_X86_DISABLE_EXITS_HLT.into();
        // Must come before the first vCPU.
        vm.enable_cap(&cap)
            .map_err(kvm_error("to disable HLT exits"))?;
    }
    // Intel processors without unrestricted guests need both; the others take no notice.
    vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)
        .map_err(kvm_error("the identity map's address"))?;
    vm.set_tss_address(TSS_ADDRESS)
        .map_err(kvm_error("the TSS address"))?;
    vm.create_irq_chip()
        .map_err(kvm_error("to create the interrupt controllers"))?;
    Ok(vm)
}

fn register_memory(vm: &VmFd, ram: &GuestRam) -> Result<(), MachineError> {
    for (slot, range) in (0..).zip(ram.ranges()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: range.gpa,
            memory_size: range.len,
            userspace_addr: range.hva,
        };
        // SAFETY: the range is a whole mapping that `ram` owns. The machine drops `ram` after the
        // VM, so it is mapped for as long as the guest can reach it, and nobody in this process
        // takes plain references into it.
        unsafe { vm.set_user_memory_region(region) }.map_err(kvm_error("guest memory"))?;
    }
    Ok(())
}

fn create_vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    cpus: u32,
    entry: &Entry,
) -> Result<Vec<VcpuFd>, MachineError> {
    let supported = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(kvm_error("to name its CPUID"))?;
    (0..cpus)
        .map(|index| {
            let vcpu = vm
                .create_vcpu(index.into())
                .map_err(kvm_error("to create a vCPU"))?;
            vcpu.set_cpuid2(&cpuid::for_vcpu(&supported, index, cpus))
                .map_err(kvm_error("the vCPU's CPUID"))?;
            if index == 0 {
                let reset = vcpu.get_sregs().map_err(kvm_error("to read registers"))?;
                vcpu.set_sregs(&Entry::special_registers(reset))
                    .map_err(kvm_error("the entry's special registers"))?;
                vcpu.set_regs(&entry.registers())
                    .map_err(kvm_error("the entry's registers"))?;
            }
            Ok(vcpu)
        })
        .collect()
}

impl Machine {
    /// Makes the machine, guest loaded, threads started and waiting outside of it.
    ///
    /// # Errors
    /// Any [`MachineError`]; nothing is left behind.
    pub fn new(config: MachineConfig<'_>) -> Result<Self, MachineError> {
        let kvm = open_kvm(&config.kvm)?;
        let max = kvm.get_max_vcpus().min(MAX_CPUS) as u32;
        if !(1..=max).contains(&config.cpus) {
            return Err(MachineError::Cpus {
                cpus: config.cpus,
                max,
            });
        }
        config.placement.check()?;
        let ram = GuestRam::new(config.memory, config.cpus, config.huge_pages)?;
        let entry = config.boot.load(&ram)?;
        let vm = create_vm(&kvm, config.wait)?;
        register_memory(&vm, &ram)?;
        let fds = create_vcpus(&kvm, &vm, config.cpus, &entry)?;
        let tsc = fds.iter().map(clock::align).collect();
        let tsc_khz = fds[0]
            .get_tsc_khz()
            .map_err(kvm_error("to name the TSC frequency"))?;
        let mut shared = SharedRegion::new(&ram);
        let header_khz = if config.header.tsc_khz == 0 {
            tsc_khz
        } else {
            config.header.tsc_khz
        };
        shared.init(&HeaderInit {
            tsc_khz: header_khz,
            ..config.header
        });

        let vm_stats = StatsFile::open(&vm)?;
        // Before any KVM_RUN: afterwards the call would wait for the vCPU to leave the guest.
        let vcpu_stats = fds.iter().map(StatsFile::open).collect::<Result<_, _>>()?;

        let eventfd = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let doorbell = eventfd().map_err(io_error("an event"))?;
        vm.register_ioevent(
            &doorbell,
            &IoEventAddress::Pio(PORT_DOORBELL.into()),
            NoDatamatch,
        )
        .map_err(kvm_error("the doorbell"))?;
        let serial = eventfd().map_err(io_error("an event"))?;
        vm.register_irqfd(&serial, SERIAL_GSI)
            .map_err(kvm_error("the serial port's interrupt"))?;
        let exits = Arc::new(ExitQueue::new().map_err(io_error("an event"))?);
        // Before the threads: they inherit the mask.
        let events = EventLoop::new(&doorbell, exits.ready(), config.signals)?;
        let devices = Arc::new(Devices::new(config.console, serial, doorbell));
        let window = Arc::new(OnceLock::new());
        let parts = Threads {
            devices: &devices,
            exits: &exits,
            window: &window,
            memory: ram.memory(),
        };
        let vcpus = Arc::new(parts.start(fds, &config.placement)?);
        Ok(Self {
            vcpus,
            events,
            exits,
            devices,
            window,
            shared,
            vm_stats,
            vcpu_stats,
            progress: None,
            tsc_khz,
            tsc,
            started: false,
            _vm: vm,
            ram,
        })
    }

    /// Lets the guest run. The second call does nothing.
    pub fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.vcpus.start();
        }
    }

    /// Tells spinning vCPUs whether a window is open. For wait policy `spin`, before the first
    /// page moves; without it EFAULT ends the guest. Only the first call counts.
    pub fn set_window(&self, window: Arc<dyn Window>) {
        // A second window would be a second migrator, and there is one.
        let _ = self.window.set(window);
    }

    /// Watches each vCPU's progress word every `period` from within [`Machine::wait`], from now
    /// on.
    ///
    /// # Errors
    /// [`MachineError::EventLoop`] when the timer cannot be set.
    pub fn watch_progress(&mut self, period: Duration) -> Result<(), MachineError> {
        self.events.set_tick(period)?;
        self.progress = Some(ProgressWatch::new(&self.vcpus.thread_ids()));
        Ok(())
    }

    /// What the watch saw; `None` before [`Machine::watch_progress`].
    #[must_use]
    pub fn progress(&self) -> Option<&ProgressWatch> {
        self.progress.as_ref()
    }

    /// Waits for the guest, a signal, or the deadline. Of several at once the gravest is told
    /// first and none is lost.
    ///
    /// # Errors
    /// [`MachineError::EventLoop`].
    pub fn wait(&mut self, deadline: Instant) -> Result<Wake, MachineError> {
        loop {
            match self.events.wait(deadline)? {
                Woken::Deadline => return Ok(Wake::Deadline),
                Woken::Doorbell => return Ok(Wake::Doorbell),
                Woken::Signal(number) => return Ok(Wake::Signal(number)),
                Woken::Exited => {
                    let reports = self.exits.take();
                    // An earlier look may have taken these along with their predecessors.
                    if !reports.is_empty() {
                        return Ok(Wake::Exited(reports));
                    }
                }
                Woken::Tick => {
                    if let Some(watch) = &mut self.progress {
                        watch.sample(&self.shared);
                    }
                }
            }
        }
    }

    /// Asks the guest to stop, gives it `patience`, then ends and joins every vCPU thread.
    ///
    /// A guest that is not ours does not know the question: give it none.
    pub fn stop(&mut self, patience: Duration) -> StopOutcome {
        let deadline = Instant::now() + patience;
        let mut exits = Vec::new();
        let mut in_order = self.guest_is_over();
        if self.started && !patience.is_zero() {
            self.shared.set_phase(Phase::Stop);
            while !in_order {
                match self.wait(deadline) {
                    Ok(Wake::Exited(reports)) => {
                        in_order = reports.iter().all(ExitReport::is_sound);
                        exits.extend(reports);
                        break;
                    }
                    Ok(Wake::Doorbell) => in_order = self.guest_is_over(),
                    Ok(Wake::Signal(_)) => {}
                    Ok(Wake::Deadline) | Err(_) => break,
                }
            }
        }
        self.vcpus.stop();
        exits.extend(self.exits.take());
        StopOutcome { in_order, exits }
    }

    fn guest_is_over(&self) -> bool {
        !matches!(
            self.shared.state(),
            Some(GuestState::Booting | GuestState::Running)
        )
    }

    /// Guest memory.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// What guest and host tell each other.
    #[must_use]
    pub fn shared(&self) -> &SharedRegion {
        &self.shared
    }

    /// The vCPUs, to be stopped and resumed.
    #[must_use]
    pub fn vcpus(&self) -> &Arc<VcpuSet> {
        &self.vcpus
    }

    /// KVM's statistics of the VM.
    #[must_use]
    pub fn vm_stats(&self) -> &StatsFile {
        &self.vm_stats
    }

    /// KVM's statistics of each vCPU.
    #[must_use]
    pub fn vcpu_stats(&self) -> &[StatsFile] {
        &self.vcpu_stats
    }

    /// The guest's TSC frequency.
    #[must_use]
    pub const fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// How each vCPU's TSC relates to the host's.
    #[must_use]
    pub fn tsc(&self) -> &[TscRelation] {
        &self.tsc
    }

    /// The guest's accesses to I/O ports without a device.
    #[must_use]
    pub fn unclaimed_io(&self) -> u64 {
        self.devices.unclaimed()
    }

    /// Bytes of serial output that could not be written out.
    #[must_use]
    pub fn serial_lost(&self) -> u64 {
        self.devices.serial_lost()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Others may hold the set, so its own drop can come too late.
        self.vcpus.stop();
    }
}

/// What every vCPU thread gets a share of.
struct Threads<'a> {
    devices: &'a Arc<Devices>,
    exits: &'a Arc<ExitQueue>,
    window: &'a Arc<OnceLock<Arc<dyn Window>>>,
    memory: &'a Arc<GuestMemoryMmap>,
}

impl Threads<'_> {
    fn start(&self, fds: Vec<VcpuFd>, placement: &Placement) -> Result<VcpuSet, MachineError> {
        vcpu::install_kick_handler().map_err(io_error("a handler for the kick signal"))?;
        let cpus = fds.len();
        let (ready, placed) = sync_channel(cpus);
        let mut handles = Vec::with_capacity(cpus);
        let mut failure = None;
        for (index, fd) in (0..).zip(fds) {
            let page = RunPage::map(&fd).map_err(io_error("to map a vCPU's run page"));
            let handle = page.and_then(|page| {
                let vcpu = Vcpu {
                    index,
                    fd,
                    shared: Arc::new(VcpuShared::new(page)),
                    devices: Arc::clone(self.devices),
                    exits: Arc::clone(self.exits),
                    window: Arc::clone(self.window),
                    memory: Arc::clone(self.memory),
                };
                VcpuHandle::spawn(vcpu, placement.clone(), ready.clone()).map_err(|source| {
                    MachineError::Thread {
                        vcpu: index,
                        source,
                    }
                })
            });
            match handle {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(ready);
        // From here on a return drops the set, which joins what was started.
        let set = VcpuSet::new(handles);
        if let Some(error) = failure {
            return Err(error);
        }
        for result in placed {
            result?;
        }
        Ok(set)
    }
}
