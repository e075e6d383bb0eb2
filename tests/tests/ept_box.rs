//! On Intel's nested paging, in a box that Bochs emulates: minutes, so only when asked for.

use underfoot_tests::nested;

#[test]
fn every_kind_moves_on_extended_page_tables_at_both_privilege_levels() {
    if std::env::var_os("UNDERFOOT_EPT_BOX").is_none_or(|value| value != "1") {
        eprintln!("not asked for: it takes minutes; UNDERFOOT_EPT_BOX=1 runs it");
        return;
    }
    nested::assert_runs_in_box("ept", "", "ept", "--cpus 1 --memory 16MiB --duration 5s");
}
