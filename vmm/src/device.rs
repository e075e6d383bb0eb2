//! The few devices of the machine, all behind I/O ports.

use crate::console::{Console, SerialPort};
use crate::exit::ExitReason;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use underfoot_abi::{PORT_DOORBELL, PORT_EXIT, PORT_SERIAL};
use vmm_sys_util::eventfd::EventFd;

const SERIAL_PORTS: u16 = 8;

/// The devices, shared by all vCPU threads.
pub(crate) struct Devices {
    serial: Mutex<SerialPort>,
    doorbell: EventFd,
    unclaimed: AtomicU64,
}

impl Devices {
    pub(crate) fn new(console: Console, serial_interrupt: EventFd, doorbell: EventFd) -> Self {
        Self {
            serial: Mutex::new(SerialPort::new(console, serial_interrupt)),
            doorbell,
            unclaimed: AtomicU64::new(0),
        }
    }

    fn serial(&self) -> std::sync::MutexGuard<'_, SerialPort> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serial_register(port: u16) -> Option<u8> {
        let offset = port.checked_sub(PORT_SERIAL)?;
        (offset < SERIAL_PORTS).then_some(offset as u8)
    }

    /// A write of the guest. Some reason: the guest is over.
    pub(crate) fn io_out(&self, port: u16, data: &[u8]) -> Option<ExitReason> {
        if let Some(register) = Self::serial_register(port) {
            let mut serial = self.serial();
            data.iter().for_each(|&byte| serial.write(register, byte));
        } else if port == PORT_EXIT {
            let mut status = [0; 4];
            let len = data.len().min(status.len());
            status[..len].copy_from_slice(&data[..len]);
            return Some(ExitReason::Finished {
                status: u32::from_le_bytes(status),
            });
        } else if port == PORT_DOORBELL {
            // KVM rings it without an exit; this is the way of a KVM that did not. It fails only
            // when the counter is at its end, and then the loop has its wake-up already.
            let _ = self.doorbell.write(1);
        } else {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    /// A read of the guest. Where there is no device all bits are set, as on a PC's bus.
    pub(crate) fn io_in(&self, port: u16, data: &mut [u8]) {
        if let Some(register) = Self::serial_register(port) {
            let mut serial = self.serial();
            data.iter_mut()
                .for_each(|byte| *byte = serial.read(register));
        } else {
            data.fill(0xff);
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Accesses to ports without a device.
    pub(crate) fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }

    /// Bytes of serial output that could not be written out.
    pub(crate) fn serial_lost(&self) -> u64 {
        self.serial().lost()
    }
}
