//! On Intel's nested paging, in a box that Bochs emulates: minutes, so only when asked for.

use underfoot_tests::nested;

#[test]
#[ignore = "Bochs emulates the processor: half an hour, more than all other tests; run with --ignored"]
fn every_kind_moves_on_extended_page_tables_at_both_privilege_levels() {
    nested::assert_runs_in_box("ept", "", "ept", "--cpus 1 --memory 16MiB --duration 5s");
}
