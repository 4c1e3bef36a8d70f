//! A child process under control: what it says is kept, it can be stopped in every way, and it never outlives us.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::{Error, sys, try_wait_until};

/// A child process. It leads a process group of its own; when this is dropped, or this process ends however it
/// ends, the whole group is killed.
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Running>,
    stdin: Mutex<Option<ChildStdin>>,
    stdout: Lines,
    stderr: Lines,
}

struct Running {
    child: Child,
    ended: Option<ExitStatus>,
    guard: Guard,
}

impl Process {
    /// Starts `command`. Its standard input is a pipe that is open until [`close_stdin`](Self::close_stdin); its
    /// output and errors are kept, line by line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guard = Guard::new(None)?;
        let mut child = guard.spawn(&mut command)?;
        let stdin = Mutex::new(child.stdin.take());
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        let pid = child.id();
        Ok(Self {
            name,
            pid,
            child: Mutex::new(Running { child, ended: None, guard }),
            stdin,
            stdout,
            stderr,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The lines it has written to its standard output so far, without line ends.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.get().clone()
    }

    /// The lines it has written to its standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.get().clone()
    }

    /// Runs `look` on the lines of standard output without copying them.
    pub fn with_stdout<T>(&self, look: impl FnOnce(&[String]) -> T) -> T {
        look(&self.stdout.get())
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When it was closed, on either side.
    pub fn write_stdin(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pipe) = stdin.as_mut() else {
            return Err(Error::new(format!("standard input of {} was closed", self.name)));
        };
        pipe.write_all(bytes).map_err(|e| Error::new(format!("standard input of {}: {e}", self.name)))
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) {
        *self.stdin.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(libc::SIGTERM)
    }

    /// Kills it alone, not its group (SIGKILL); [`wait`](Self::wait) for its end.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(libc::SIGKILL)
    }

    /// Stops it where it stands (SIGSTOP), and waits until all of it has.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn freeze(&self) -> Result<(), Error> {
        self.signal(libc::SIGSTOP)?;
        wait_until_stopped(self.pid)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended already.
    pub fn thaw(&self) -> Result<(), Error> {
        self.signal(libc::SIGCONT)
    }

    /// Sends it a signal, by number.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if let Some(ended) = self.ended() {
            return Err(Error::new(format!("signal {signal} to {}: it has ended with {ended}", self.name)));
        }
        sys::signal(self.pid, false, signal)
            .map_err(|e| Error::new(format!("signal {signal} to {}: {e}", self.name)))
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.running().poll()
    }

    /// Waits for its end, and for the last of its output.
    ///
    /// # Errors
    /// When it has not ended within `deadline`; it goes on then. The error tells the last lines of its errors.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus, Error> {
        let ended = try_wait_until(deadline, &format!("end of {}", self.name), || self.ended().is_some());
        match self.ended() {
            Some(status) => {
                // Somebody who inherited its output may hold it open: that is not waited for for ever.
                let patience = Instant::now() + Duration::from_secs(20);
                while !(self.stdout.finished() && self.stderr.finished()) && Instant::now() < patience {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(status)
            }
            None => {
                let why = ended.err().map(|e| e.to_string()).unwrap_or_default();
                let said = self.stderr();
                let last = said.get(said.len().saturating_sub(10)..).unwrap_or_default().join("\n");
                Err(Error::new(format!("{why}; the last of its errors:\n{last}")))
            }
        }
    }

    /// Waits for a line of standard output that `matches`, and gives it.
    ///
    /// # Errors
    /// When there is none within `deadline`.
    pub fn wait_for_stdout(
        &self,
        deadline: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<String, Error> {
        self.wait_for(&self.stdout, "output", deadline, matches)
    }

    /// Waits for a line of standard error that `matches`, and gives it.
    ///
    /// # Errors
    /// When there is none within `deadline`.
    pub fn wait_for_stderr(
        &self,
        deadline: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<String, Error> {
        self.wait_for(&self.stderr, "error", deadline, matches)
    }

    fn wait_for(
        &self,
        lines: &Lines,
        which: &str,
        deadline: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<String, Error> {
        let mut seen = 0;
        let mut found = None;
        let waited =
            try_wait_until(deadline, &format!("a line on standard {which} of {}", self.name), || {
                let lines = lines.get();
                found = lines[seen..].iter().find(|line| matches(line)).cloned();
                seen = lines.len();
                found.is_some()
            });
        match found {
            Some(line) => Ok(line),
            None => {
                let said = self.stderr().join("\n");
                Err(Error::new(format!(
                    "{}; its errors:\n{said}",
                    waited.err().map(|e| e.to_string()).unwrap_or_default()
                )))
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// How it ended. It is not reaped before it is dropped, so its process id stays its own until then, and no
    /// signal goes to a stranger.
    fn poll(&mut self) -> Option<ExitStatus> {
        self.ended = self.ended.or_else(|| sys::ended(self.child.id()));
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut running = self.running();
        // The group may outlive its leader, whose number is its own until it is reaped.
        let _ = sys::signal(self.pid, true, libc::SIGKILL);
        running.guard.forget();
        let _ = running.child.wait();
    }
}

/// The signal is sent when the call returns, and each thread stops when it next looks: on a busy machine one goes on for a
/// while. Where there is no `/proc` that is not waited for.
pub(crate) fn wait_until_stopped(pid: u32) -> Result<(), Error> {
    let has_stopped = || {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // Behind the name, which is in parentheses and may hold anything. A task that is gone has stopped, too.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
        })
    };
    try_wait_until(Duration::from_secs(10), &format!("process {pid} to stop"), has_stopped)
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Lines that a thread reads until their source ends.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(source: Option<impl Read + Send + 'static>) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let thread = source.map(|source| {
            thread::spawn(move || {
                let mut source = BufReader::new(source);
                let mut line = Vec::new();
                while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
                    let text = line.strip_suffix(b"\n").unwrap_or(&line);
                    let text = String::from_utf8_lossy(text).into_owned();
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    line.clear();
                }
            })
        });
        Self { lines, thread }
    }

    fn get(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}
