//! The host as it is: what figures depend on beside the experiment, by the kernel's own files.

use crate::record::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bounds of a control group that slow a guest down, in both generations of the interface.
const BOUNDS: [&str; 8] = [
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "memory.max",
    "memory.high",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.limit_in_bytes",
];

/// What the files under `root` say now; what is not there is absent.
pub(super) fn snapshot(root: &Path) -> Snapshot {
    let host = Files(root);
    let cpuinfo = host.text("proc/cpuinfo").unwrap_or_default();
    let microcode = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "microcode").then(|| value.trim().to_owned())
    });
    Snapshot {
        microcode,
        mitigations: host.all("sys/devices/system/cpu/vulnerabilities"),
        command_line: host.text("proc/cmdline"),
        kvm_parameters: host.kvm_parameters(),
        transparent_hugepages: host.text("sys/kernel/mm/transparent_hugepage/enabled"),
        governors: host.governors(),
        clocksource: host.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        numa_nodes: host.text("sys/devices/system/node/online"),
        cgroup: host.bounds(),
        cpu_dma_latency_us: host.dma_latency_us(),
    }
}

/// Files below a root.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(&self, path: &str) -> Option<String> {
        text(&self.0.join(path))
    }

    /// Each file of a directory that can be read, by name.
    fn all(&self, path: &str) -> BTreeMap<String, String> {
        let names = entries(&self.0.join(path)).into_iter();
        let values = names.filter_map(|path| Some((name(&path), text(&path)?)));
        values.collect()
    }

    /// By module, those that are loaded or built in.
    fn kvm_parameters(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let modules = entries(&self.0.join("sys/module"))
            .into_iter()
            .map(|path| name(&path));
        let kvm = modules.filter(|name| name == "kvm" || name.starts_with("kvm_"));
        let parameters = kvm.map(|name| {
            let parameters = self.all(&format!("sys/module/{name}/parameters"));
            (name, parameters)
        });
        parameters.collect()
    }

    /// Each that some CPU has.
    fn governors(&self) -> BTreeSet<String> {
        let cpus = entries(&self.0.join("sys/devices/system/cpu")).into_iter();
        cpus.filter_map(|cpu| text(&cpu.join("cpufreq/scaling_governor")))
            .collect()
    }

    /// Bounds of this process's control groups.
    fn bounds(&self) -> BTreeMap<String, String> {
        let mut bounds = BTreeMap::new();
        for line in self.text("proc/self/cgroup").unwrap_or_default().lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
                continue;
            };
            let top = self.0.join("sys/fs/cgroup");
            let group = group.trim_start_matches('/');
            let places = match controllers {
                "" => vec![top.join(group), top.join("unified").join(group)],
                controllers => controllers
                    .split(',')
                    .map(|name| top.join(name).join(group))
                    .collect(),
            };
            for place in places {
                let found = BOUNDS
                    .iter()
                    .filter_map(|bound| Some(((*bound).to_owned(), text(&place.join(bound))?)));
                bounds.extend(found);
            }
        }
        bounds
    }

    /// What the kernel is asked for: reading the device gives the least of all requests, 2,000,000,000 if there is none.
    fn dma_latency_us(&self) -> Option<i32> {
        let mut bytes = [0; 4];
        let mut device = fs::File::open(self.0.join("dev/cpu_dma_latency")).ok()?;
        device.read_exact(&mut bytes).ok()?;
        Some(i32::from_ne_bytes(bytes))
    }
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say_is_told_and_what_is_not_there_is_absent() {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            (
                "proc/cpuinfo",
                "model name : A\nmicrocode\t: 0x1000065\nmicrocode : 0x2\n",
            ),
            ("proc/cmdline", "quiet nosmt\n"),
            (
                "proc/self/cgroup",
                "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/d\nbroken\n",
            ),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "77\n"),
            ("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/d/cpu.max", "50000 100000\n"),
            (
                "sys/devices/system/cpu/vulnerabilities/spectre_v2",
                "Mitigation: x\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave\n",
            ),
            ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
            ("sys/module/kvm_amd/parameters/npt", "Y\n"),
            ("sys/module/xfs/parameters/x", "1\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("room");
            fs::write(path, text).expect("room");
        }
        fs::create_dir_all(root.path().join("dev")).expect("room");
        fs::write(root.path().join("dev/cpu_dma_latency"), 20i32.to_ne_bytes()).expect("room");
        let told = snapshot(root.path());
        assert_eq!(told.microcode.as_deref(), Some("0x1000065"));
        assert_eq!(told.command_line.as_deref(), Some("quiet nosmt"));
        assert_eq!(told.mitigations["spectre_v2"], "Mitigation: x");
        assert_eq!(told.governors, ["powersave".to_owned()].into());
        let modules: Vec<_> = told.kvm_parameters.keys().collect();
        assert_eq!(modules, ["kvm", "kvm_amd"]);
        let bounds: Vec<_> = told
            .cgroup
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            bounds,
            [
                "cpu.cfs_quota_us=-1",
                "cpu.max=50000 100000",
                "memory.limit_in_bytes=77"
            ]
        );
        assert_eq!(told.cpu_dma_latency_us, Some(20));
        assert_eq!((told.clocksource, told.numa_nodes), (None, None));
        let nothing = tempfile::tempdir().expect("a directory");
        assert_eq!(snapshot(nothing.path()), Snapshot::default());
    }
}
