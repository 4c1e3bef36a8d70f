//! Child processes under control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use laneway_testing::{Process, try_wait_until, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn sh(script: &str) -> Process {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    Process::spawn(command).unwrap()
}

fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn gone(pid: &str) -> bool {
    matches!(state(pid), None | Some('Z'))
}

#[test]
fn output_errors_and_exit_code_are_kept() {
    let child = sh("echo one; echo two >&2; printf three; exit 7");
    assert_eq!(child.wait(SOON).unwrap().code(), Some(7));
    assert_eq!(child.stdout(), ["one", "three"]);
    assert_eq!(child.stderr(), ["two"]);
    assert_eq!(child.ended().unwrap().code(), Some(7));
    child.terminate().unwrap_err();
}

#[test]
fn a_child_reads_what_is_written_to_it_until_its_input_is_closed() {
    let child = sh("while read -r line; do echo \"got $line\"; done; echo end");
    child.write_stdin(b"a\n").unwrap();
    assert_eq!(child.wait_for_stdout(SOON, |line| line.starts_with("got")).unwrap(), "got a");
    child.close_stdin();
    assert!(child.wait(SOON).unwrap().success());
    assert_eq!(child.stdout(), ["got a", "end"]);
    child.write_stdin(b"b\n").unwrap_err();
}

#[test]
fn signals_do_what_they_say() {
    let child = sh("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    child.wait_for_stdout(SOON, |line| line == "ready").unwrap();
    let pid = child.pid().to_string();
    child.freeze().unwrap();
    wait_until(SOON, "it to be stopped", || state(&pid) == Some('T'));
    child.terminate().unwrap();
    child.wait(Duration::from_millis(100)).unwrap_err();
    child.thaw().unwrap();
    assert_eq!(child.wait(SOON).unwrap().code(), Some(3));
    assert_eq!(child.stdout(), ["ready", "asked"]);

    use std::os::unix::process::ExitStatusExt;
    let child = sh("sleep 60");
    child.kill().unwrap();
    assert_eq!(child.wait(SOON).unwrap().signal(), Some(9));
}

#[test]
fn a_dropped_child_is_killed_with_its_whole_group() {
    let child = sh("sleep 60 & echo $!; wait");
    let grandchild = child.wait_for_stdout(SOON, |_| true).unwrap();
    let pid = child.pid().to_string();
    assert!(!gone(&pid) && !gone(&grandchild));
    drop(child);
    assert!(gone(&pid));
    wait_until(SOON, "the grandchild to be gone", || gone(&grandchild));
}

/// Started by the test below in a process of its own, which is then killed.
#[test]
#[ignore = "a helper: it starts a child and waits to be killed"]
fn helper_start_and_wait() {
    let child = sh("sleep 60 & echo $!; wait");
    let grandchild = child.wait_for_stdout(SOON, |_| true).unwrap();
    println!("\nstarted {} {grandchild}", child.pid());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_child_dies_with_us_even_when_we_are_killed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "helper_start_and_wait"]);
    let helper = Process::spawn(command).unwrap();
    let line = helper.wait_for_stdout(SOON, |line| line.starts_with("started ")).unwrap();
    let pids: Vec<_> = line.split(' ').skip(1).collect();
    assert!(pids.iter().all(|pid| !gone(pid)), "{pids:?}");
    helper.kill().unwrap();
    wait_until(SOON, "both to be gone", || pids.iter().all(|pid| gone(pid)));
}

#[test]
fn a_command_that_does_not_exist_is_an_error_that_names_it() {
    let error = Process::spawn(Command::new("no-such-command")).unwrap_err();
    assert!(error.to_string().contains("no-such-command"), "{error}");
}

#[test]
fn waiting_in_vain_names_what_was_waited_for() {
    let error = try_wait_until(Duration::from_millis(30), "the moon", || false).unwrap_err();
    assert!(error.to_string().contains("the moon"), "{error}");
    let mut asked = 0;
    wait_until(SOON, "the third time", || {
        asked += 1;
        asked == 3
    });
}
