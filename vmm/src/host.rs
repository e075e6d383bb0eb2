//! What kind of host this is, so that every figure can say where it comes from.

use std::fmt;
use std::path::{Path, PathBuf};

/// How the host translates guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage2 {
    /// Extended page tables (Intel).
    Ept,
    /// Nested page tables (AMD).
    Npt,
    /// Shadow page tables.
    Shadow,
}

impl Stage2 {
    /// The name that results carry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ept => "ept",
            Self::Npt => "npt",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Stage2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the kind of host is not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// None of the KVM modules that we know is there.
    #[error("none of {} is in {}: load the KVM module of this processor", MODULES.join(", "), .modules.display())]
    NoModule {
        /// Where modules were looked for.
        modules: PathBuf,
    },
    /// A file that tells it cannot be read.
    #[error("{} cannot be read: mount /proc and /sys", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

const MODULES: [&str; 3] = ["kvm_intel", "kvm_amd", "kvm_pvm"];

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// How it translates guest physical addresses.
    pub stage2: Stage2,
    /// The KVM module in use: `kvm_intel`, `kvm_amd` or `kvm_pvm`.
    pub module: &'static str,
    /// Whether the host is itself a guest.
    pub nested: bool,
    /// The CPU's model name.
    pub cpu: String,
    /// CPUs that are online.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Transparent huge pages: `always`, `madvise` or `never`; `absent` without them.
    pub huge_pages: String,
    /// The kernel's clock source.
    pub clocksource: String,
    /// Measures that this host cannot take, each with the reason.
    pub unsupported: Vec<(&'static str, &'static str)>,
}

fn read(path: PathBuf) -> Result<String, HostError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(HostError::Read { path, source }),
    }
}

fn is_on(path: PathBuf) -> bool {
    read(path).is_ok_and(|text| matches!(text.as_str(), "Y" | "1"))
}

/// The word in brackets, as in `always [madvise] never`.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// The value of the first line `key : value` of a cpuinfo.
fn cpuinfo_field<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

impl HostInfo {
    /// Looks at the host whose file system is at `root`: `/`, but for tests.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn detect(root: &Path) -> Result<Self, HostError> {
        let modules = root.join("sys/module");
        let module = MODULES
            .into_iter()
            .find(|module| modules.join(module).is_dir())
            .ok_or_else(|| HostError::NoModule {
                modules: modules.clone(),
            })?;
        let stage2 = match module {
            "kvm_intel" if is_on(modules.join("kvm_intel/parameters/ept")) => Stage2::Ept,
            "kvm_amd" if is_on(modules.join("kvm_amd/parameters/npt")) => Stage2::Npt,
            _ => Stage2::Shadow,
        };
        let cpuinfo = read(root.join("proc/cpuinfo"))?;
        let flags = cpuinfo_field(&cpuinfo, "flags").unwrap_or("");
        let huge_pages = read(root.join("sys/kernel/mm/transparent_hugepage/enabled"));
        let clocksource = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        Ok(Self {
            stage2,
            module,
            nested: flags
                .split_ascii_whitespace()
                .any(|flag| flag == "hypervisor"),
            cpu: cpuinfo_field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cpus: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: read(root.join("proc/sys/kernel/osrelease"))?,
            huge_pages: huge_pages
                .ok()
                .as_deref()
                .and_then(chosen)
                .unwrap_or("absent")
                .to_owned(),
            clocksource: read(root.join(clocksource)).unwrap_or_else(|_| "unknown".to_owned()),
            unsupported: unsupported(root, module),
        })
    }
}

fn unsupported(root: &Path, module: &str) -> Vec<(&'static str, &'static str)> {
    let mut list = Vec::new();
    if module == "kvm_pvm" {
        list.push((
            "steal.preempted",
            "kvm-pvm never sets the steal-time record's preempted flag",
        ));
    }
    if !root.join("proc/self/schedstat").exists() {
        list.push((
            "vcpu.run_delay",
            "the kernel keeps no schedstat (CONFIG_SCHED_INFO)",
        ));
    }
    if let Err(reason) = underfoot_migrator::can_verify() {
        list.push(("frames", reason));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake(module: &str, parameter: Option<(&str, &str)>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(&format!("sys/module/{module}/refcnt"), "0\n");
        if let Some((name, value)) = parameter {
            put(&format!("sys/module/{module}/parameters/{name}"), value);
        }
        put(
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor\n\nprocessor\t: 1\n",
        );
        put("proc/sys/kernel/osrelease", "6.18.0\n");
        put(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        );
        root
    }

    #[test]
    fn stage_two_is_what_the_module_says() {
        for (module, parameter, stage2) in [
            ("kvm_intel", Some(("ept", "Y\n")), Stage2::Ept),
            ("kvm_intel", Some(("ept", "N\n")), Stage2::Shadow),
            ("kvm_amd", Some(("npt", "1\n")), Stage2::Npt),
            ("kvm_amd", Some(("npt", "0\n")), Stage2::Shadow),
            ("kvm_amd", None, Stage2::Shadow),
            ("kvm_pvm", None, Stage2::Shadow),
        ] {
            let root = fake(module, parameter);
            let host = HostInfo::detect(root.path()).unwrap();
            assert_eq!((host.module, host.stage2), (module, stage2));
            assert_eq!(
                (host.cpu.as_str(), host.cpus, host.nested),
                ("Some CPU", 2, true)
            );
            assert_eq!(
                (host.kernel.as_str(), host.huge_pages.as_str()),
                ("6.18.0", "madvise")
            );
            let names: Vec<_> = host.unsupported.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.contains(&"steal.preempted"), module == "kvm_pvm");
            assert!(names.contains(&"vcpu.run_delay"));
        }
    }

    #[test]
    fn a_host_without_kvm_is_told_so() {
        let root = fake("ext4", None);
        let error = HostInfo::detect(root.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("none of kvm_intel, kvm_amd, kvm_pvm is in"),
            "{error}"
        );
    }
}
