//! A child that dies with us, however we die, and a directory that goes with it.
//!
//! A shell beside us reads a pipe whose other end only this process has. The child says its process id into the
//! pipe before it becomes its program. When the pipe closes, because we asked, panicked, were killed or crashed,
//! the shell kills the child's process group and removes the directory. (The kernel's own signal for a dying
//! parent is sent when the *thread* that made the child ends, which a test's threads do.)

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Error;
use crate::sys;

/// The shell: remembers the last process id it was told, until it is told to forget it.
const WATCH: &str = r#"
trap '' HUP INT TERM QUIT PIPE
pid=
while read -r word; do case $word in forget) pid= ;; *) pid=$word ;; esac; done
[ -z "$pid" ] || kill -s KILL -- "-$pid" 2>/dev/null
[ -z "$1" ] && exit
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null
    [ -e "$1" ] || exit
    sleep 0.2
done
"#;

/// Watches over one child at a time.
pub(crate) struct Guard {
    watcher: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// A guard; `remove` is a directory that is removed at the end, after the child was killed.
    pub(crate) fn new(remove: Option<&Path>) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(WATCH).arg("laneway-guard");
        if let Some(directory) = remove {
            command.arg(directory);
        }
        // A group of its own: a Ctrl-C in the terminal is not for the watcher.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut watcher = command
            .spawn()
            .map_err(|e| Error::new(format!("no shell to watch over a child: {e}; is there an `sh`?")))?;
        let pipe = watcher.stdin.take();
        Ok(Self { watcher, pipe })
    }

    /// Starts a child, in a process group of its own.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Child, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        let Some(pipe) = &self.pipe else {
            return Err(Error::new(format!("{name} not started: its guard has ended")));
        };
        command.process_group(0);
        sys::announce_pid(command, pipe.as_raw_fd());
        command.spawn().map_err(|e| {
            self.forget();
            Error::new(format!("{name} not started: {e}"))
        })
    }

    /// The child is gone, or about to be: its process id may become another's.
    pub(crate) fn forget(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            // It fails only if the watcher is gone, and then it kills nobody.
            let _ = pipe.write_all(b"forget\n");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.watcher.wait();
    }
}
