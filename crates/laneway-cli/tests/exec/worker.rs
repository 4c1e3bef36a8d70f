//! One record at a time: answers, deaths, and how a worker ends.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use laneway_testing::wait_until;

use crate::bench::{Bench, PATIENCE, is_gone, wait_until_gone};

#[test]
fn records_that_were_answered_ok_are_finished_and_committed() {
    let bench = Bench::new(&[b"a", b"b", b"c"]);
    bench.run_to_end(
        "echo $LANEWAY_TOPIC $LANEWAY_PARTITION $LANEWAY_GROUP >> $DIR/env
         while next; do echo \"$line\" >> $DIR/got; ok; done",
    );
    let got: Vec<serde_json::Value> =
        bench.lines("got").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payloads: Vec<_> = got.iter().map(|record| record["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["a", "b", "c"]);
    assert_eq!(bench.lines("env"), [format!("{} 0 {}", bench.topic, bench.group)]);
    assert_eq!(bench.committed(), 3);
    assert_eq!(bench.errors(), Vec::<String>::new());
}

#[test]
fn a_record_that_was_answered_with_an_error_is_sent_again_before_the_next() {
    let bench = Bench::new(&[b"a", b"b"]);
    bench.run_to_end(
        "while next; do
             echo $o >> $DIR/got
             [ $(wc -l < $DIR/got) -gt 2 ] && ok || echo \"{\\\"offset\\\":$o,\\\"error\\\":\\\"too early\\\"}\"
         done",
    );
    assert_eq!(bench.lines("got"), ["0", "0", "0", "1"]);
    assert_eq!(bench.committed(), 2);
    bench.assert_error(&["offset 0", "too early"]);
    assert_eq!(bench.errors().len(), 2, "one for each try: {:?}", bench.errors());
}

#[test]
fn a_worker_that_dies_is_started_again_and_gets_the_record_again() {
    let bench = Bench::new(&[b"a", b"b"]);
    bench.run_to_end(
        "while next; do
             echo $o >> $DIR/got
             [ $o = 1 ] && mkdir $DIR/died 2>/dev/null && exit 7
             ok
         done",
    );
    assert_eq!(bench.lines("got"), ["0", "1", "1"]);
    assert_eq!(bench.committed(), 2);
    bench.assert_error(&["offset 1", "exit status: 7"]);
}

#[test]
fn an_answer_that_came_before_the_death_counts() {
    let bench = Bench::new(&[b"a", b"b", b"c"]);
    bench.run_to_end("next && echo $o >> $DIR/got && ok");
    assert_eq!(bench.lines("got"), ["0", "1", "2"]);
    assert_eq!(bench.committed(), 3);
}

/// The first worker says `wrong` for offset 1; `parts` are what the error tells.
fn assert_wrong_answer(wrong: &str, parts: &[&str]) {
    let bench = Bench::new(&[b"a", b"b", b"c"]);
    bench.run_to_end(&format!(
        "while next; do
             echo $o >> $DIR/got
             [ $o = 1 ] && mkdir $DIR/wrong 2>/dev/null && {{ echo '{wrong}'; sleep 1000; }}
             ok
         done"
    ));
    assert_eq!(bench.lines("got"), ["0", "1", "1", "2"]);
    assert_eq!(bench.committed(), 3);
    bench.assert_error(parts);
}

#[test]
fn a_line_that_is_not_json_is_an_error_that_names_it() {
    assert_wrong_answer("Traceback: oh no", &["offset 1", "Traceback: oh no"]);
}

#[test]
fn json_that_is_no_answer_is_an_error_that_names_it() {
    for wrong in
        [r#"{"ok":true}"#, r#"{"offset":1}"#, r#"{"offset":1.0,"ok":true}"#, r#"{"offset":1,"ok":false}"#]
    {
        assert_wrong_answer(wrong, &["offset 1"]);
    }
}

#[test]
fn an_answer_for_an_offset_that_was_not_given_is_an_error() {
    assert_wrong_answer(r#"{"offset":2,"ok":true}"#, &["offset 1", "offset 2"]);
}

#[test]
fn a_second_answer_for_an_offset_is_an_error() {
    assert_wrong_answer(r#"{"offset":0,"ok":true}"#, &["offset 1", "offset 0"]);
}

#[test]
fn a_wrong_line_is_cut_in_the_error() {
    let bench = Bench::new(&[b"a"]);
    bench.run_to_end(
        "while next; do
             mkdir $DIR/wrong 2>/dev/null && { head -c 100000 /dev/zero | tr '\\0' x; echo; sleep 1000; }
             ok
         done",
    );
    bench.assert_error(&["offset 0", &"x".repeat(200)]);
    assert!(bench.errors().iter().all(|error| error.len() < 1_000));
}

#[test]
fn a_large_record_is_written_while_a_large_answer_is_read() {
    // Six bytes of JSON for each byte of the payload: 18 MiB on the line.
    let payload = vec![1u8; 3 << 20];
    let bench = Bench::new(&[&payload]);
    // It answers at length before it reads anything, with an error; the second time it reads first.
    bench.run_to_end(
        r#"why=$(head -c 8388608 /dev/zero | tr '\0' x)
           printf '{"offset":0,"error":"%s"}\n' "$why"
           head -n 2 | wc -c > $DIR/bytes
           echo '{"offset":0,"ok":true}'
           cat > /dev/null"#,
    );
    let bytes: usize = bench.lines("bytes")[0].parse().unwrap();
    assert!(bytes > 2 * 6 * payload.len(), "{bytes}");
    assert_eq!(bench.committed(), 1);
}

#[test]
fn at_a_stop_the_record_in_flight_is_waited_for_and_the_worker_sees_the_end_of_its_input() {
    let bench = Bench::new(&[b"a", b"b"]);
    let laneway = bench.run(
        &[],
        "trap 'echo term >> $DIR/end' TERM
         while next; do
             echo $o >> $DIR/got
             while [ $o = 1 ] && [ ! -e $DIR/go ]; do sleep 0.02; done
             ok
         done
         sleep 0.3; echo end >> $DIR/end",
    );
    bench.wait_for_lines("got", 2);
    laneway.terminate().unwrap();
    fs::write(bench.directory.join("go"), "").unwrap();
    assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(0), "{:?}", laneway.stderr());
    assert_eq!(bench.lines("end"), ["end"], "it had time for its last work, and no signal");
    assert_eq!(bench.committed(), 2);
}

#[test]
fn a_bad_exit_at_the_end_is_told() {
    let bench = Bench::new(&[b"a"]);
    bench.run_to_end("while next; do ok; done; exit 9");
    bench.assert_error(&["exit status: 9"]);
    assert_eq!(bench.committed(), 1);
}

#[test]
fn a_worker_that_stays_gets_sigterm_at_the_deadline_and_sigkill_a_second_later() {
    let bench = Bench::new(&[b"a"]);
    let laneway = bench.run(
        &["--drain-deadline", "1s"],
        "trap 'date +%s.%N >> $DIR/term' TERM
         echo $$ >> $DIR/pids
         while next; do ok; done
         while :; do sleep 0.02; done",
    );
    wait_until(PATIENCE, "a commit", || bench.committed() == 1);
    let asked = Instant::now();
    laneway.terminate().unwrap();
    let status = laneway.wait(PATIENCE).unwrap();
    let took = asked.elapsed();
    assert_eq!(bench.lines("term").len(), 1, "one SIGTERM");
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(status.code(), Some(0), "all was finished and committed: {:?}", laneway.stderr());
    wait_until_gone(&bench.lines("pids"));
}

#[test]
fn after_sigterm_the_whole_group_has_a_second_to_end_in_order() {
    let bench = Bench::new(&[b"a"]);
    // The shell dies of SIGTERM at once; the program it started takes its time.
    let laneway = bench.run(
        &["--drain-deadline", "500ms"],
        "while next; do ok; done
         sh -c 'trap \"sleep 0.4; echo done >> $DIR/term; exit\" TERM; echo up > $DIR/up; while :; do sleep 0.02; done'
         true",
    );
    wait_until(PATIENCE, "a commit", || bench.committed() == 1);
    laneway.terminate().unwrap();
    laneway.wait(PATIENCE).unwrap();
    assert_eq!(bench.lines("up"), ["up"]);
    assert_eq!(bench.lines("term"), ["done"]);
}

#[test]
fn an_unanswered_record_at_the_deadline_is_left_unfinished() {
    let bench = Bench::new(&[b"a", b"b"]);
    let laneway = bench.run(
        &["--drain-deadline", "500ms"],
        "echo $$ >> $DIR/pids; while next; do [ $o = 1 ] && { echo 1 >> $DIR/got; sleep 1000; }; ok; done",
    );
    bench.wait_for_lines("got", 1);
    laneway.terminate().unwrap();
    assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(3), "{:?}", laneway.stderr());
    assert_eq!(bench.committed(), 1);
    wait_until_gone(&bench.lines("pids"));
}

#[test]
fn what_a_worker_leaves_behind_ends_with_it() {
    let bench = Bench::new(&[b"a"]);
    bench.run_to_end("sleep 1000 & echo $! >> $DIR/pids; while next; do ok; done");
    let left = bench.lines("pids");
    assert_eq!(left.len(), 1);
    wait_until_gone(&left);
}

#[test]
fn workers_and_what_they_started_die_with_a_command_that_is_killed() {
    let bench = Bench::new(&[b"a"]);
    let laneway = bench.run(&[], LIVES_ON);
    let pids = bench.wait_for_lines("pids", 2);
    assert!(pids.iter().all(|pid| !is_gone(pid)));
    laneway.kill().unwrap();
    // Not by the end of `laneway`, the helper: that would kill its own group alone, which workers are not in.
    wait_until_gone(&pids);
}

#[test]
fn ctrl_c_in_a_terminal_reaches_neither_workers_nor_what_watches_over_them() {
    let bench = Bench::new(&[b"a"]);
    let laneway = bench.run(
        &[],
        "trap 'echo int >> $DIR/int' INT
         echo $$ >> $DIR/pids
         next; echo $o >> $DIR/got
         while [ ! -e $DIR/go ]; do sleep 0.02; done
         ok; cat; while :; do sleep 0.02; done",
    );
    bench.wait_for_lines("got", 1);
    // As a terminal does: to all of the foreground group.
    let group = format!("-{}", laneway.pid());
    assert!(Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap().success());
    fs::write(bench.directory.join("go"), "").unwrap();
    wait_until(PATIENCE, "a commit", || bench.committed() == 1);
    assert_eq!(bench.lines("int"), Vec::<String>::new());
    laneway.kill().unwrap();
    wait_until_gone(&bench.lines("pids"));
}

#[test]
fn a_second_signal_ends_workers_and_command_at_once() {
    let bench = Bench::new(&[b"a"]);
    let laneway = bench.run(&[], LIVES_ON);
    let pids = bench.wait_for_lines("pids", 2);
    laneway.signal(2).unwrap();
    let asked = Instant::now();
    wait_until(PATIENCE, "the second signal's effect", || {
        laneway.signal(2).ok();
        laneway.ended().is_some()
    });
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(128 + 2));
    wait_until_gone(&pids);
}

#[test]
fn a_command_that_cannot_run_is_tried_again_with_a_growing_wait() {
    let bench = Bench::new(&[b"a"]);
    let laneway =
        bench.run(&["--drain-deadline", "200ms"], "date +%s%3N >> $DIR/starts; exec /no/such/worker");
    let starts: Vec<u64> =
        bench.wait_for_lines("starts", 4).iter().map(|start| start.parse().unwrap()).collect();
    for (index, pair) in starts.windows(2).take(3).enumerate() {
        let waited = pair[1] - pair[0];
        assert!(waited >= 100 << index, "start {index} to the next: {waited} ms");
    }
    bench.assert_error(&["127"]);
    laneway.terminate().unwrap();
    laneway.wait(PATIENCE).unwrap();
}

/// A worker that heeds neither the end of its input nor SIGTERM, with a child of its own.
const LIVES_ON: &str = "trap '' TERM
    sleep 1000 & echo $$ >> $DIR/pids; echo $! >> $DIR/pids
    while next; do :; done
    while :; do sleep 0.1; done";

#[test]
fn what_watches_the_workers_is_started_again_when_somebody_ends_it() {
    let bench = Bench::new(&[b"a", b"b"]);
    let laneway = bench.run(
        &[],
        "echo $PPID >> $DIR/parents; while next; do [ $o = 0 ] && [ ! -e $DIR/again ] && { echo 0 >> $DIR/got; \
         while [ ! -e $DIR/again ]; do sleep 0.02; done; exit 1; }; ok; done",
    );
    bench.wait_for_lines("got", 1);
    let watcher =
        children_of(laneway.pid()).into_iter().find(|pid| command_line(*pid).contains("__supervise"));
    let killed =
        Command::new("kill").args(["-KILL", &watcher.expect("a watcher").to_string()]).status().unwrap();
    assert!(killed.success());
    fs::write(bench.directory.join("again"), "").unwrap();
    wait_until(PATIENCE, "both records are done by the next worker", || bench.committed() == 2);
    laneway.terminate().unwrap();
    assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(0), "{:?}", laneway.stderr());
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}
