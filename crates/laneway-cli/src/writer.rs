//! Lines to a file or a stream that may stall (a pipe that nobody reads, a terminal after Ctrl-S). Whoever writes waits
//! until the line was written, but not for ever: some of what is said is said on the client thread.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes lines, in their order, on a thread of its own.
pub(crate) struct Writer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Of lines that are not written yet.
    bytes: usize,
    given: u64,
    written: u64,
    /// A line had no room.
    full: bool,
    /// A line was not written in time: nobody waits any more, until all of them are.
    stalled: bool,
}

/// Standard output as a file. Where it can't be written to, [`std::io::Stdout`] says that all was written.
pub(crate) fn standard_output() -> std::io::Result<File> {
    Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?))
}

impl Writer {
    /// Writes to what `open` opens, which may take its time. `failed` is given what went wrong.
    pub(crate) fn start(
        open: impl FnOnce() -> std::io::Result<File> + Send + 'static,
        failed: impl Fn(std::io::Error) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let theirs = shared.clone();
        std::thread::Builder::new().name("laneway-lines".into()).spawn(move || {
            let mut file = open().map_err(&failed).ok();
            loop {
                let line = theirs.next();
                if let Some(file) = &mut file {
                    // One write: several processes may append to one file.
                    file.write_all(&line).unwrap_or_else(&failed);
                }
                theirs.is_written(line.len());
            }
        })?;
        Ok(Self(shared))
    }

    /// Writes a line, and returns when that is done; or after a second, and then at once until the reader has caught
    /// up. False if too much waits already: the line is dropped, unless it is to be kept in any case.
    pub(crate) fn write(&self, line: Vec<u8>, keep: bool) -> bool {
        let mut state = self.0.lock();
        // Once it was full, half of it is to be free again: gaps are to be few.
        let most = if state.full { MOST_BYTES / 2 } else { MOST_BYTES };
        state.full = state.bytes + line.len() > most;
        if state.full && !keep {
            return false;
        }
        state.bytes += line.len();
        state.waiting.push_back(line);
        state.given += 1;
        self.0.changed.notify_all();
        if !state.stalled {
            self.wait(state);
        }
        true
    }

    /// Waits until everything is written, but no longer than for one line.
    pub(crate) fn flush(&self) {
        self.wait(self.0.lock());
    }

    fn wait(&self, state: MutexGuard<'_, State>) {
        let upto = state.given;
        let behind = |state: &mut State| state.written < upto;
        let waited = self.0.changed.wait_timeout_while(state, PATIENCE, behind);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.stalled |= waited.timed_out();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            match state.waiting.pop_front() {
                Some(line) => return line,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn is_written(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        state.written += 1;
        state.stalled &= !state.waiting.is_empty();
        self.changed.notify_all();
    }
}

/// How long one line may take to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much may wait to be written.
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::{BufRead, BufReader, Read};
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use super::*;

    fn writer() -> (BufReader<std::io::PipeReader>, Writer) {
        let (reader, writer) = std::io::pipe().unwrap();
        let open = || Ok(File::from(OwnedFd::from(writer)));
        (BufReader::new(reader), Writer::start(open, |error| panic!("{error}")).unwrap())
    }

    #[test]
    fn a_line_is_written_when_writing_returns() {
        let (reader, writer) = writer();
        assert!(writer.write(b"a\n".to_vec(), false));
        let mut file = File::from(OwnedFd::from(reader.into_inner()));
        let mut bytes = [0; 8];
        assert_eq!(file.read(&mut bytes).unwrap(), 2);
    }

    #[test]
    fn a_stall_is_waited_for_once_and_then_everything_comes_in_order() {
        let (mut reader, writer) = writer();
        let began = Instant::now();
        // More than a pipe holds.
        for number in 0..2_000 {
            assert!(writer.write(format!("{number:100}\n").into_bytes(), false));
        }
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 10, "{:?}", began.elapsed());
        for number in 0..2_000 {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, format!("{number:100}\n"));
        }
        let caught_up = || !writer.0.lock().stalled;
        while !caught_up() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_unless_it_is_to_be_kept() {
        let (_reader, writer) = writer();
        let line = vec![b'x'; MOST_BYTES / 4];
        let taken = (0..10).filter(|_| writer.write(line.clone(), false)).count();
        assert_eq!(taken, 4);
        assert!(writer.write(line, true));
    }
}
