use super::*;
use crate::fixture::{Fixture, allocator, word};
use std::sync::atomic::AtomicBool;
use underfoot_abi::{RecordedPhase, Variant, WorkloadId};

const ROUNDS: usize = 40;

/// What a device does with a descriptor.
type Device = fn(&DmaDescriptor) -> DmaStatus;

fn copy(descriptor: &DmaDescriptor) -> DmaStatus {
    let [source, target, bytes] = [&descriptor.source, &descriptor.target, &descriptor.bytes]
        .map(|word| word.load(Relaxed) as usize);
    for offset in (0..bytes).step_by(8) {
        word(target + offset).store(word(source + offset).load(Relaxed), Relaxed);
    }
    DmaStatus::Done
}

/// Leaves out the last word of each.
fn skip_last(descriptor: &DmaDescriptor) -> DmaStatus {
    let bytes = descriptor.bytes.load(Relaxed);
    descriptor.bytes.store(bytes - 8, Relaxed);
    copy(descriptor)
}

fn refuse(_: &DmaDescriptor) -> DmaStatus {
    DmaStatus::Address
}

/// Each of two CPUs does its rounds, with `device` at work; then the audit.
fn run(parameters: &[u64], device: Device) -> (Fixture, Audit) {
    let fixture = Fixture::with(2, Variant::None);
    let cpu = fixture.cpu(0);
    let pages = allocator(&cpu, 4096);
    let mut told = WorkloadId::Dma.defaults();
    told[..parameters.len()].copy_from_slice(parameters);
    let dma = Dma::build(&cpu, pages, &told, |_, _| ()).expect("memory");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = [0; 2];
            while !over.load(Relaxed) {
                for (area, seen) in fixture.areas.iter().zip(&mut seen) {
                    let queue = area.dma_queue.load(Relaxed) as usize;
                    for nth in *seen..area.dma_posted.load(Acquire) {
                        let at = queue + nth as usize % DMA_RING * size_of::<DmaDescriptor>();
                        // SAFETY: a descriptor of the queue that the area names: atomics.
                        let descriptor: &DmaDescriptor =
                            unsafe { &*core::ptr::with_exposed_provenance(at) };
                        assert_eq!(descriptor.status.load(Acquire), DmaStatus::Posted as u64);
                        descriptor.status.store(device(descriptor) as u64, Release);
                        *seen = nth + 1;
                    }
                }
                std::thread::yield_now();
            }
        });
        let rounds: Vec<_> = (0..2)
            .map(|id| {
                let (cpu, dma) = (fixture.cpu(id), &dma);
                scope.spawn(move || {
                    let mut random = Random::new(3, id as u64);
                    cpu.area.dma_queue.store(dma.queue_address(id), Relaxed);
                    (0..ROUNDS).for_each(|_| dma.operation(&cpu, id, &mut random));
                })
            })
            .collect();
        rounds
            .into_iter()
            .for_each(|one| one.join().expect("no panic"));
        over.store(true, Relaxed);
    });
    // SAFETY: all threads have ended.
    let audit = unsafe { dma.audit(&cpu) };
    (fixture, audit)
}

#[test]
fn what_a_good_device_copies_is_found_whole() {
    for parameters in [[1, 8], [8, 4096], [64, 16_384], [3, 5000]] {
        let (fixture, audit) = run(&parameters, copy);
        assert_eq!((fixture.errors(), audit.errors), (0, 0), "{parameters:?}");
        let copies = 2 * ROUNDS as u64 * parameters[0];
        assert_eq!((audit.updates, fixture.updates()), (copies, copies));
        let words = parameters[1].div_ceil(8);
        assert_eq!(audit.checked, 2 * 2 * parameters[0] * words);
        let operations = fixture.count(RecordedPhase::Moving, Metric::Operation);
        assert_eq!(operations, 2 * ROUNDS as u64);
    }
}

#[test]
fn a_word_that_does_not_arrive_and_a_refusal_are_errors() {
    let (fixture, audit) = run(&[4, 512], skip_last);
    assert!(fixture.errors() >= 2 * 4 * (ROUNDS as u64 - 1) && audit.errors > 0);
    // One for each descriptor; and the audit finds no target as it should be.
    let (fixture, audit) = run(&[4, 512], refuse);
    let right = 2 * ROUNDS as u64 * 4 + audit.errors;
    assert_eq!((fixture.errors(), fixture.updates()), (right, 0));
    assert_eq!(audit.errors, 2 * 4 * 512 / 8);
}
