//! What this host can do, and how to mend what it can't.

use serde::Serialize;
use std::path::Path;
use underfoot_vmm::capability::{Missing, check_all};
use underfoot_vmm::{HostError, HostInfo, Stage2};

/// The schema of `doctor --json`.
pub const DOCTOR_SCHEMA: &str = "underfoot.doctor/1";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether `run` needs it; the rest only adds to what can be measured.
    pub needed: bool,
    /// What was found.
    pub detail: String,
    /// How to mend it; null where it is as it should be.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, needed: bool, result: Result<String, Missing>) -> Self {
        let (ok, detail, remedy) = match result {
            Ok(detail) => (true, detail, None),
            Err(missing) => (false, missing.why, Some(missing.remedy)),
        };
        Self {
            name,
            ok,
            needed,
            detail,
            remedy,
        }
    }

    fn wish(name: &'static str, result: Result<String, Missing>) -> Self {
        Self::new(name, false, result)
    }
}

/// A needed thing that this host lacks.
#[derive(Debug, thiserror::Error)]
#[error("{name}")]
pub struct Lacking {
    name: &'static str,
    #[source]
    missing: Missing,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// [`DOCTOR_SCHEMA`].
    pub schema: &'static str,
    /// Whether all that `run` needs is there.
    pub ready: bool,
    /// In a fixed order.
    pub checks: Vec<Check>,
}

impl From<Vec<Check>> for Diagnosis {
    fn from(checks: Vec<Check>) -> Self {
        Self {
            schema: DOCTOR_SCHEMA,
            ready: checks.iter().all(|check| check.ok || !check.needed),
            checks,
        }
    }
}

/// Looks at the host under `root` (`/`, but for tests). Opens KVM and a userfaultfd, and leaves
/// nothing behind.
#[must_use]
pub fn diagnose(root: &Path) -> Diagnosis {
    let host = HostInfo::detect(root);
    let mut checks: Vec<Check> = check_all(root)
        .into_iter()
        .map(|check| Check::new(check.what, check.required, check.result))
        .collect();
    checks.extend([ring0(&host), stage2(&host), huge_pages(&host), clock(&host)]);
    checks.into()
}

/// Whether everything that a run needs is there; cheap enough to ask before each.
///
/// # Errors
/// [`Lacking`]: the first thing that is missing, and the remedy.
pub fn preflight(root: &Path) -> Result<(), Lacking> {
    let lacking = check_all(root)
        .into_iter()
        .filter(|check| check.required)
        .find_map(|check| {
            let missing = check.result.err()?;
            let name = check.what;
            Some(Lacking { name, missing })
        });
    lacking.map_or(Ok(()), Err)
}

impl Diagnosis {
    /// For people: a line for each check, and one more for each remedy.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let state = match (check.ok, check.needed) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "without",
            };
            text.push_str(&format!("{state:<8}{:<18}{}\n", check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                text.push_str(&format!("{:26}remedy: {remedy}\n", ""));
            }
        }
        text.push_str(if self.ready {
            "This host can run underfoot.\n"
        } else {
            "This host cannot run underfoot: see MISSING above.\n"
        });
        text
    }

    /// For programs, with a line feed at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and truth values: nothing that JSON cannot say.
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }
}

type Host = Result<HostInfo, HostError>;

/// What a check of something that nobody knows says.
fn unknown(error: &HostError) -> Missing {
    Missing {
        why: format!("unknown: {error}"),
        remedy: "see KVM".to_owned(),
    }
}

/// Where ring 0 is emulated, the guest's kernel runs at CPL 3; the guest finds out for itself by
/// timing a few instructions, so this is what is to be expected.
fn ring0(host: &Host) -> Check {
    let result = host.as_ref().map_err(unknown).map(|host| {
        if host.module == "kvm_pvm" {
            "emulated by kvm_pvm: --cpl auto takes CPL 3, --cpl 0 is refused".to_owned()
        } else {
            format!("native under {}: --cpl auto takes CPL 0", host.module)
        }
    });
    Check::wish("ring 0", result)
}

fn stage2(host: &Host) -> Check {
    let result = host.as_ref().map_err(unknown).map(|host| {
        let caveat = match (host.stage2, host.nested) {
            (Stage2::Shadow, _) => ": figures are not those of EPT or NPT",
            (_, true) => ", nested: figures are not those of bare metal",
            (_, false) => "",
        };
        format!("{} ({}){caveat}", host.stage2, host.module)
    });
    Check::wish("stage 2", result)
}

fn huge_pages(host: &Host) -> Check {
    let result = host
        .as_ref()
        .map_err(unknown)
        .and_then(|host| match host.huge_pages.as_str() {
            setting @ ("never" | "absent") => Err(Missing {
                why: format!("transparent huge pages: {setting}, so --hugepages changes nothing"),
                remedy: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
            }),
            setting => Ok(format!("transparent, {setting}")),
        });
    Check::wish("huge pages", result)
}

fn clock(host: &Host) -> Check {
    let result = host.as_ref().map_err(unknown).map(|host| {
        format!(
            "clock source {}; latencies are taken with the TSC",
            host.clocksource
        )
    });
    Check::wish("clock", result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ok: bool, needed: bool) -> Check {
        let missing = Missing {
            why: "b".into(),
            remedy: "mend a".into(),
        };
        Check::new("a", needed, if ok { Ok("b".into()) } else { Err(missing) })
    }

    #[test]
    fn missing_things_come_with_a_remedy() {
        for check in diagnose(Path::new("/")).checks {
            assert_eq!(check.ok, check.remedy.is_none(), "{check:?}");
        }
    }

    #[test]
    fn only_needed_things_decide() {
        let wish = Diagnosis::from(vec![check(false, false), check(true, true)]);
        assert!(wish.ready && wish.to_text().contains("remedy: mend a"));
        let need = Diagnosis::from(vec![check(true, false), check(false, true)]);
        assert!(!need.ready && need.to_text().contains("MISSING"));
        let json: serde_json::Value = serde_json::from_str(&need.to_json()).expect("JSON");
        assert_eq!(json["checks"][1]["remedy"], "mend a");
        assert_eq!(json["checks"][0]["remedy"], serde_json::Value::Null);
    }

    #[test]
    fn an_empty_host_lacks_kvm_and_nothing_is_claimed_of_it() {
        let empty = tempfile::tempdir().expect("a directory");
        let diagnosis = diagnose(empty.path());
        assert!(!diagnosis.ready);
        for name in ["ring 0", "stage 2", "huge pages", "clock"] {
            let check = diagnosis.checks.iter().find(|check| check.name == name);
            assert!(check.is_some_and(|check| !check.ok), "{name}");
        }
        let error = preflight(empty.path()).expect_err("nothing is there");
        let text = crate::error::chain(&error);
        assert!(
            text.contains("dev/kvm") && text.contains("kvm_intel"),
            "{text}"
        );
    }
}
