//! A sweep driven by a real Slurm: one node, started here.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use underfoot_tests::{Command, Scratch, kvm, turn, underfoot};

const SWEEP: &str = "repeat = 2\n[base]\nduration = '600ms'\nwarmup = '50ms'\ncpus = 2\n\
                     [matrix]\nbatch = [1, 32]\n";

/// A controller and a node; they end when it is dropped.
struct Cluster {
    configuration: PathBuf,
    daemons: Vec<Child>,
}

impl Cluster {
    fn start(directory: &Path) -> Self {
        let node = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let node = node.trim().split('.').next().expect("a name").to_owned();
        for name in ["spool", "state"] {
            fs::create_dir(directory.join(name)).expect("room");
        }
        let configuration = directory.join("slurm.conf");
        fs::write(&configuration, slurm_conf(directory, &node)).expect("room");
        let mut cluster = Self {
            configuration,
            daemons: Vec::new(),
        };
        cluster.daemon("slurmctld", &["-D"]);
        cluster.daemon("slurmd", &["-D", "-N", &node]);
        cluster.wait_until_idle();
        cluster
    }

    fn daemon(&mut self, name: &str, flags: &[&str]) {
        let child = Process::new(name)
            .arg("-f")
            .arg(&self.configuration)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} (package slurm-wlm) does not start: {error}"));
        self.daemons.push(child);
    }

    fn call(&self, name: &str, args: &[&str], directory: &Path) -> Output {
        Process::new(name)
            .args(args)
            .env("SLURM_CONF", &self.configuration)
            .current_dir(directory)
            .output()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"))
    }

    fn wait_until_idle(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.call("sinfo", &["-h", "-o", "%t"], Path::new("/"));
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            if said.trim() == "idle" {
                return;
            }
            assert!(Instant::now() < deadline, "the node is {said:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // One that is gone already is none the worse.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn slurm_conf(directory: &Path, node: &str) -> String {
    // Two ports that nobody has now.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let ports = [free(), free()].map(|socket| socket.local_addr().expect("bound").port());
    let [controller, daemon] = ports;
    let at = directory.display();
    format!(
        "ClusterName=underfoot\nSlurmctldHost={node}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
         AuthType=auth/none\nCryptoType=crypto/none\nCredType=cred/none\nSwitchType=switch/none\n\
         ProctrackType=proctrack/pgid\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_CPU\nSlurmctldPort={controller}\nSlurmdPort={daemon}\n\
         SlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd.pid\n\
         SlurmdSpoolDir={at}/spool\nStateSaveLocation={at}/state\n\
         SlurmctldLogFile={at}/slurmctld.log\nSlurmdLogFile={at}/slurmd.log\n\
         NodeName={node} NodeAddr=127.0.0.1 CPUs=1 RealMemory=500 State=UNKNOWN\n\
         PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP\n"
    )
}

/// The tasks of an array take a shard each, by Slurm's variables alone; the node has room for one at a time.
#[test]
#[ignore = "wants root, and Slurm (Debian's slurm-wlm)"]
fn the_tasks_of_an_array_are_shards() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let work = scratch.work();
    fs::write(work.join("x.toml"), SWEEP).expect("room");
    let slurm = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(slurm.path());
    let job = format!("{} sweep x.toml --out all", underfoot().display());
    let output = slurm.path().join("task.%a");
    let output = output.to_str().expect("the directory is UTF-8");
    let args = ["--wait", "--array=3-7:2", "-o", output, "--wrap", &job];
    let told = cluster.call("sbatch", &args, &work);
    let tasks = [3, 5, 7].map(|task| {
        fs::read_to_string(slurm.path().join(format!("task.{task}"))).unwrap_or_default()
    });
    assert!(told.status.success(), "{told:?}\n{}", tasks.join("\n"));
    let runs = fs::read_dir(work.join("all/runs")).expect("runs").count();
    assert_eq!(runs, 4, "{}", tasks.join("\n"));
    let whole = tasks
        .iter()
        .filter(|said| said.contains("4 sound, 0 not sound, 0 to be done"));
    assert_eq!(
        whole.count(),
        1,
        "the last one says so: {}",
        tasks.join("\n")
    );
    // Nothing is left to do.
    Command::underfoot(&scratch)
        .words("sweep x.toml --out all")
        .run()
        .assert_status(0);
}
