//! The gateway's network of inner connections, which no process is in: seen by a descriptor of its own.

use std::process::Command;

/// Takes the gateway's sockets one after another, enters the namespace of the first that is of another,
/// and prints what the kernel lists there.
const SCRIPT: &str = r#"
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD, SIOCGSKNS, CLONE_NEWNET = 438, 0x894C, 0x40000000
pid = int(sys.argv[1])
own = os.stat("/proc/self/ns/net").st_ino
process = os.pidfd_open(pid)
for name in os.listdir(f"/proc/{pid}/fd"):
    try:
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            continue
        copy = libc.syscall(PIDFD_GETFD, process, int(name), 0)
        space = fcntl.ioctl(copy, SIOCGSKNS)
    except OSError:
        continue
    if os.fstat(space).st_ino != own:
        if libc.setns(space, CLONE_NEWNET) != 0:
            sys.exit("setns: " + os.strerror(ctypes.get_errno()))
        for table in "tcp", "tcp6":
            sys.stdout.write(open(f"/proc/self/net/{table}").read())
        sys.exit(0)
sys.exit("no socket of another namespace")
"#;

/// What a TCP socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    Listening,
    /// It remembers a connection that is over, and belongs to nobody.
    Remembering,
    Other(u8),
}

/// # Panics
/// Where the process has no such network.
pub(super) fn sockets(process: u32) -> Vec<SocketState> {
    let run = Command::new("python3").args(["-c", SCRIPT, &process.to_string()]).output();
    let run = run.expect("the python3 command");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8_lossy(&run.stdout);
    let state = |line: &str| u8::from_str_radix(line.split_whitespace().nth(3)?, 16).ok();
    let states = text.lines().filter_map(state).map(|state| match state {
        0x0a => SocketState::Listening,
        0x06 => SocketState::Remembering,
        other => SocketState::Other(other),
    });
    states.collect()
}
