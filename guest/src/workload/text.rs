//! Functions that lie in different pages of text.
//!
//! Each has an input section of its own, `.text.touch.00` to `.text.touch.15`; the guest's linker
//! script puts each on a page of its own. Elsewhere they are ordinary functions.

use crate::random::mix;
use crate::{Cpu, record};
use core::ops::Range;
use underfoot_abi::PAGE_SIZE;

/// Text pages that are touched.
pub(super) const COUNT: usize = 16;

/// Makes a function that returns a value of its own, and whose code holds that value.
macro_rules! functions {
    ($($name:ident $number:literal $section:literal)*) => {
        $(
            #[inline(never)]
            #[unsafe(link_section = $section)]
            extern "C" fn $name(value: u64) -> u64 {
                value.rotate_left($number + 1) ^ const { mix($number) }
            }
        )*
        const FUNCTIONS: [extern "C" fn(u64) -> u64; COUNT] = [$($name),*];
    };
}

functions! {
    touch_00 0 ".text.touch.00"
    touch_01 1 ".text.touch.01"
    touch_02 2 ".text.touch.02"
    touch_03 3 ".text.touch.03"
    touch_04 4 ".text.touch.04"
    touch_05 5 ".text.touch.05"
    touch_06 6 ".text.touch.06"
    touch_07 7 ".text.touch.07"
    touch_08 8 ".text.touch.08"
    touch_09 9 ".text.touch.09"
    touch_10 10 ".text.touch.10"
    touch_11 11 ".text.touch.11"
    touch_12 12 ".text.touch.12"
    touch_13 13 ".text.touch.13"
    touch_14 14 ".text.touch.14"
    touch_15 15 ".text.touch.15"
}

/// The pages that they lie in, in the guest; they follow one another there.
pub(super) fn pages() -> Range<usize> {
    let addresses = FUNCTIONS.map(|function| function as usize);
    let first = addresses.into_iter().min().unwrap_or(0);
    let last = addresses.into_iter().max().unwrap_or(0);
    first & !(PAGE_SIZE - 1)..(last & !(PAGE_SIZE - 1)) + PAGE_SIZE
}

/// Calls function `number` with `value` and verifies what it returns.
pub(super) fn touch(cpu: &Cpu, number: usize, value: u64) {
    // Opaque, so that the call is made and not computed here.
    let function = core::hint::black_box(FUNCTIONS[number]);
    let address = function as usize;
    let found = record::access(cpu, address, || function(value));
    record::checked(cpu, 1);
    if found != value.rotate_left(number as u32 + 1) ^ mix(number as u64) {
        record::error(cpu, address, found);
    }
}
