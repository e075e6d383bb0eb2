//! A machine from its parts: KVM, memory, vCPUs, devices, the event loop.

use crate::clock::{self, TscRelation};
use crate::config::MachineConfig;
use crate::device::Devices;
use crate::event_loop::{EventLoop, Wake, Woken};
use crate::exit::{ExitQueue, ExitReport};
use crate::held::HeldWord;
use crate::kvm;
use crate::machine_error::{MachineError, io_error, kvm_error};
use crate::memory::GuestRam;
use crate::placement::Placement;
use crate::progress::ProgressWatch;
use crate::run_page::RunPage;
use crate::shared::{HeaderInit, SharedRegion};
use crate::slots::VmSlots;
use crate::stats::StatsFile;
use crate::vcpu::{self, Vcpu, VcpuHandle, VcpuShared};
use crate::vcpu_set::VcpuSet;
use crate::wait::{WaitKind, Window};
use crate::waits::GuestWaits;
use kvm_ioctls::{IoEventAddress, NoDatamatch, VcpuFd, VmFd};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use underfoot_abi::{GuestState, MAX_CPUS, PORT_DOORBELL, Phase};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

const SERIAL_GSI: u32 = 4;

/// What a guest gets that has said that it is over, to leave through its exit port.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How often a guest that was asked to stop is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a machine came to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct StopOutcome {
    /// The guest came to its own end within the time that it was given, and no vCPU crashed.
    pub in_order: bool,
    /// What its vCPUs reported since the last [`Wake::Exited`].
    pub exits: Vec<ExitReport>,
    /// The signal that ended the wait for the guest's own end.
    pub signal: Option<i32>,
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
    ended: bool,
    slots: Arc<VmSlots>,
    _vm: Arc<VmFd>,
    ram: GuestRam,
}

impl Machine {
    /// Makes the machine, guest loaded, threads started and waiting outside of it.
    ///
    /// # Errors
    /// Any [`MachineError`]; nothing is left behind.
    pub fn new(config: MachineConfig<'_>) -> Result<Self, MachineError> {
        let kvm = kvm::open(&config.kvm)?;
        let max = kvm.get_max_vcpus().min(MAX_CPUS) as u32;
        if !(1..=max).contains(&config.cpus) {
            return Err(MachineError::Cpus {
                cpus: config.cpus,
                max,
            });
        }
        config.placement.check()?;
        let ram = GuestRam::new(config.memory, config.cpus, config.backing)?;
        let entry = config.boot.load(&ram)?;
        let vm = Arc::new(kvm::create_vm(&kvm, config.wait)?);
        let slots = Arc::new(VmSlots::register(&vm, &ram, config.slot_size)?);
        let fds = kvm::create_vcpus(&kvm, &vm, config.cpus, &entry)?;
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
        shared.set_page_events(config.wait == WaitKind::Async);

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
            shared: &shared,
            wait: config.wait,
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
            ended: false,
            slots,
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

    /// Who in the guest waits for whom, for the engine's watchdog.
    #[must_use]
    pub fn waits(&self) -> GuestWaits {
        GuestWaits::new(
            self.shared.clone(),
            Arc::clone(&self.vcpus),
            &self.vcpu_stats,
        )
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

    /// The kernel's ids of the vCPU threads, by vCPU.
    #[must_use]
    pub fn thread_ids(&self) -> Vec<i32> {
        self.vcpus.thread_ids()
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
                        self.ended = true;
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

    /// Asks the guest to stop, gives it `patience`, then ends and joins every vCPU thread. A guest
    /// that has ended already is not asked.
    ///
    /// A guest that is not ours does not know the question: give it none.
    pub fn stop(&mut self, patience: Duration) -> StopOutcome {
        self.stop_while(patience, |_| true)
    }

    /// As [`Self::stop`]; `look` is called again and again meanwhile, and ends the wait where it says no.
    pub fn stop_while(
        &mut self,
        patience: Duration,
        look: impl FnMut(&SharedRegion) -> bool,
    ) -> StopOutcome {
        let (mut exits, mut signal) = (Vec::new(), None);
        if self.started && !self.ended && !patience.is_zero() {
            self.shared.set_phase(Phase::Stop);
            (exits, signal) = self.await_end(Instant::now() + patience, look);
        }
        self.vcpus.stop();
        exits.extend(self.exits.take());
        let done = self.shared.state() == Some(GuestState::Done) || !exits.is_empty();
        let in_order = done && exits.iter().all(ExitReport::is_sound);
        StopOutcome {
            in_order,
            exits,
            signal,
        }
    }

    /// The exits that ended the guest, or the signal that ended the wait for them.
    fn await_end(
        &mut self,
        mut deadline: Instant,
        mut look: impl FnMut(&SharedRegion) -> bool,
    ) -> (Vec<ExitReport>, Option<i32>) {
        loop {
            let state = self.shared.state();
            if !matches!(state, Some(GuestState::Booting | GuestState::Running)) {
                deadline = deadline.min(Instant::now() + LAST_WORDS);
            }
            let next = deadline.min(Instant::now() + LOOK);
            match self.wait(next) {
                Ok(Wake::Deadline) if next < deadline && look(&self.shared) => {}
                Ok(Wake::Exited(reports)) => return (reports, None),
                Ok(Wake::Doorbell) => {}
                Ok(Wake::Signal(number)) => return (Vec::new(), Some(number)),
                Ok(Wake::Deadline) | Err(_) => return (Vec::new(), None),
            }
        }
    }

    /// Guest memory.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// The slots that KVM knows guest memory by.
    #[must_use]
    pub fn slots(&self) -> &Arc<VmSlots> {
        &self.slots
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
    shared: &'a SharedRegion,
    wait: WaitKind,
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
                    shared: Arc::new(VcpuShared::new(page, self.wait)),
                    devices: Arc::clone(self.devices),
                    exits: Arc::clone(self.exits),
                    window: Arc::clone(self.window),
                    memory: Arc::clone(self.memory),
                    held: HeldWord {
                        region: self.shared.clone(),
                        index,
                    },
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
