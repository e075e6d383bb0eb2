//! A guest, and the two sides that have its pages brought on demand.

use crate::demands::Demands;
use crate::{bare, engine};
use std::time::{Duration, Instant};
use underfoot_abi::WorkloadId;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::ring;
use underfoot_benches::span::Span;
use underfoot_migrator::{Vcpus, WaitKind};
use underfoot_vmm::Machine;

/// What a guest that was held needs to run as before.
const SETTLE: Duration = Duration::from_millis(10);

/// One guest, held but for its rounds.
pub struct Rig {
    pub wait: WaitKind,
    pub cpus: u32,
    /// How long the handler looks for faults before it sleeps.
    pub linger: Duration,
    pub machine: Machine,
    pub ring: Span,
}

/// What one side did in one slice.
pub struct Side {
    /// Of demanded pages, at the median.
    pub stall_ns: Option<f64>,
    pub pages_per_s: f64,
}

impl Rig {
    pub fn new(wait: WaitKind, cpus: u32, linger: Duration) -> Self {
        let guest = Guest {
            cpus,
            workload: WorkloadId::Chase,
            parameters: Guest::CHASE,
            wait,
            ..Guest::default()
        };
        let machine = guest.boot();
        let ring = ring::find(&machine, Guest::RING);
        Vcpus::pause(&**machine.vcpus()).expect("vCPUs that can be held");
        Self {
            wait,
            cpus,
            linger,
            machine,
            ring,
        }
    }

    /// A slice of the bare loop and one of the engine, or the other way round.
    pub fn round(&self, reverse: bool) -> [Side; 2] {
        Vcpus::resume(&**self.machine.vcpus());
        std::thread::sleep(SETTLE);
        let mut sides = [bare::slice, engine::slice].map(Some);
        let mut done = [None, None];
        let order = if reverse { [1, 0] } else { [0, 1] };
        for side in order {
            let slice = sides[side].take().expect("each once");
            let demands = Demands::new();
            let began = Instant::now();
            let stalls = demands.stalls_during(&self.machine, &self.ring, || {
                slice(self, &demands);
            });
            done[side] = Some(Side {
                stall_ns: stalls,
                pages_per_s: demands.count() as f64 / began.elapsed().as_secs_f64(),
            });
        }
        Vcpus::pause(&**self.machine.vcpus()).expect("vCPUs that can be held");
        done.map(|side| side.expect("both were done"))
    }

    /// Ends the guest, which audits its pages.
    pub fn end(self) {
        Vcpus::resume(&**self.machine.vcpus());
        guest::end(self.machine);
    }
}
