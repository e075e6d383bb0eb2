//! How fast pages move, beside bare loops over the same pages and beside the kernel's own way, in one run.

mod collapse;
mod memory;
mod movers;
mod single;
mod size;

use underfoot_benches::noise;
use underfoot_benches::ratio::Bars;

fn main() {
    if !noise::begin("throughput") {
        return;
    }
    noise::report("before");
    let mut bars = Bars::default();
    single::run(&mut bars);
    movers::run(&mut bars);
    size::run(&mut bars);
    noise::report("after");
    bars.end();
}
