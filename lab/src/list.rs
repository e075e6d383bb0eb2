//! What there is to choose from.

use crate::names::{AUTO_BACKEND, Named, Variant};
use underfoot_abi::{PageKind, WorkloadId};
use underfoot_migrator::{BackendKind, Combination, StrategyKind, WaitKind};

/// Workloads, strategies, backends, wait policies, page kinds, variants and the combinations of
/// them that are sound, a line each.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    section::<WorkloadId>(&mut text, "workloads (--workload)");
    section::<StrategyKind>(&mut text, "strategies (--strategy)");
    section::<BackendKind>(&mut text, "backends (--backend)");
    line(
        &mut text,
        "auto",
        &format!("the default: {}", AUTO_BACKEND.name()),
    );
    section::<WaitKind>(&mut text, "wait policies (--wait)");
    section::<PageKind>(&mut text, "page kinds (--target)");
    section::<Variant>(&mut text, "variants (--variant)");
    text.push_str("combinations of strategy, backend and wait policy, for every page kind\n");
    for way in Combination::all() {
        let name = format!(
            "{} {} {}",
            way.strategy.name(),
            way.backend.name(),
            way.wait.name()
        );
        line(&mut text, &name, way.check().err().unwrap_or("sound"));
    }
    text
}

fn section<T: Named>(text: &mut String, title: &str) {
    text.push_str(title);
    text.push('\n');
    for &item in T::ALL {
        line(text, item.name(), item.about());
    }
}

fn line(text: &mut String, name: &str, about: &str) {
    text.push_str(&format!("  {name:<24} {about}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everything_once_a_line() {
        let text = list();
        let count = |name: &str| {
            let starts =
                |line: &&str| line.trim_start().split_once("  ").map(|(n, _)| n) == Some(name);
            text.lines().filter(starts).count()
        };
        for kind in PageKind::TARGETS {
            assert_eq!(count(kind.name()), 1, "{}", kind.name());
        }
        assert_eq!(count("walk"), 1);
        assert_eq!(count("unmap-copy"), 1);
        assert_eq!(count("busted-no-unmap"), 1);
        let refused = Combination::all()
            .filter(|way| way.check().is_err())
            .count();
        let sound = text.lines().filter(|line| line.ends_with(" sound")).count();
        assert_eq!(sound + refused, Combination::all().count());
    }
}
