//! The terminal while the demo is drawn in it, and that it is left as it was found: at the end, on a panic, on a
//! signal.

use std::fs::File;
use std::io::{IsTerminal, Write, stdout};
use std::sync::{Mutex, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::frame::Size;
use crate::sys;
use crate::writer::standard_output;

/// Whether frames can be drawn on standard output: it is a terminal, and one that can move its cursor.
pub(super) fn can_draw() -> bool {
    let is_able = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    is_able && stdout().is_terminal()
}

/// Whether colours are wanted (no-color.org).
pub(super) fn wants_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The terminal's size as it is now.
pub(super) fn size() -> Size {
    let told =
        |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok()).filter(|size| *size > 0);
    let (rows, columns) = sys::terminal_size(&stdout()).unwrap_or((0, 0));
    let or = |size: u16, name: &str, default| match size {
        0 => told(name).unwrap_or(default),
        size => usize::from(size),
    };
    Size { rows: or(rows, "LINES", 24), columns: or(columns, "COLUMNS", 80) }
}

/// The terminal is drawn in until this is dropped, or somebody [restores](restore) it.
pub(super) struct Drawing(());

impl Drawing {
    /// Takes the terminal over. What was on it comes back afterwards.
    pub(super) fn begin() -> std::io::Result<Self> {
        Self::begin_on(standard_output()?)
    }

    fn begin_on(terminal: File) -> std::io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        take(terminal)?;
        Ok(Self(()))
    }

    /// Takes the terminal over again, after it was restored.
    pub(super) fn again(&self) -> std::io::Result<()> {
        take(standard_output()?)
    }

    /// Writes a frame. False if the terminal has been restored: then nothing is written.
    pub(super) fn frame(&self, frame: &str) -> std::io::Result<bool> {
        match &mut *DRAWN_IN.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(terminal) => terminal.write_all(frame.as_bytes()).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        restore();
    }
}

fn take(mut terminal: File) -> std::io::Result<()> {
    let mut drawn_in = DRAWN_IN.lock().unwrap_or_else(PoisonError::into_inner);
    terminal.write_all(TAKE.as_bytes())?;
    *drawn_in = Some(terminal);
    Ok(())
}

/// Gives the terminal back, if it was taken. For any thread, at any time; nothing is drawn any more afterwards.
/// A terminal that takes nothing (Ctrl-S) is not waited for.
pub(super) fn restore() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DRAWN_IN.try_lock() {
            Ok(mut drawn_in) => return give_back(drawn_in.take()),
            Err(TryLockError::Poisoned(poisoned)) => return give_back(poisoned.into_inner().take()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn give_back(terminal: Option<File>) {
    if let Some(mut terminal) = terminal
        && sys::is_writable(&terminal, PATIENCE)
    {
        terminal.write_all(GIVE.as_bytes()).ok();
    }
}

/// What is drawn in, while it is.
static DRAWN_IN: Mutex<Option<File>> = Mutex::new(None);

/// The alternate screen, and no cursor.
const TAKE: &str = "\x1b[?1049h\x1b[?25l";
/// Lines wrap, no colour is left, the cursor and what was there before are back.
const GIVE: &str = "\x1b[?2026l\x1b[?7h\x1b[0m\x1b[?25h\x1b[?1049l";
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Read;

    use super::*;

    /// What is left in the pipe.
    fn rest(reader: &mut std::io::PipeReader) -> String {
        let mut bytes = [0; 256];
        let length = reader.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// One test: the terminal is one for the whole process.
    #[test]
    fn the_terminal_is_given_back_at_the_end_and_by_a_panic_anywhere() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let terminal = || File::from(std::os::fd::OwnedFd::from(writer.try_clone().unwrap()));
        let drawing = Drawing::begin_on(terminal()).unwrap();
        assert_eq!(rest(&mut reader), TAKE);
        assert!(drawing.frame("frame").unwrap());
        drop(drawing);
        assert_eq!(rest(&mut reader), format!("frame{GIVE}"));

        let drawing = Drawing::begin_on(terminal()).unwrap();
        assert_eq!(rest(&mut reader), TAKE);
        std::thread::spawn(|| panic!("a thread panics")).join().unwrap_err();
        assert_eq!(rest(&mut reader), GIVE);
        assert!(!drawing.frame("frame").unwrap(), "nothing is drawn any more");
        drop(drawing);

        let drawing = Drawing::begin_on(terminal()).unwrap();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = drawing;
            panic!("the one that draws panics")
        }));
        unwound.unwrap_err();
        drop(writer);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, format!("{TAKE}{GIVE}"), "given back once, and nothing besides");
    }
}
