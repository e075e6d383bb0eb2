//! What cannot be built is refused, with the value, the bound and the remedy.

use std::sync::Arc;

use underfoot_migrator::{
    BackendKind, BuildError, Builder, ClassSet, MAX_LIMBO, Migrator, PageSize, StrategyKind,
    Variant, Verify,
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::rig::{Eighths, Rig, rights};

fn builder() -> Builder {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]);
    Migrator::builder(Arc::new(memory.expect("memory"))).page_map(Arc::new(Eighths))
}

fn refusal(builder: Builder) -> BuildError {
    builder.build().err().expect("must be refused")
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn values_out_of_bounds_are_named_with_their_bounds() {
    for (builder, words) in [
        (builder().batch(0), ["batch of 0", "1 to 512"]),
        (builder().batch(513), ["batch of 513", "1 to 512"]),
        (
            builder().page_size(PageSize::Huge).batch(2),
            ["batch of 2 pages of 2MiB", "batch of 1"],
        ),
        (builder().limbo(MAX_LIMBO + 1), ["1048577", "up to 1048576"]),
        (
            builder().targets(ClassSet::EMPTY),
            ["empty", "at least one"],
        ),
        (
            builder().strategy(StrategyKind::StopWorld),
            ["stop-world", "Builder::vcpus"],
        ),
        (
            Migrator::builder(Rig::new(1, 0).memory),
            ["no page map", "Builder::page_map"],
        ),
    ] {
        let message = refusal(builder).to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn the_control_with_a_variant_is_refused() {
    let control = builder().strategy(StrategyKind::None);
    let error = refusal(control.variant(Variant::StaleFrame));
    assert!(error.to_string().contains("busted-stale-frame"), "{error}");
    assert!(matches!(error, BuildError::Unsound { .. }));
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_share_of_old_frames_is_checked_can_be_asked() {
    if !rights() {
        return;
    }
    for (verify, batch, stride) in [
        (Verify::Sample, 1, 1),
        (Verify::Sample, Verify::LARGE, 1),
        (Verify::Sample, Verify::LARGE + 1, Verify::LARGE_STRIDE),
        (Verify::Full, 512, 1),
    ] {
        let migrator = builder().verify(verify).batch(batch).build();
        assert_eq!(migrator.expect("sound").limbo_stride(), stride);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn memory_of_a_file_is_refused() {
    let file = vmm_sys_util::tempfile::TempFile::new().expect("a file");
    file.as_file().set_len(0x4000).expect("room");
    let offset = FileOffset::new(file.into_file(), 0);
    let ranges = [(GuestAddress(0x8000), 0x4000, Some(offset))];
    let memory = GuestMemoryMmap::from_ranges_with_files(ranges).expect("memory");
    let error = refusal(Migrator::builder(Arc::new(memory)).page_map(Arc::new(Eighths)));
    let BuildError::Region(source) = error else {
        panic!("{error}");
    };
    assert!(
        source
            .to_string()
            .contains("0x8000 is not private anonymous")
    );
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn memory_that_is_no_shared_file_cannot_be_remapped() {
    let remap = builder()
        .strategy(StrategyKind::ProtectCopy)
        .backend(BackendKind::Remap);
    let BuildError::Region(source) = refusal(remap) else {
        panic!("refused for another reason");
    };
    let message = source.to_string();
    assert!(message.contains("memfd"), "{message}");
}
