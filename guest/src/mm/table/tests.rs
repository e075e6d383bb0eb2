use super::*;
use crate::fixture::{self, Fixture};
use crate::mm::frame_of;
use proptest::prelude::*;
use std::collections::BTreeMap;
use underfoot_abi::PageKind;

const KIND: PageByte = PageByte::new(PageKind::PageTable, true);
const LARGE: usize = PAGE_SIZE << MAX_ORDER;

fn flags() -> PteFlags {
    PteFlags::PRESENT | PteFlags::WRITABLE
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A walk finds exactly what was mapped.
    #[test]
    fn a_walk_finds_what_was_mapped(
        wanted in prop::collection::vec((0usize..1 << 14, 0usize..1 << 20, any::<bool>()), 1..60),
        offset in 0usize..PAGE_SIZE,
    ) {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 1024);
        let table = PageTable::new(&cpu, pages, KIND).expect("memory");
        let mut mapped: BTreeMap<usize, usize> = BTreeMap::new(); // small page to frame
        for (virt, phys, large) in wanted {
            let size = if large { LARGE } else { PAGE_SIZE };
            // Spread over several tables of each level.
            let virt = (virt * 0x123_4567 * PAGE_SIZE) % (1 << 47) / size * size;
            let phys = phys * PAGE_SIZE / size * size;
            let taken = mapped.range(virt..virt + size).next().is_some();
            match table.map(&cpu, pages, virt, phys, large, flags()) {
                Ok(()) => {
                    prop_assert!(!taken);
                    mapped.extend((0..size).step_by(PAGE_SIZE).map(|at| (virt + at, phys + at)));
                }
                Err(error) => {
                    let clash = matches!(error, MapError::Mapped { .. });
                    prop_assert!(clash && taken, "{}", error);
                }
            }
        }
        for (virt, phys) in &mapped {
            prop_assert_eq!(table.walk(virt + offset).map(|l| l.physical), Some(phys + offset));
            if !mapped.contains_key(&(virt + PAGE_SIZE)) {
                prop_assert_eq!(table.walk(virt + PAGE_SIZE), None);
            }
        }
        prop_assert_eq!(pages.kind(table.root()), KIND);
    }
}

#[test]
fn identity_maps_every_page_that_is_touched() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 64);
    let table = PageTable::new(&cpu, pages, KIND).expect("memory");
    let range = 0x20_1800..0x20_4001;
    table
        .identity(&cpu, pages, range, false, flags())
        .expect("room");
    assert_eq!(table.walk(0x20_0fff), None);
    assert_eq!(
        table.walk(0x20_1000).map(|l| (l.physical, l.level)),
        Some((0x20_1000, 1))
    );
    assert_eq!(table.walk(0x20_4fff).map(|l| l.physical), Some(0x20_4fff));
    assert_eq!(table.walk(0x20_5000), None);
    table
        .identity(
            &cpu,
            pages,
            2 * LARGE..3 * LARGE,
            true,
            flags() | PteFlags::USER,
        )
        .expect("room");
    let leaf = table.walk(2 * LARGE + 0x12_3456).expect("mapped");
    assert_eq!((leaf.physical, leaf.level), (2 * LARGE + 0x12_3456, 2));
    let found = fixture::word(leaf.entry.address).load(Relaxed);
    assert_eq!(found, leaf.entry.value);
    assert_eq!(found & 0xfff, 0b1000_0111);
    let mut read = 0;
    assert_eq!(
        table.walk_with(2 * LARGE, |_, _| read += 1),
        table.walk(2 * LARGE)
    );
    assert_eq!(read, 3);
}

#[test]
fn refusals_name_the_value_and_the_remedy() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 2);
    let table = PageTable::new(&cpu, pages, KIND).expect("memory");
    let error = |virt, phys, large| {
        let refused = table.map(&cpu, pages, virt, phys, large, flags());
        refused.expect_err("refused").to_string()
    };
    assert_eq!(
        error(0x1000, 0x800, false),
        "cannot map 0x800: not a multiple of 0x1000; align it"
    );
    assert_eq!(
        error(0x1000, 0, true),
        "cannot map 0x1000: not a multiple of 0x200000; align it"
    );
    assert_eq!(
        error(0x1000, 0x1000, false),
        "cannot map 0x1000: no free page for a page table; give the guest more memory"
    );
}

#[test]
fn a_mapping_is_replaced_only_where_there_is_one() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 64);
    let table = PageTable::new(&cpu, pages, KIND).expect("memory");
    let virt = 0x12_3456_7000;
    assert_eq!(table.replace(virt, 0x5000, flags()), None);
    table
        .map(&cpu, pages, virt, 0x4000, false, flags())
        .expect("free");
    assert_eq!(table.replace(virt + PAGE_SIZE, 0x5000, flags()), None);
    let old = table
        .replace(virt, 0x5000, PteFlags::PRESENT)
        .expect("mapped");
    assert_eq!(frame_of(old), 0x4000);
    assert!(PteFlags::WRITABLE.are_in(old));
    let new = table.walk(virt).expect("mapped");
    assert_eq!(new.physical, 0x5000);
    assert!(!PteFlags::WRITABLE.are_in(new.entry.value));
}
