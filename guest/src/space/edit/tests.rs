use super::*;
use crate::{
    fixture::{self, Fixture},
    mm::Objects,
    space::{tree::Tree, vma::Protection},
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use underfoot_abi::PAGE_SIZE;

/// Nodes and mappings of a guest.
struct Rig {
    fixture: Fixture,
    cpu: Cpu,
    nodes: Objects<Node>,
    vmas: Objects<Vma>,
}

impl Rig {
    fn new(most_nodes: usize) -> Self {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 64);
        let nodes = Objects::build(&cpu, pages, most_nodes).expect("memory");
        let vmas = Objects::build(&cpu, pages, 1024).expect("memory");
        Self {
            fixture,
            cpu,
            nodes,
            vmas,
        }
    }

    fn edit(&self, root: usize) -> Edit<'_> {
        Edit::new(&self.cpu, &self.nodes, root)
    }

    /// A mapping of a single page.
    fn vma(&self, page: usize) -> &'static Vma {
        let vma = self.vmas.allocate(&self.cpu).expect("memory");
        let start = page * PAGE_SIZE;
        vma.init(1, start..start + PAGE_SIZE, page, Protection::Read);
        vma
    }

    fn tree(&self, root: usize) -> Tree<'_> {
        Tree {
            nodes: &self.nodes,
            vmas: &self.vmas,
            root,
        }
    }

    /// The pages that are mapped, in order.
    fn pages(&self, root: usize) -> Vec<usize> {
        let all = self.tree(root).overlapping(&(0..usize::MAX));
        all.map(|vma| vma.range().start / PAGE_SIZE).collect()
    }

    /// Checks sizes, order and balance below `at`; how many mappings there are.
    fn check(&self, at: usize) -> u32 {
        let Some(node) = self.nodes.at(at) else {
            return 0;
        };
        let [before, after] = [Side::Before, Side::After].map(|side| self.check(node.child(side)));
        assert_eq!(node.size(), before + after + 1);
        assert!(after < DELTA * (before + 1) && before < DELTA * (after + 1));
        assert_eq!(node.state.load(Relaxed), OLD);
        node.size()
    }

    /// Finishes an edit; the nodes of the old version are freed when `then` has looked.
    fn finish(&self, edit: Edit<'_>, then: impl FnOnce()) -> usize {
        let root = edit.root();
        let mut stale = Vec::new();
        edit.finish(|node| stale.push(node));
        then();
        stale.iter().for_each(|node| {
            self.nodes.free(&self.cpu, node);
        });
        root
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..64).prop_map(Step::Insert),
        (0usize..64).prop_map(Step::Remove),
    ]
}

proptest! {
    /// Edits of several steps each, finished or dropped: the new version is right and balanced, the
    /// old one stays as it was until it is freed, and no node is lost.
    #[test]
    fn versions_are_right_and_do_not_disturb_each_other(
        edits in prop::collection::vec((prop::collection::vec(step(), 1..8), any::<bool>()), 1..40),
    ) {
        let rig = Rig::new(1024);
        let mut root = 0;
        let mut model: BTreeMap<usize, &'static Vma> = BTreeMap::new();
        for (steps, finished) in edits {
            let before: Vec<_> = model.keys().copied().collect();
            let mut next = model.clone();
            let mut edit = rig.edit(root);
            for step in steps {
                match step {
                    Step::Insert(page) => {
                        if let std::collections::btree_map::Entry::Vacant(entry) = next.entry(page) {
                            edit.insert(entry.insert(rig.vma(page))).expect("memory");
                        }
                    }
                    Step::Remove(page) => {
                        if next.remove(&page).is_some() {
                            edit.remove(page * PAGE_SIZE).expect("memory");
                        }
                    }
                }
            }
            let old = root;
            if finished {
                root = rig.finish(edit, || assert_eq!(rig.pages(old), before));
                model = next;
            } else {
                drop(edit);
            }
            let now: Vec<_> = model.keys().copied().collect();
            prop_assert_eq!(rig.pages(root), now);
            prop_assert_eq!(rig.check(root) as usize, model.len());
            prop_assert_eq!(rig.nodes.audit(&rig.cpu).live, model.len() as u64);
        }
        prop_assert_eq!(rig.fixture.errors(), 0);
    }

    #[test]
    fn the_neighbours_of_an_address_are_found(pages in prop::collection::btree_set(0usize..64, 0..20)) {
        let rig = Rig::new(1024);
        let mut edit = rig.edit(0);
        for page in &pages {
            edit.insert(rig.vma(*page)).expect("memory");
        }
        let root = rig.finish(edit, || ());
        let tree = rig.tree(root);
        let page = |vma: Option<&Vma>| vma.map(|vma| vma.range().start / PAGE_SIZE);
        for at in 0..64 {
            let address = at * PAGE_SIZE;
            prop_assert_eq!(page(tree.floor(address + 1)), pages.range(..=at).last().copied());
            prop_assert_eq!(page(tree.ceiling(address)), pages.range(at..).next().copied());
            if !pages.contains(&at) {
                let below = pages.range(..at).last().map_or(0, |page| (page + 1) * PAGE_SIZE);
                let above = pages.range(at..).next().map(|page| page * PAGE_SIZE);
                let hole = tree.hole(&(address..address + PAGE_SIZE));
                prop_assert_eq!(hole.start, below);
                prop_assert_eq!(hole.end, above.unwrap_or(crate::space::entry::END));
            }
        }
    }
}

#[test]
fn an_edit_without_memory_never_was() {
    let rig = Rig::new(40);
    let mut root = 0;
    let mut pages = Vec::new();
    for page in 0.. {
        let mut edit = rig.edit(root);
        if edit.insert(rig.vma(page)) == Err(Refused::Full) {
            break;
        }
        root = rig.finish(edit, || ());
        pages.push(page);
    }
    assert!(pages.len() > 20, "{pages:?}");
    assert_eq!(rig.pages(root), pages);
    assert_eq!(rig.nodes.audit(&rig.cpu).live, pages.len() as u64);
}
