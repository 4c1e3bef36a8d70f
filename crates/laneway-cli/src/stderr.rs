//! What is said to a person, on standard error.

use std::io::Write;

/// Says a line. Where it can't be written (its reader went away, the disk is full) it goes unsaid: `eprintln!`
/// would panic, and some of this is said on the client thread.
pub(crate) fn say(line: &str) {
    // One write, so that what workers say does not come in between.
    std::io::stderr().write_all(format!("laneway: {line}\n").as_bytes()).ok();
}
