use super::*;
use crate::fixture::{self, Fixture};
use proptest::prelude::*;

fn cache(cpu: &Cpu, size: usize, pages: usize) -> SlabCache {
    let slabs: Vec<_> = (0..pages).map(|_| SlabPage::default()).collect();
    SlabCache::new(fixture::allocator(cpu, pages + 8), size, slabs.leak())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Objects are apart, keep what was written, and come back.
    #[test]
    fn objects_are_apart(
        size in prop::sample::select(vec![64usize, 104, 256, 1024, 4096]),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..300),
    ) {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let cache = cache(&cpu, size, 4);
        let most = 4 * cache.per_page();
        let mut live: Vec<usize> = Vec::new();
        for choice in choices {
            if choice.index(3) > 0 {
                let Some(object) = cache.allocate(&cpu) else {
                    prop_assert_eq!(live.len(), most);
                    continue;
                };
                for word in (object + 8..object + size - 8).step_by(8) {
                    fixture::word(word).store(object as u64, Relaxed);
                }
                prop_assert!(cache.owns(object) && !live.contains(&object));
                live.push(object);
            } else if !live.is_empty() {
                let object = live.swap_remove(choice.index(live.len()));
                prop_assert!(cache.free(&cpu, object));
            }
        }
        for &object in &live {
            for word in (object + 8..object + size - 8).step_by(8) {
                prop_assert_eq!(fixture::word(word).load(Relaxed), object as u64);
            }
        }
        prop_assert_eq!(cache.audit(&cpu).live, live.len() as u64);
        prop_assert_eq!(fixture.errors(), 0);
    }
}

#[test]
fn a_page_holds_sixteen_objects_of_256_bytes() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let cache = cache(&cpu, 256, 1);
    let objects: Vec<_> = (0..16).filter_map(|_| cache.allocate(&cpu)).collect();
    assert_eq!(objects.len(), 16);
    assert_eq!(cache.allocate(&cpu), None);
    assert_eq!(cache.pages.kind(objects[3]).kind(), PageKind::Slab);
}

#[test]
fn a_write_after_free_is_seen() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let cache = cache(&cpu, 256, 1);
    let object = cache.allocate(&cpu).expect("memory");
    assert!(cache.free(&cpu, object));
    fixture::word(object + 64).store(1, Relaxed);
    cache.audit(&cpu);
    assert_eq!(fixture.errors(), 1);
    assert_eq!(cache.allocate(&cpu), Some(object));
    assert_eq!(fixture.errors(), 2);
    assert_eq!(cpu.area.first_error[0].load(Relaxed), (object + 64) as u64);
}

#[test]
fn a_read_after_free_is_seen() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let cache = cache(&cpu, 256, 1);
    let object = cache.allocate(&cpu).expect("memory");
    assert!(cache.verify(&cpu, object));
    cache.free(&cpu, object);
    assert!(!cache.verify(&cpu, object));
    assert_eq!(fixture.errors(), 1);
}

#[test]
fn freeing_twice_is_an_error() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let cache = cache(&cpu, 256, 1);
    let object = cache.allocate(&cpu).expect("memory");
    assert!(cache.free(&cpu, object));
    assert!(!cache.free(&cpu, object));
    assert!(!cache.free(&cpu, object + 8), "no object begins there");
    assert!(!cache.free(&cpu, 0x1000), "nor there");
    assert_eq!(fixture.errors(), 3);
}

#[test]
fn an_overrun_is_seen_when_the_object_is_freed() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let cache = cache(&cpu, 256, 1);
    for end in [0, 248] {
        let object = cache.allocate(&cpu).expect("memory");
        fixture::word(object + end).store(0, Relaxed);
        assert!(!cache.free(&cpu, object));
    }
    assert_eq!(fixture.errors(), 2);
}
