//! The child process in which one client is measured once.

use std::process::Command;
use std::time::Duration;

use laneway_testing::Process;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::clients::Job;
use crate::idle::Idle;
use crate::keyed::Cell;
use crate::start::Start;
use crate::stats::Figures;

/// What a child is to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// Read a topic to its end.
    Read(Job),
    /// Read a topic with so many members, or clients.
    Members(Job, i32),
    /// Hold lanes that have nothing to do.
    Idle(Idle),
    /// Handle records by key.
    Keyed(Cell),
    /// Start lanes.
    Start(Start),
}

/// Has a child do it, and gives what it measured.
pub(crate) fn run(task: &Task) -> Result<Figures, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(serde_json::to_string(task)?);
    let child = Process::spawn(command)?;
    let status = child.wait(LONGEST)?;
    let said = child.stdout().pop().unwrap_or_default();
    if !status.success() {
        return Err(format!("the measured client ended with {status}: {}", child.stderr().join("\n")).into());
    }
    serde_json::from_str(&said)
        .map_err(|error| format!("the measured client said \"{said}\": {error}").into())
}

/// Is a child.
pub(crate) fn be(task: &str) -> Result<(), Failure> {
    let figures = crate::perform(serde_json::from_str(task)?)?;
    println!("{}", serde_json::to_string(&figures)?);
    // What a client does when it ends is not measured, and can take long.
    std::process::exit(0);
}

/// Tells a child from its parent.
pub(crate) const ARGUMENT: &str = "measured-child";
const LONGEST: Duration = Duration::from_secs(900);
