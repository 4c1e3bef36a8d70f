//! What is said to a person, on standard error.

use std::fs::File;
use std::io::{Write, stderr};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use crate::writer::Writer;

/// Says a line. Where it can't be written (its reader went away, the disk is full) it goes unsaid: `eprintln!`
/// would panic.
pub(crate) fn say(line: &str) {
    write(format!("laneway: {line}\n").into_bytes(), false);
}

/// Writes to standard error as a [`Writer`] does, in turn with everything else that is said.
pub(crate) fn write(line: Vec<u8>, keep: bool) -> bool {
    match writer() {
        Some(writer) => writer.write(line, keep),
        // One write, so that what workers say does not come in between.
        None => stderr().write_all(&line).is_ok(),
    }
}

/// To be called before the process ends.
pub(crate) fn flush() {
    if let Some(writer) = writer() {
        writer.flush();
    }
}

fn writer() -> Option<&'static Writer> {
    static WRITER: OnceLock<Option<Writer>> = OnceLock::new();
    let open = || Ok(File::from(stderr().as_fd().try_clone_to_owned()?));
    WRITER.get_or_init(|| Writer::start(open, |_| {}).ok()).as_ref()
}
