//! What the migration engine asks of this machine.

use crate::shared::SharedRegion;
use crate::vcpu_set::VcpuSet;
use crate::wait::Window;
use std::error::Error;
use underfoot_abi::PageKind;
use underfoot_migrator::{Class, Gfn, PageMap, Vcpus, Windows};

/// The guest's own page map, as the engine reads it: a page's class is its [`PageKind`]'s number.
#[derive(Clone, Debug)]
pub struct PageMapView(SharedRegion);

impl PageMapView {
    /// A view of `shared`'s page map.
    #[must_use]
    pub const fn new(shared: SharedRegion) -> Self {
        Self(shared)
    }
}

impl PageMap for PageMapView {
    fn class(&self, gfn: Gfn) -> Option<Class> {
        match self.0.page_byte(gfn.0)?.kind() {
            PageKind::Reserved => None,
            kind => Class::new(kind as u8),
        }
    }

    /// What the guest names no kind for, gaps of its image and what lies below 1 MiB, is its own and nobody else's. The
    /// shared region has a slot of its own, which never moves.
    fn moves_along(&self, gfn: Gfn) -> bool {
        self.0.page_byte(gfn.0).is_some()
    }

    fn sleeps(&self, gfn: Gfn) -> bool {
        self.0
            .page_byte(gfn.0)
            .is_some_and(|byte| byte.hypervisor())
    }
}

impl Vcpus for VcpuSet {
    fn pause(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.hold_all();
        Ok(())
    }

    fn pause_while(
        &self,
        goes_on: &mut dyn FnMut(u16) -> bool,
    ) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(self.hold_all_while(goes_on))
    }

    fn resume(&self) {
        self.release_all();
    }
}

impl Window for Windows {
    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    fn closed(&self) -> u64 {
        Self::closed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Backing, GuestRam, MemorySize};
    use std::sync::atomic::Ordering;
    use underfoot_abi::PageByte;

    #[test]
    fn the_engine_sees_what_the_guest_published() {
        let ram = GuestRam::new(
            MemorySize::new(16 << 20, 1 << 30).unwrap(),
            1,
            Backing::Small,
        )
        .unwrap();
        let shared = SharedRegion::new(&ram);
        let view = PageMapView::new(shared.clone());
        assert_eq!(view.class(Gfn(5)), None);
        for kind in PageKind::TARGETS {
            for hypervisor in [false, true] {
                let byte = PageByte::new(kind, hypervisor).0;
                shared.page_map()[5].store(byte, Ordering::Relaxed);
                assert_eq!(view.class(Gfn(5)), Class::new(kind as u8));
                assert_eq!(view.sleeps(Gfn(5)), hypervisor);
            }
        }
        let beyond = Gfn(shared.frames());
        assert_eq!((view.class(beyond), view.sleeps(beyond)), (None, false));
        assert_eq!(view.class(Gfn(u64::MAX)), None);
    }
}
