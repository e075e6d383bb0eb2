use super::*;
use crate::fixture::Fixture;

#[test]
fn a_section_that_met_a_writer_is_retried() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let count = SeqCount::new();
    let before = count.read_begin(&cpu);
    assert!(!count.read_retry(before));
    count.write_begin();
    assert!(count.read_retry(before));
    let during = count.read_begin_raw();
    assert!(count.read_retry(during), "a raw begin under a writer fails");
    count.write_end();
    assert!(count.read_retry(before) && count.read_retry(during));
    assert!(!count.read_retry(count.read_begin(&cpu)));
}
