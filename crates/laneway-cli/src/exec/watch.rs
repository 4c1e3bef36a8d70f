//! Ends the workers when this process ends, however it does: a second process holds a pipe to this one, hears
//! through it which process groups run, and kills them when the pipe breaks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write, stdin};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::sys;

/// The watching process. It ends by itself when this is dropped.
pub(super) struct Watch(Mutex<Watcher>);

struct Watcher {
    child: Child,
    pipe: ChildStdin,
}

impl Watch {
    pub(super) fn start() -> std::io::Result<Self> {
        Ok(Self(Mutex::new(Watcher::start()?)))
    }

    /// Where a new process group says that it runs. Where the watching process has been ended by somebody, a
    /// new one takes its place, and hears of what runs.
    pub(super) fn pipe(&self, running: &BTreeSet<u32>) -> std::io::Result<RawFd> {
        let mut watcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.child.try_wait()?.is_some() {
            *watcher = Watcher::start()?;
            for leader in running {
                watcher.pipe.write_all(format!("+{leader}\n").as_bytes())?;
            }
        }
        Ok(watcher.pipe.as_raw_fd())
    }

    /// A process group has ended: its number may become another's.
    pub(super) fn forget(&self, leader: u32) {
        let mut watcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the watching process is gone, there is nobody who could do harm.
        watcher.pipe.write_all(format!("-{leader}\n").as_bytes()).ok();
    }
}

impl Watcher {
    fn start() -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("__supervise")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the terminal's group, from its first moment on: Ctrl-C is not for it.
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().ok_or_else(|| std::io::Error::other("its pipe is missing"))?;
        Ok(Self { child, pipe })
    }
}

/// What the watching process does.
pub(crate) fn supervise() -> ExitCode {
    sys::outlive_signals();
    let mut running = BTreeSet::new();
    for line in BufReader::new(stdin()).lines() {
        let Ok(line) = line else { break };
        let (sign, number) = line.split_at_checked(1).unwrap_or_default();
        match (sign, number.parse::<u32>()) {
            ("+", Ok(leader)) => running.insert(leader),
            ("-", Ok(leader)) => running.remove(&leader),
            _ => false,
        };
    }
    for leader in running {
        sys::signal_group(leader, libc::SIGKILL);
    }
    ExitCode::SUCCESS
}
