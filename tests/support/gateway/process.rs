//! The gateway's process: start, log, signals, what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// From start to the line `ready`, on a busy machine and a debug build.
const READY_MAX: Duration = Duration::from_secs(60);
/// From SIGTERM to the end, beyond the drain deadline the test has set.
const EXIT_MAX: Duration = Duration::from_secs(30);

pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// The `sluice` binary: `$SLUICE_BIN`, or the one built beside the tests.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("the test's own path");
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("sluice"));
    let found = beside.into_iter().find(|path| path.is_file());
    found.expect("no `sluice` beside the tests: build it first (cargo build -p gateway)")
}

impl Process {
    pub(super) fn start(config: &Path, launcher: &[String]) -> Self {
        let mut command = match launcher {
            [] => Command::new(binary()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
        };
        let mut child = command
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sluice binary");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = channel();
        let stderr = child.stderr.take().expect("a pipe");
        let kept = Arc::clone(&log);
        std::thread::spawn(move || keep(stderr, &kept, &ready));
        let process = Self { child, log };
        process.wait_ready(&is_ready);
        process
    }

    fn wait_ready(&self, is_ready: &Receiver<()>) {
        // The sender is gone when the process has ended without having been ready.
        let waited = is_ready.recv_timeout(READY_MAX);
        assert!(waited.is_ok(), "the gateway is not ready:\n{}", self.log().join("\n"));
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, signal).expect("the process is ours");
    }

    pub(super) fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < EXIT_MAX {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    pub(super) fn cpu_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let spent = |task: std::fs::DirEntry| -> Option<u64> {
            let account = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            account.split(' ').next()?.parse().ok()
        };
        tasks.into_iter().flatten().flatten().filter_map(spent).sum()
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }

    pub(super) fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

/// The kernel counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that a process has had so far, its own and the kernel's for it.
#[must_use]
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name before may hold anything, in brackets; then state and ten more fields.
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u32 = rest.split(' ').skip(11).take(2).filter_map(|it| it.parse::<u32>().ok()).sum();
    TICK * ticks
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(stderr: ChildStderr, log: &Mutex<Vec<String>>, ready: &std::sync::mpsc::Sender<()>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.trim() == "ready" {
            ready.send(()).ok();
        }
        log.lock().expect("the log").push(line);
    }
}
