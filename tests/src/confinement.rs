//! Hosts that lack something, made of this one with mount namespaces and fewer privileges.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command as Std;

use crate::{Command, Scratch, skip, underfoot};

/// A host like this one, less what is taken away. Needs root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Confinement {
    /// Device nodes that stay in `/dev`; the others go. `None` leaves `/dev` alone.
    pub devices: Option<&'static [&'static str]>,
    /// Options of `setpriv` that take privileges away.
    pub privileges: &'static str,
    /// Size of a file system of its own at [`Confinement::full`], in KiB.
    pub full_kib: Option<u32>,
}

impl Confinement {
    /// Whether such hosts can be made here. Says that the test is skipped if not.
    ///
    /// # Panics
    ///
    /// As [`skip`].
    #[must_use]
    pub fn possible() -> bool {
        let made = Std::new("unshare")
            .args(["--mount", "setpriv", "--version"])
            .output();
        let possible = made.is_ok_and(|output| output.status.success());
        if !possible {
            skip("no right to mount namespaces (needs root and util-linux)");
        }
        possible
    }

    /// Where the small file system lies.
    #[must_use]
    pub fn full(scratch: &Scratch) -> PathBuf {
        scratch.join("full")
    }

    /// What was in the small file system when the command had ended.
    ///
    /// # Panics
    ///
    /// If the command did not run.
    #[must_use]
    pub fn left_in_full(scratch: &Scratch) -> String {
        fs::read_to_string(scratch.join("left")).expect("the listing")
    }

    /// `underfoot` on that host.
    ///
    /// # Panics
    ///
    /// If the files that this needs cannot be written.
    #[must_use]
    pub fn underfoot(self, scratch: &Scratch) -> Command<'_> {
        // A copy that a user without rights can reach too. Not made by this process: a child of another test's thread
        // might hold it open for writing, and nobody could run it ("Text file busy").
        let program = scratch.join("underfoot");
        let copied = Std::new("cp").args([underfoot(), &program]).status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "no copy of the program"
        );
        for path in [scratch.path().into(), scratch.work(), scratch.temporary()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("permissions");
        }
        let script = scratch.join("confine");
        fs::write(&script, self.script(scratch)).expect("the script");
        Command::new("unshare", scratch)
            .args(["--mount", "sh", "-eu"])
            .args([script, program])
    }

    /// The script takes the program and its arguments as its own.
    fn script(self, scratch: &Scratch) -> String {
        let mut text = String::new();
        if let Some(devices) = self.devices {
            let new = scratch.join("dev");
            let new = new.display();
            // Made beside /dev and put over it at the end, while the old nodes can still be bound.
            writeln!(text, "mkdir {new}; mount -t tmpfs none {new}").expect("a string");
            for device in devices {
                writeln!(
                    text,
                    "touch {new}/{device}; mount --bind /dev/{device} {new}/{device}"
                )
                .expect("a string");
            }
            writeln!(text, "mount --rbind {new} /dev").expect("a string");
        }
        if let Some(kib) = self.full_kib {
            let full = Self::full(scratch);
            let full = full.display();
            writeln!(
                text,
                "mkdir {full}; mount -t tmpfs -o size={kib}k none {full}"
            )
            .expect("a string");
        }
        writeln!(
            text,
            "status=0; setpriv {} \"$@\" || status=$?",
            self.privileges
        )
        .expect("a string");
        if self.full_kib.is_some() {
            writeln!(
                text,
                "ls -A {} >{}",
                Self::full(scratch).display(),
                scratch.join("left").display()
            )
            .expect("a string");
        }
        text.push_str("exit $status\n");
        text
    }
}
