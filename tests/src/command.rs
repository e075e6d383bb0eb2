//! Runs a command with a time limit and sees whether it left a process behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Std, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::refusal::refuse;
use crate::{Scratch, Summary, scheduling_of, underfoot};

/// Far more than any run here asks for: reaching it means that something hangs.
const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);

/// A command in the working directory of a [`Scratch`], in a process group of its own.
pub struct Command<'a> {
    std: Std,
    scratch: &'a Scratch,
    limit: Duration,
}

impl<'a> Command<'a> {
    /// The program under test.
    ///
    /// # Panics
    ///
    /// If it does not build.
    #[must_use]
    pub fn underfoot(scratch: &'a Scratch) -> Self {
        Self::new(underfoot(), scratch)
    }

    /// Any program.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>, scratch: &'a Scratch) -> Self {
        let mut std = Std::new(program);
        std.current_dir(scratch.work())
            .env("TMPDIR", scratch.temporary())
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .process_group(0);
        Self {
            std,
            scratch,
            limit: LIMIT,
        }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.std.args(args);
        self
    }

    /// Appends the arguments that are the words of `line`.
    #[must_use]
    pub fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Has the system call with this number fail for it, with this error.
    #[must_use]
    pub fn refused(mut self, call: libc::c_long, errno: i32) -> Self {
        refuse(&mut self.std, call, errno);
        self
    }

    /// Gives it longer than the few minutes after which it counts as hanging.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Running<'a> {
        // Files, not pipes: nobody has to drain them, and a forgotten child cannot hold them open.
        let create = |name| File::create(self.scratch.join(name)).expect("a file for the output");
        let child = self
            .std
            .stdout(create("stdout"))
            .stderr(create("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not start: {error}", self.std));
        Running {
            child,
            line: format!("{:?}", self.std),
            scratch: self.scratch,
            deadline: Instant::now() + self.limit,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// As [`Running::wait`].
    #[must_use]
    pub fn run(self) -> Finished {
        self.start().wait()
    }
}

/// A command under way. Dropped, it is killed with its whole group.
pub struct Running<'a> {
    child: Child,
    line: String,
    scratch: &'a Scratch,
    deadline: Instant,
}

impl Running<'_> {
    /// Its process id, which is that of its group too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many threads it has now.
    #[must_use]
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.id())).map_or(0, Iterator::count)
    }

    /// The CPU time that its threads whose names begin with `name` have had, in ns: by name.
    #[must_use]
    pub fn cpu_ns(&self, name: &str) -> BTreeMap<String, u64> {
        self.by_thread(name, |task| {
            // See the kernel's Documentation/scheduler/sched-stats.rst: time on a CPU comes first.
            let stat = fs::read_to_string(task.join("schedstat")).ok()?;
            stat.split(' ').next()?.parse().ok()
        })
    }

    /// The CPUs that its threads whose names begin with `name` may run on, as a list, and the one that each was last
    /// on: by name.
    #[must_use]
    pub fn host_cpus(&self, name: &str) -> BTreeMap<String, (String, String)> {
        self.by_thread(name, |task| {
            let status = fs::read_to_string(task.join("status")).ok()?;
            let mut lines = status.lines();
            let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            // See proc_pid_stat(5): the 39th field; the second, in parentheses, may hold spaces.
            let stat = fs::read_to_string(task.join("stat")).ok()?;
            let last = stat.rsplit_once(')')?.1.split_whitespace().nth(36)?;
            Some((allowed.trim().to_owned(), last.to_owned()))
        })
    }

    /// Policy, nice value and slice in ns of its threads whose names begin with `name`: by name.
    #[must_use]
    pub fn scheduling(&self, name: &str) -> BTreeMap<String, (u32, i32, u64)> {
        self.by_thread(name, |task| {
            let id: libc::pid_t = task.file_name()?.to_str()?.parse().ok()?;
            scheduling_of(id)
        })
    }

    /// What `read` finds in the /proc of its threads whose names begin with `name`: by name.
    fn by_thread<T>(&self, name: &str, read: impl Fn(&Path) -> Option<T>) -> BTreeMap<String, T> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id()));
        let tasks = tasks.into_iter().flatten().flatten();
        let named = |task: PathBuf| {
            let named = fs::read_to_string(task.join("comm")).ok()?;
            let named = named.trim();
            let found = named.starts_with(name).then(|| read(&task))??;
            Some((named.to_owned(), found))
        };
        tasks.filter_map(|task| named(task.path())).collect()
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    ///
    /// If the command ends before it does.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < self.deadline,
                "{} did not get to: {what}\n{}",
                self.line,
                self.read("stderr")
            );
            thread::sleep(POLL);
        }
    }

    /// Sends it a signal; its group gets none, as with `kill`.
    ///
    /// # Panics
    ///
    /// If it has been waited for.
    pub fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.id()).expect("a process id");
        // SAFETY: kill takes plain numbers; the child has not been waited for, so that the number
        // still is its own.
        let result = unsafe { libc::kill(id, signal) };
        assert_eq!(result, 0, "no such process: {}", self.line);
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If that takes longer than its limit, or if a process of its group outlives it.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(
                Instant::now() < self.deadline,
                "{} hangs\n{}",
                self.line,
                self.read("stderr")
            );
            thread::sleep(POLL);
        };
        let survivors = group_members(self.id());
        assert!(
            survivors.is_empty(),
            "{} left processes behind: {survivors:?}",
            self.line
        );
        Finished {
            status,
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
            line: self.line.clone(),
        }
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.scratch.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let group = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: killpg takes plain numbers. The group is the one made for this child; it is
        // empty after `wait`, which has checked that, and then the call fails without effect.
        unsafe { libc::killpg(group, libc::SIGKILL) };
        // The group is dead, so that this cannot block; after `wait` it returns at once.
        let _ = self.child.wait();
    }
}

/// The live members of a process group.
fn group_members(group: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("procfs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent, group.
            let mut fields = stat
                .rsplit_once(')')
                .map_or("", |(_, rest)| rest)
                .split_whitespace();
            fields.next().is_some_and(|state| state != "Z")
                && fields.nth(1).and_then(|field| field.parse().ok()) == Some(group)
        })
        .collect()
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    line: String,
}

impl Finished {
    /// Checks the exit status.
    ///
    /// # Panics
    ///
    /// If it is another, or a signal ended the command.
    pub fn assert_status(&self, expected: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(expected),
            "{} ended with {} (signal {:?})\n{}{}",
            self.line,
            self.status,
            self.status.signal(),
            self.stdout,
            self.stderr
        );
        self
    }

    /// Checks that the message on standard error holds each of `parts`, letter case and spaces
    /// aside (`5000GiB` is `5000 GiB`), and no panic.
    ///
    /// # Panics
    ///
    /// If one is missing.
    pub fn assert_says(&self, parts: &[&str]) -> &Self {
        let plain = |text: &str| text.to_lowercase().replace(char::is_whitespace, "");
        let said = plain(&self.stderr);
        for part in parts {
            assert!(
                said.contains(&plain(part)),
                "{} does not say '{part}':\n{}",
                self.line,
                self.stderr
            );
        }
        // The guest's own panics are told by the program, on a line that begins with its name.
        let panicked = |line: &str| line.starts_with("thread '") && line.contains("panicked at");
        assert!(
            !self.stderr.lines().any(panicked),
            "{} panicked:\n{}",
            self.line,
            self.stderr
        );
        self
    }

    /// The JSON summary that it wrote to `path`.
    ///
    /// # Panics
    ///
    /// If there is none, or it is no JSON.
    #[must_use]
    pub fn summary(&self, path: &Path) -> Summary {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.stderr));
        Summary::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell<'a>(scratch: &'a Scratch, line: &str) -> Command<'a> {
        Command::new("sh", scratch).args(["-c", line])
    }

    #[test]
    fn status_and_words_come_back() {
        let scratch = Scratch::new();
        let finished = shell(&scratch, "echo out; echo 5000 GiB >&2; exit 3").run();
        finished.assert_status(3).assert_says(&["5000GiB"]);
        assert_eq!(finished.stdout, "out\n");
    }

    #[test]
    #[should_panic(expected = "panicked:")]
    fn a_panic_is_no_message() {
        let scratch = Scratch::new();
        let line = "thread 'main' (7) panicked at src/main.rs:1:1:";
        let _ = shell(&scratch, &format!("echo \"{line}\" >&2"))
            .run()
            .assert_says(&[]);
    }

    #[test]
    #[should_panic(expected = "left processes behind")]
    fn a_process_left_behind_is_seen() {
        let scratch = Scratch::new();
        let _ = shell(&scratch, "sleep 60 & exit 0").run();
    }

    #[test]
    #[should_panic(expected = "hangs")]
    fn a_command_that_hangs_is_ended() {
        let scratch = Scratch::new();
        let _ = shell(&scratch, "sleep 60").limit(POLL).run();
    }

    #[test]
    #[should_panic(expected = "left in")]
    fn a_hidden_file_left_behind_is_seen() {
        let scratch = Scratch::new();
        let finished = shell(&scratch, "touch .hidden").run();
        finished.assert_status(0);
        scratch.assert_untouched();
    }

    #[test]
    fn a_signal_reaches_it() {
        let scratch = Scratch::new();
        let running = shell(&scratch, "exec sleep 60").start();
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait().status.signal(), Some(libc::SIGTERM));
    }
}
