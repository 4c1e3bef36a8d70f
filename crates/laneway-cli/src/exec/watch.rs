//! Ends the workers when this process ends, however it does: a second process holds a pipe to this one, hears
//! through it which process groups run, and kills them when the pipe breaks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write, stdin};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::sys;

/// The watching process. It ends by itself when this is dropped.
pub(super) struct Watch {
    pipe: Mutex<ChildStdin>,
    _child: Child,
}

impl Watch {
    pub(super) fn start() -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("__supervise")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = child.stdin.take().ok_or_else(|| std::io::Error::other("its pipe is missing"))?;
        Ok(Self { pipe: Mutex::new(pipe), _child: child })
    }

    /// Where a new process group says that it runs.
    pub(super) fn pipe(&self) -> RawFd {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_raw_fd()
    }

    /// A process group has ended: its number may become another's.
    pub(super) fn forget(&self, leader: u32) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the watching process is gone, there is nobody who could do harm.
        pipe.write_all(format!("-{leader}\n").as_bytes()).ok();
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
