//! What needs the system itself: process groups, signals, terminals, what is ready to be written to. All of the
//! command's unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Sends a signal to a process group. False if there is no such group (any more).
pub(crate) fn signal_group(leader: u32, signal: i32) -> bool {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return false };
    // 0 and 1 would be our own group, and everybody's.
    if leader <= 1 {
        return false;
    }
    // SAFETY: killpg takes two numbers and touches no memory of ours.
    unsafe { libc::killpg(leader, signal) == 0 }
}

/// Takes note of processes of a group that have ended and whose parent is gone. Their new one is whoever is process 1, as
/// the command is in a container: else nobody would, and they would be there for ever. The group's leader is to be waited
/// for before.
pub(crate) fn reap_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // -1 would be all children there are.
    if leader <= 1 {
        return;
    }
    // SAFETY: waitpid takes numbers, and a status that may be null.
    while unsafe { libc::waitpid(-leader, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Has the command lead a process group of its own, and say so on `watch` before it runs: `+PID`, a line.
pub(crate) fn lead_a_watched_group(command: &mut Command, watch: RawFd) {
    let prepare = move || {
        // SAFETY: setpgid and getpid take and give numbers only, and are async-signal-safe.
        let (set, pid) = unsafe { (libc::setpgid(0, 0), libc::getpid()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut line = [0u8; 16];
        let start = plus_line(&mut line, pid);
        let text = &line[start..];
        // SAFETY: `text` is valid for its length, and write is async-signal-safe. A line is shorter than
        // PIPE_BUF, so it is written whole or not at all.
        let written = unsafe { libc::write(watch, text.as_ptr().cast(), text.len()) };
        if written == isize::try_from(text.len()).unwrap_or(-1) {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: `prepare` runs between fork and exec: it allocates nothing, takes no lock, and calls only
    // functions that are async-signal-safe. `last_os_error` reads errno.
    unsafe { command.pre_exec(prepare) };
}

/// Writes `+PID\n` to the end of the buffer, without allocating. Answers where it starts.
fn plus_line(line: &mut [u8; 16], pid: i32) -> usize {
    let mut at = line.len() - 1;
    line[at] = b'\n';
    let mut rest = pid.unsigned_abs();
    loop {
        at -= 1;
        line[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    line[at] = b'+';
    at
}

/// Leaves the terminal's process group, and heeds none of the signals that a terminal or a service manager
/// sends: this process ends when its parent does.
pub(crate) fn outlive_signals() {
    // SAFETY: setsid takes nothing; it fails harmlessly where this process leads a group already.
    unsafe { libc::setsid() };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN is a valid disposition, and no handler of ours is replaced.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The rows and columns of a terminal, each 0 where it does not know.
pub(crate) fn terminal_size(terminal: &impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open while it is borrowed, and this request writes one `winsize`, which `size` is.
    let asked = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0).then_some((size.ws_row, size.ws_col))
}

/// Waits until something can be written, or the reader is gone: then too, writing does not wait. False if neither
/// is so within the time.
pub(crate) fn is_writable(to: &impl AsFd, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        let mut ready = libc::pollfd { fd: to.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `ready` is the one pollfd that is told of, and the descriptor is open while it is borrowed.
        match unsafe { libc::poll(&raw mut ready, 1, milliseconds) } {
            0 => return false,
            // It was a signal that ended the waiting; on any other error, writing will tell.
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return true,
        }
    }
}

/// Stops this process until it is told to go on, as Ctrl-Z does.
pub(crate) fn stop_here() {
    // SAFETY: raise takes a number; SIGSTOP has no handler.
    unsafe { libc::raise(libc::SIGSTOP) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn a_pid_is_written_as_a_line() {
        for (pid, text) in [(7, "+7\n"), (4_194_304, "+4194304\n"), (i32::MAX, "+2147483647\n")] {
            let mut line = [0u8; 16];
            let start = plus_line(&mut line, pid);
            assert_eq!(&line[start..], text.as_bytes());
        }
    }

    #[test]
    fn no_signal_goes_to_our_own_group_or_to_everybody() {
        assert!(!signal_group(0, 0) && !signal_group(1, 0) && !signal_group(u32::MAX, 0));
    }
    #[test]
    fn what_a_worker_left_behind_is_taken_note_of_where_nobody_else_does() {
        use std::os::unix::process::CommandExt as _;
        // As process 1 is that of everybody.
        // SAFETY: prctl takes numbers here.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        let left = Command::new("sh").args(["-c", "sleep 0.05 &"]).process_group(0).spawn();
        let mut left = left.expect("a shell");
        left.wait().expect("its end");
        let begun = std::time::Instant::now();
        while signal_group(left.id(), 0) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the group is still there");
            reap_group(left.id());
            std::thread::yield_now();
        }
    }
}
