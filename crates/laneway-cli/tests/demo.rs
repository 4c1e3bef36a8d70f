//! `laneway demo`: in a pipe, as JSON, and in a terminal (through script(1)).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use laneway_testing::{Process, wait_until};
use serde_json::Value;

fn demo(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
    command.arg("demo").args(words);
    command
}

#[test]
fn json_is_an_object_a_second_and_a_last_one() {
    let output = demo(&["--seconds", "3", "--format", "json"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for name in [
            "seconds",
            "members",
            "produced",
            "finished",
            "lag",
            "records_per_second",
            "rebalances",
            "duplicates",
            "losses",
            "strays",
        ] {
            assert!(line[name].is_number(), "{name} in {line}");
        }
    }
    assert!((3..=6).contains(&lines.len()), "{text}");
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line.get("final").is_none()));
    assert_eq!(last["final"], true);
    assert_eq!(last["finished"], last["produced"]);
    assert!(others[0]["records_per_second"].as_f64().unwrap() > 0.0, "{text}");
}

#[test]
fn a_pipe_gets_plain_lines() {
    let output = demo(&["--seconds", "2"]).env("TERM", "xterm").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(['\x1b', '\r']), "{text}");
    assert!(text.lines().any(|line| line.contains("records/s  lag")), "{text}");
    assert!(text.lines().any(|line| line.contains("is assigned")), "{text}");
    assert!(text.ends_with("every record exactly once\n"), "{text}");
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    for streams in [
        "{ \"$0\" demo; echo \"code $?\" >&3; } | true",
        "{ \"$0\" demo 2>&1; echo \"code $?\" >&3; } | true",
    ] {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec 3>&1; {streams}")).arg(env!("CARGO_BIN_EXE_laneway"));
        let run = Process::spawn(command).unwrap();
        run.wait(PATIENCE).unwrap();
        assert_eq!((run.stdout(), run.stderr()), (vec!["code 0".to_owned()], Vec::new()));
    }
}

/// Runs the demo in a terminal of its own. None, with a line, where there is no script(1) for it.
fn in_terminal(more: &str) -> Option<Process> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no script(1) to make a terminal with");
        return None;
    }
    let line = format!(
        "stty rows 24 cols 80; {more} TERM=xterm exec {} demo --seconds 60",
        env!("CARGO_BIN_EXE_laneway")
    );
    let mut command = Command::new("script");
    let line = format!("sh -c 'echo pid=$$; exec sh -c \"{line}\"'");
    command.args(["-qfec", &line, "/dev/null"]).env_remove("NO_COLOR").env("SHELL", "/bin/sh");
    Some(Process::spawn(command).unwrap())
}

fn written(run: &Process) -> String {
    run.stdout().join("\n")
}

fn signal(run: &Process, name: &str) {
    let text = written(run);
    let pid = text.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("the pid");
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

#[test]
fn a_terminal_sees_lanes_drain_and_move_and_is_given_back_after_a_signal() {
    for name in ["-INT", "-TERM"] {
        let Some(run) = in_terminal("") else { return };
        let shows =
            |what: &str| wait_until(PATIENCE, what, || written(&run).contains(what) || run.ended().is_some());
        for what in [" records/s   lag ", "running", "drained", "leaving", "<- member-", "gave "] {
            shows(what);
        }
        signal(&run, name);
        let ended = run.wait(PATIENCE).unwrap();
        let text = written(&run);
        assert_eq!(ended.code(), Some(0), "{text}");
        let (drawn, after) = text.rsplit_once("\x1b[?1049l").expect("the alternate screen was left");
        assert!(drawn.contains("\x1b[?25l") && drawn.ends_with("\x1b[?7h\x1b[0m\x1b[?25h"), "{after}");
        assert!(!after.contains("\x1b[?") && after.contains("Every record exactly once"), "{after}");
        assert!(drawn.contains("\x1b[32m0 duplicates\x1b[0m"));
    }
}

#[test]
fn a_second_signal_gives_the_terminal_back_too() {
    let Some(run) = in_terminal("NO_COLOR=1") else { return };
    wait_until(PATIENCE, "it is drawn", || written(&run).contains("running") || run.ended().is_some());
    signal(&run, "-STOP");
    // Both are there when it goes on: the first one can't have ended it.
    signal(&run, "-INT");
    signal(&run, "-TERM");
    signal(&run, "-CONT");
    let ended = run.wait(PATIENCE).unwrap();
    let text = written(&run);
    assert!(matches!(ended.code(), Some(130 | 143)), "{ended:?}");
    assert!(text.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "{text:?}");
    assert!(!text.contains("\x1b[1m") && !text.contains("\x1b[32m"), "no colours");
}

/// How long is waited for what should come soon.
const PATIENCE: Duration = Duration::from_secs(30);
