//! What the standard library lacks of the operating system: signals, a lock on a file, the monotonic clock as
//! a number, and a child that says its own process id before it becomes the program.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// Sends a signal to a process, or with `group` to the whole group it leads.
pub(crate) fn signal(pid: u32, group: bool, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `kill` takes integers and touches no memory.
    match unsafe { libc::kill(if group { -pid } else { pid }, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How a child ended, if it has, without reaping it: its process id stays its own.
pub(crate) fn ended(pid: u32) -> Option<ExitStatus> {
    // SAFETY: all zeros is a valid value of this plain structure, and `waitid` fills it in.
    let (answer, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_PID, pid, &mut info, options), info)
    };
    // SAFETY: `waitid` filled in the fields of a child's end, or left zeros if it has not ended.
    let (who, status) = unsafe { (info.si_pid(), info.si_status()) };
    if answer != 0 || who == 0 {
        return None;
    }
    Some(ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }))
}

/// Waits until this process alone holds the lock on `file`; it is given back when the file is closed.
pub(crate) fn lock_file(file: &File) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Nanoseconds on the machine's monotonic clock: the same clock for all of its processes.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a place for the time. The call cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + (now.tv_nsec as u64)
}

/// Has the child write its process id and a line feed to `to`, between its birth and the program it becomes:
/// so there is no moment at which it runs unannounced. `to` is open until the child was spawned.
pub(crate) fn announce_pid(command: &mut Command, to: RawFd) {
    let announce = move || {
        // Only calls that are safe after a fork, and no memory is asked for.
        let mut line = [0u8; 12];
        let mut start = line.len() - 1;
        line[start] = b'\n';
        // SAFETY: `getpid` takes nothing and cannot fail.
        let mut pid = unsafe { libc::getpid() }.unsigned_abs();
        while pid > 0 {
            start -= 1;
            line[start] = b'0' + (pid % 10) as u8;
            pid /= 10;
        }
        let text = &line[start..];
        // SAFETY: the bytes are valid for the call; the descriptor is open by the contract above.
        match unsafe { libc::write(to, text.as_ptr().cast(), text.len()) } {
            wrote if wrote == text.len() as isize => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes only calls that are safe after a fork.
    unsafe { command.pre_exec(announce) };
}
