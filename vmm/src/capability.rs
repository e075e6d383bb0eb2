//! What this host can do, and how to mend what it cannot: the checks behind `doctor`.

use crate::memory::MemorySize;
use crate::placement::CpuSet;
use crate::wait::{WaitKind, disables_halt_exits};
use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_BINARY_STATS_FD, KVM_CAP_X86_DISABLE_EXITS, KVM_MAX_CPUID_ENTRIES,
    KVM_X86_DISABLE_EXITS_HLT,
};
use kvm_ioctls::{Cap, Kvm};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is missing and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {remedy}")]
pub struct Missing {
    /// What was found instead.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Missing {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is.
    pub what: &'static str,
    /// Whether the main job needs it.
    pub required: bool,
    /// What was found.
    pub result: Result<String, Missing>,
}

/// Opens the KVM device under `root` and checks its API version.
///
/// # Errors
/// What keeps it from being used, and the remedy.
pub fn kvm(root: &Path) -> Result<Kvm, Missing> {
    let path = root.join("dev/kvm");
    let shown = path.display();
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Missing::new(format!("{shown} contains a NUL"), "use another path"))?;
    let kvm = Kvm::new_with_path(&name).map_err(|error| {
        let error = io::Error::from_raw_os_error(error.errno());
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "load kvm_intel or kvm_amd, and turn virtualisation on in the firmware or, in a \
                 virtual machine, on its host"
            }
            io::ErrorKind::PermissionDenied => {
                "join the group that owns it (often `kvm`), or run as root"
            }
            _ => "see the kernel's log",
        };
        Missing::new(format!("{shown} cannot be opened: {error}"), remedy)
    })?;
    match kvm.get_api_version() {
        version if version == KVM_API_VERSION.cast_signed() => Ok(kvm),
        version => Err(Missing::new(
            format!("{shown} is not KVM, or of API version {version} instead of {KVM_API_VERSION}"),
            "use Linux's own KVM",
        )),
    }
}

const REQUIRED: [(Cap, &str); 8] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::GetTscKhz, "KVM_CAP_GET_TSC_KHZ"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

fn kvm_capabilities(kvm: &Kvm) -> Result<String, Missing> {
    let mut missing: Vec<&str> = REQUIRED
        .into_iter()
        .filter_map(|(cap, name)| (!kvm.check_extension(cap)).then_some(name))
        .collect();
    if kvm.check_extension_raw(KVM_CAP_BINARY_STATS_FD.into()) <= 0 {
        missing.push("KVM_CAP_BINARY_STATS_FD");
    }
    if missing.is_empty() {
        return Ok(format!("{} of {}", REQUIRED.len() + 1, REQUIRED.len() + 1));
    }
    let why = format!("KVM lacks {}", missing.join(", "));
    Err(Missing::new(
        why,
        "use Linux 6.8 or later with its in-kernel irqchip",
    ))
}

/// Whether the host can carry `policy`.
///
/// # Errors
/// What is missing, and the remedy.
pub fn wait_policy(kvm: &Kvm, policy: WaitKind) -> Result<(), Missing> {
    if policy == WaitKind::Async && !tells_of_pages(kvm) {
        return Err(Missing::new(
            "wait policy async needs KVM's asynchronous page fault with its interrupt",
            "use a KVM that offers KVM_FEATURE_ASYNC_PF and KVM_FEATURE_ASYNC_PF_INT (Linux 5.9 or later), \
             or --wait halt",
        ));
    }
    let offered = kvm
        .check_extension_raw(KVM_CAP_X86_DISABLE_EXITS.into())
        .cast_unsigned();
    if !disables_halt_exits(policy) || offered & KVM_X86_DISABLE_EXITS_HLT != 0 {
        return Ok(());
    }
    Err(Missing::new(
        format!("wait policy {policy} needs KVM_CAP_X86_DISABLE_EXITS for HLT"),
        "use --wait halt",
    ))
}

/// Whether KVM offers guests its asynchronous page fault (Documentation/virt/kvm/x86/cpuid.rst).
fn tells_of_pages(kvm: &Kvm) -> bool {
    const LEAF: u32 = 0x4000_0001;
    const WANTED: u32 = 1 << 4 | 1 << 14;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
    cpuid.is_ok_and(|cpuid| {
        let mut entries = cpuid.as_slice().iter();
        entries.any(|entry| entry.function == LEAF && entry.eax & WANTED == WANTED)
    })
}

fn wait_policies(kvm: &Kvm) -> Result<String, Missing> {
    for policy in WaitKind::ALL {
        wait_policy(kvm, policy)?;
    }
    Ok(WaitKind::ALL.map(WaitKind::name).join(", "))
}

fn userfaultfd() -> Result<String, Missing> {
    match underfoot_migrator::probe() {
        Ok(()) => Ok("serves KVM's own faults and moves pages".to_owned()),
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error} ({cause})"));
            Err(Missing::new(
                why,
                "run as root, give access to /dev/userfaultfd, or set \
                 vm.unprivileged_userfaultfd=1; Linux 6.8 or later",
            ))
        }
    }
}

fn frame_numbers() -> Result<String, Missing> {
    underfoot_migrator::can_verify().map_err(|why| {
        Missing::new(
            why,
            "run with CAP_SYS_ADMIN to have the physical frames checked",
        )
    })?;
    Ok("/proc/self/pagemap shows them".to_owned())
}

fn cpus() -> Result<String, Missing> {
    let allowed = CpuSet::allowed().map_err(|error| {
        Missing::new(error.to_string(), "allow this process to ask for its CPUs")
    })?;
    match allowed.cpus().len() {
        1 => Err(Missing::new(
            "one CPU: vCPUs and movers take turns on it",
            "give this process two CPUs or more, or read the figures as of an overcommitted host",
        )),
        count => Ok(format!("{count} ({allowed})")),
    }
}

/// Memory that can be had without swapping, in bytes: `MemAvailable` under `root`.
///
/// # Errors
/// When /proc/meminfo does not say.
pub fn available_memory(root: &Path) -> Result<u64, Missing> {
    let path = root.join("proc/meminfo");
    let unknown = |why: String| Missing::new(why, "mount /proc");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| unknown(format!("{} cannot be read: {error}", path.display())))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| unknown(format!("{} names no MemAvailable", path.display())))
}

fn memory(root: &Path) -> Result<String, Missing> {
    let available = available_memory(root)?;
    // The guest, and as much again for frames and results.
    let least = 2 * MemorySize::MIN;
    if available < least {
        let why = format!(
            "{} MiB available, {} MiB needed",
            available >> 20,
            least >> 20
        );
        return Err(Missing::new(why, "free some memory"));
    }
    Ok(format!("{} MiB available", available >> 20))
}

/// Looks at everything, on the host whose device and proc files are under `root` (`/`, but for
/// tests).
#[must_use]
pub fn check_all(root: &Path) -> Vec<Check> {
    let check = |what, required, result| Check {
        what,
        required,
        result,
    };
    let kvm = kvm(root);
    let with_kvm = |look: fn(&Kvm) -> Result<String, Missing>| match &kvm {
        Ok(kvm) => look(kvm),
        Err(missing) => Err(missing.clone()),
    };
    vec![
        check(
            "KVM",
            true,
            with_kvm(|_| Ok(format!("API version {KVM_API_VERSION}"))),
        ),
        check("KVM capabilities", true, with_kvm(kvm_capabilities)),
        check("wait policies", false, with_kvm(wait_policies)),
        check("userfaultfd", true, userfaultfd()),
        check("frame numbers", false, frame_numbers()),
        check("CPUs", false, cpus()),
        check("memory", true, memory(root)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_told_with_its_remedy() {
        let root = tempfile::tempdir().unwrap();
        let missing = kvm(root.path()).err().unwrap();
        assert!(
            missing.why.contains("dev/kvm cannot be opened"),
            "{missing}"
        );
        assert!(missing.remedy.starts_with("load kvm_intel or kvm_amd"));
        let checks = check_all(root.path());
        let failed = |what| {
            checks
                .iter()
                .find(|c| c.what == what)
                .unwrap()
                .result
                .is_err()
        };
        assert!(failed("KVM") && failed("KVM capabilities") && failed("memory"));
    }

    #[test]
    fn a_file_that_is_not_kvm_is_told_so() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kvm"), "").unwrap();
        let missing = kvm(root.path()).err().unwrap();
        assert!(missing.why.contains("is not KVM"), "{missing}");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let file = root.path().join("proc/meminfo");
        std::fs::write(&file, "MemTotal: 99 kB\nMemAvailable:   20480 kB\n").unwrap();
        assert_eq!(available_memory(root.path()), Ok(20 << 20));
        assert!(
            memory(root.path())
                .unwrap_err()
                .why
                .contains("20 MiB available, 32 MiB needed")
        );
        std::fs::write(&file, "MemAvailable: much\n").unwrap();
        assert!(available_memory(root.path()).is_err());
    }
}
