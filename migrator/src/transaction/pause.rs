//! Stopping the vCPUs before the window opens.

use std::error::Error;

use super::Transaction;
use crate::lock_order::{Class, may_wait};
use crate::watchdog::{Node, Wait, Waiter};
use crate::{Paused, Vcpus};

impl Transaction<'_> {
    /// Stops every vCPU, saying for which it waits; `None` if that wait was in a deadlock and is given up.
    ///
    /// # Errors
    /// Those of [`Vcpus::pause`].
    pub(crate) fn pause<'v>(
        &mut self,
        vcpus: &'v dyn Vcpus,
    ) -> Result<Option<Paused<'v>>, Box<dyn Error + Send + Sync>> {
        may_wait(Class::Vcpus);
        match self.tools.waiter.as_deref_mut() {
            None => Paused::new(vcpus).map(Some),
            Some(waiter) => pause_as(waiter, vcpus),
        }
    }
}

fn pause_as<'v>(
    waiter: &mut Waiter,
    vcpus: &'v dyn Vcpus,
) -> Result<Option<Paused<'v>>, Box<dyn Error + Send + Sync>> {
    let mut waiter = Some(waiter);
    let mut wait: Option<Wait<'_>> = None;
    Paused::new_while(vcpus, &mut |vcpu| {
        let node = Node::Vcpu(vcpu);
        match (&mut wait, waiter.take()) {
            // Before it turns to another: the request is for this wait.
            (Some(wait), _) if wait.is_aborted() => return false,
            (Some(wait), _) => wait.turn_to(node),
            (none, waiter) => *none = waiter.map(|waiter| waiter.wait_for(node)),
        }
        true
    })
}
