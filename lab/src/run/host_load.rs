//! How busy the host was, and with whose work.

use crate::record::LoadRecord;
use std::fs;
use std::path::Path;

/// Ticks of the kernel's accounting up to a moment (proc_stat(5), proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CpuTicks {
    all: u64,
    idle: u64,
    steal: u64,
    /// This process's, its guest's among them.
    own: u64,
    load_1min: f64,
}

impl CpuTicks {
    /// Those under `root` now; `None` where the kernel does not tell.
    pub(super) fn now(root: &Path) -> Option<Self> {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self::parse(
            &read("proc/stat")?,
            &read("proc/self/stat")?,
            &read("proc/loadavg")?,
        )
    }

    fn parse(stat: &str, own: &str, load: &str) -> Option<Self> {
        // User, nice, system, idle, iowait, irq, softirq, steal; guests' time is part of user and nice.
        let cpus = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = cpus
            .split_whitespace()
            .take(8)
            .map_while(|word| word.parse().ok())
            .collect();
        let [.., idle, iowait, _, _, steal] = ticks[..] else {
            return None;
        };
        // The name before it may have any character in it; user and system are the fields 14 and 15.
        let (_, fields) = own.rsplit_once(") ")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(Self {
            all: ticks.iter().sum(),
            idle: idle + iowait,
            steal,
            own: next()? + next()?,
            load_1min: load.split_whitespace().next()?.parse().ok()?,
        })
    }

    /// What the host did from then to `end`; `None` if no tick passed.
    pub(super) fn until(&self, end: &Self) -> Option<LoadRecord> {
        let since = |of: fn(&Self) -> u64| of(end).saturating_sub(of(self)) as f64;
        let all = since(|ticks| ticks.all);
        let steal = since(|ticks| ticks.steal);
        let busy = all - since(|ticks| ticks.idle) - steal;
        let own = since(|ticks| ticks.own);
        (all > 0.0).then(|| LoadRecord {
            load_1min_start: self.load_1min,
            load_1min_end: end.load_1min,
            own_share: (own / all).clamp(0.0, 1.0),
            others_share: ((busy - own) / all).clamp(0.0, 1.0),
            steal_share: (steal / all).clamp(0.0, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(cpu: &str, own: &str, load: &str) -> Option<CpuTicks> {
        let own = format!("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 {own} 13 14\n");
        CpuTicks::parse(&format!("cpu  {cpu}\ncpu0 1 2 3\n"), &own, load)
    }

    #[test]
    fn shares_are_of_all_cpus_and_own_work_is_told_apart() {
        let start =
            ticks("100 0 50 1000 10 0 5 20 90 0", "40 10", "1.50 1 1 1/2 3").expect("ticks");
        let end = ticks("140 10 60 1025 15 0 5 30 99 0", "60 15", "2.25 1 1 1/2 3").expect("ticks");
        let load = start.until(&end).expect("time passed");
        assert_eq!((load.load_1min_start, load.load_1min_end), (1.5, 2.25));
        // 100 ticks passed: 30 idle, 10 stolen, 60 busy, 25 of them ours.
        for (share, expected) in [
            (load.own_share, 0.25),
            (load.others_share, 0.35),
            (load.steal_share, 0.1),
        ] {
            assert!((share - expected).abs() < 1e-9, "{load:?}");
        }
        assert!(start.until(&start).is_none());
    }

    #[test]
    fn what_is_no_accounting_is_absent() {
        let load = "0.5 1 1 1/2 3";
        assert!(ticks("1 2 3", "4 5", load).is_none());
        assert!(ticks("1 2 3 4 5 6 7 8", "x 5", load).is_none());
        assert!(ticks("1 2 3 4 5 6 7 8", "4 5", "").is_none());
        assert!(CpuTicks::parse("", "", load).is_none());
        assert!(CpuTicks::now(Path::new("/")).is_some());
    }
}
