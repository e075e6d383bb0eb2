//! What ends a run before its time, and how that is told.

use super::stuck::stuck;
use super::{Session, host_waits};
use crate::record::{Ending, Outcome};
use crate::run::engine::Engine;
use crate::run::waiting;
use std::sync::atomic::Ordering;
use underfoot_abi::GuestState;
use underfoot_vmm::{ExitReport, Wake};

impl Session<'_> {
    pub(super) fn note(&mut self, wake: Wake) {
        match wake {
            Wake::Deadline | Wake::Doorbell => {}
            Wake::Signal(number) => {
                let signal = u8::try_from(number).unwrap_or(u8::MAX);
                self.end_by(
                    Ending::Interrupted { signal },
                    format!("ended by signal {number}"),
                );
            }
            Wake::Exited(reports) => self.end_by_exits(&reports),
        }
    }

    pub(super) fn end_by_exits(&mut self, reports: &[ExitReport]) {
        let Some(first) = reports.first() else { return };
        let shared = self.machine.shared();
        if shared.state() == Some(GuestState::TooLittleMemory) {
            return self.end_by(Ending::Failed, self.too_little_memory());
        }
        let message = shared.message();
        let mut text = match shared.crash() {
            Some(crash) => format!("{crash}: "),
            None => String::new(),
        };
        if message.is_empty() {
            text.push_str(&first.to_string());
        } else {
            text.push_str(&format!("{message} ({first})"));
        }
        if let Some(registers) = &first.registers {
            text.push_str(&format!("\n{registers}"));
        }
        self.end_by(Ending::Failed, text);
    }

    /// What the guest lacked memory for, and what helps.
    pub(super) fn too_little_memory(&self) -> String {
        self.too_little_memory_for(&self.machine.shared().message())
    }

    pub(super) fn too_little_memory_for(&self, what: &str) -> String {
        let experiment = self.experiment;
        let told = experiment.parameters.to_table();
        let told: Vec<String> = told
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "--memory {} is too little for {what}: give the guest more, or ask for less of workload {} \
             (--cpus {}, --parameters {})",
            experiment.memory,
            experiment.workload.name(),
            experiment.cpus.get(),
            told.join(",").replace('"', ""),
        )
    }

    /// The first cause counts: what follows are its consequences.
    pub(super) fn end_by(&mut self, ending: Ending, message: String) {
        if self.ended.is_some() {
            return;
        }
        let made = &self.machine.shared().header().reports_made;
        self.reports_before_end = Some(made.load(Ordering::Relaxed));
        self.ended = Some(Outcome {
            ending,
            message: Some(message),
        });
    }

    pub(super) fn look_after_threads(&mut self) {
        if self.engine.as_ref().is_some_and(Engine::has_failed) {
            // What it said comes when it is joined.
            self.end_by(Ending::Failed, "a thread of the engine ended".into());
        }
        let Some(watch) = self.machine.progress() else {
            return;
        };
        if let Some(stuck) = stuck(watch) {
            let waits = waiting::describe(self.machine.shared());
            let host = host_waits::describe(&self.machine.thread_ids(), self.engine.as_ref());
            self.end_by(
                Ending::Watchdog,
                format!("{stuck}: {waits}. On the host: {host}"),
            );
        }
    }
}
