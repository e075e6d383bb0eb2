//! A thread of the device: it takes descriptors from its queues and does them.

use super::channel::{Channel, NoAccess};
use super::copy::WORDS;
use super::counts::add;
use super::doorbells::Doorbells;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use underfoot_abi::{DMA_ALIGN, DMA_MAX_BYTES, DMA_RING, DmaDescriptor, DmaStatus, PAGE_SIZE};
use underfoot_migrator::{Gfn, RegisterError};

/// Looks in vain, each followed by a yield, before the thread sleeps.
const LOOKS: u32 = 16;
/// Its first nap, doubled until the longest: what an idle device costs, and the last word in how
/// soon a thread sees a doorbell or a stop.
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_micros(400);

pub(super) struct Worker {
    pub(super) channel: Channel,
    pub(super) doorbells: Arc<dyn Doorbells>,
    /// The numbers of its queues, and how many descriptors of each it has looked at.
    pub(super) queues: Vec<(u32, u64)>,
    /// Registrations are renewed after so many descriptors.
    pub(super) renew_every: Option<NonZeroU64>,
    /// Descriptors since then.
    pub(super) since_renewal: u64,
    /// What passes through it.
    pub(super) fifo: Box<[u64; WORDS]>,
}

impl Worker {
    /// Works until it is told to stop.
    pub(super) fn run(&mut self) -> Result<(), RegisterError> {
        let mut idle = 0;
        while !self.channel.stop.load(Ordering::Relaxed) {
            let mut worked = false;
            for number in 0..self.queues.len() {
                match self.serve(number) {
                    Ok(any) => worked |= any,
                    Err(NoAccess::Stopped) => return Ok(()),
                    Err(NoAccess::Unregistered(why)) => return Err(why),
                    // The queue is not where the guest says; it is looked at again.
                    Err(NoAccess::Nowhere) => {}
                }
            }
            idle = if worked { 0 } else { idle + 1 };
            rest(idle);
        }
        Ok(())
    }

    fn renew_if_due(&mut self) -> Result<(), NoAccess> {
        if self
            .renew_every
            .is_some_and(|every| self.since_renewal >= every.get())
        {
            self.since_renewal = 0;
            let renewed = self.channel.renew();
            renewed.map_err(NoAccess::Unregistered)?;
            add(&self.channel.counts.renewed, 1);
        }
        Ok(())
    }

    /// Does what is posted in one queue; whether anything was.
    fn serve(&mut self, number: usize) -> Result<bool, NoAccess> {
        let (queue, seen) = self.queues[number];
        let gpa = self.doorbells.queue_gpa(queue);
        let posted = self.doorbells.posted(queue);
        if gpa == 0 || posted == seen {
            return Ok(false);
        }
        if !gpa.is_multiple_of(PAGE_SIZE as u64) {
            return Err(NoAccess::Nowhere);
        }
        // A guest that claims more than a ring holds gets one ring.
        let first = seen.max(posted.saturating_sub(DMA_RING as u64)).min(posted);
        for nth in first..posted {
            let slot = nth as usize % DMA_RING * size_of::<DmaDescriptor>();
            let finished = self.finish(Gfn::containing(gpa), slot);
            if finished == Err(NoAccess::Stopped) {
                return Err(NoAccess::Stopped);
            }
            // Looked at, whatever came of it: a bad queue must not be served for ever.
            self.queues[number].1 = nth + 1;
            finished?;
            self.renew_if_due()?;
        }
        self.queues[number].1 = posted;
        Ok(true)
    }

    /// Does the descriptor at byte `slot` of the queue's page, if it is posted.
    fn finish(&mut self, queue: Gfn, slot: usize) -> Result<(), NoAccess> {
        let posted = DmaStatus::Posted as u64;
        let read = self
            .channel
            .access(queue, |page| page.descriptor(slot).read(posted))?;
        let Some([source, target, bytes]) = read else {
            return Ok(());
        };
        let status = self.copy(source, target, bytes)?;
        let counts = &self.channel.counts;
        match status {
            DmaStatus::Done => add(&counts.done, 1),
            _ => add(&counts.refused, 1),
        }
        self.since_renewal += 1;
        self.channel.access(queue, |page| {
            page.descriptor(slot).set_status(status as u64)
        })
    }

    /// Copies, or says why it may not. Bytes before a page that cannot be reached are copied.
    fn copy(&mut self, source: u64, target: u64, bytes: u64) -> Result<DmaStatus, NoAccess> {
        if !(source | target | bytes).is_multiple_of(DMA_ALIGN) {
            return Ok(DmaStatus::Unaligned);
        }
        if !(1..=DMA_MAX_BYTES).contains(&bytes) {
            return Ok(DmaStatus::Length);
        }
        let fits = |address: u64| address.checked_add(bytes).is_some();
        if !fits(source) || !fits(target) {
            return Ok(DmaStatus::Address);
        }
        let mut done = 0;
        while done < bytes {
            let (from, to) = (source + done, target + done);
            let left = |address: u64| PAGE_SIZE as u64 - address % PAGE_SIZE as u64;
            let part = (bytes - done).min(left(from)).min(left(to));
            match self.copy_part(from, to, part as usize / size_of::<u64>()) {
                Err(NoAccess::Nowhere) => return Ok(DmaStatus::Address),
                other => other?,
            }
            done += part;
        }
        add(&self.channel.counts.bytes, bytes);
        Ok(DmaStatus::Done)
    }

    /// Copies words from within one page to within one page.
    fn copy_part(&mut self, from: u64, to: u64, words: usize) -> Result<(), NoAccess> {
        let word = |address: u64| address as usize % PAGE_SIZE / size_of::<u64>();
        let fifo = &mut self.fifo[..words];
        self.channel
            .access(Gfn::containing(from), |page| page.read(word(from), fifo))?;
        self.channel
            .access(Gfn::containing(to), |page| page.write(word(to), fifo))
    }
}

/// Waits for work, the longer the longer there was none.
fn rest(idle: u32) {
    match idle {
        0 => {}
        1..=LOOKS => thread::yield_now(),
        _ => {
            let doubled = (idle - LOOKS - 1).min(10);
            thread::sleep((FIRST_NAP * (1 << doubled)).min(LONGEST_NAP));
        }
    }
}
