//! What a mover moves pages with.

use std::sync::Arc;

use super::NewMoverError;
use crate::BackendKind;
use crate::backend::{Backend, CopyIn, KernelIn, MoveIn, PooledIn, RemapIn, SlotIn};
use crate::engine::Engine;

/// The backend of one mover.
pub(super) fn make_backend(engine: &Engine) -> Result<Box<dyn Backend + Send>, NewMoverError> {
    let config = engine.config;
    let registration = Arc::clone(&engine.registration);
    let (batch, limbo) = (config.batch, config.limbo);
    let stride = config.verify.limbo_stride(batch);
    Ok(match config.backend {
        BackendKind::Move if let Some(frames) = &engine.frames => Box::new(PooledIn::new(
            batch,
            config.strategy,
            Arc::clone(frames),
            registration,
        )?),
        BackendKind::Move => Box::new(MoveIn::new(
            batch,
            limbo,
            stride,
            config.page_size,
            registration,
        )?),
        BackendKind::Copy => Box::new(CopyIn::new(batch, limbo, stride, registration)?),
        BackendKind::Kernel => {
            let nodes = &engine.nodes;
            Box::new(KernelIn::new(config.page_size, batch, nodes, registration))
        }
        BackendKind::Memslot => {
            let slots = engine.slots.as_ref().expect("made by the builder");
            let (slots, regions) = (Arc::clone(&slots.slots), engine.regions.clone());
            Box::new(SlotIn::new(
                slots,
                stride,
                regions,
                registration,
                engine.watch,
            ))
        }
        BackendKind::Remap => {
            let alias = engine.alias.as_ref().expect("made by the builder");
            Box::new(
                RemapIn::new(
                    batch,
                    limbo,
                    stride,
                    Arc::clone(alias),
                    registration,
                    engine.watch,
                    engine.regions.clone(),
                )?
                .allocating(config.allocate),
            )
        }
    })
}
