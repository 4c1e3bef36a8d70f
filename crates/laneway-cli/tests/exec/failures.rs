//! Ordering and failures: several records at once, tries, timeouts, and records that are given up.

use std::fs;

use laneway_testing::{Admin, wait_until};

use crate::bench::{Bench, PATIENCE};

/// Answers by hand.
const ANSWERS: &str = r#"
say() { echo "{\"offset\":$1,\"ok\":true}"; }
fail() { echo "{\"offset\":$1,\"error\":\"$2\"}"; }
"#;

fn all_of_one_life(flags: &[&str], expected: &str) {
    let bench = Bench::keyed(&["a", "b", "c", "a"]);
    // It answers nothing before it has three records, and those in reverse.
    bench.run_to_end_with(
        flags,
        &format!(
            "{ANSWERS}
             next; x=$o; next; y=$o; next; z=$o
             echo $x $y $z >> $DIR/got
             say $z; say $y; say $x
             while next; do echo $o >> $DIR/got; ok; done"
        ),
    );
    assert_eq!(bench.lines("got").join(" "), expected);
    assert_eq!(bench.committed(), 4);
    assert_eq!(bench.errors(), Vec::<String>::new());
}

#[test]
fn a_worker_gets_further_records_before_it_has_answered_and_those_of_a_key_in_turn() {
    all_of_one_life(&["--ordering", "key"], "0 1 2 3");
    all_of_one_life(&["--ordering", "unordered", "--concurrency", "3"], "0 1 2 3");
}

#[test]
fn a_record_of_a_key_is_not_sent_before_the_one_ahead_of_it_is_answered() {
    let bench = Bench::keyed(&["a", "a", "b"]);
    bench.run_to_end_with(
        &["--ordering", "key"],
        "next; first=$o; next; echo $first $o >> $DIR/got; ok
         o=$first; ok; while next; do echo $o >> $DIR/got; ok; done",
    );
    assert_eq!(bench.lines("got"), ["0 2", "1"]);
}

#[test]
fn there_are_never_more_records_with_a_worker_than_its_concurrency() {
    for flag in ["--concurrency", "--lane-concurrency"] {
        let bench = Bench::keyed(&["a", "b", "c", "d", "e"]);
        bench.run_to_end_with(
            &["--ordering", "unordered", flag, "2"],
            &bench.bash(
                "next; first=$o; next; second=$o
             # Nothing more comes while both are unanswered.
             IFS= read -r -t 0.5 more && echo \"$more\" >> $DIR/more
             o=$first; ok; o=$second; ok
             while next; do ok; done",
            ),
        );
        assert_eq!(bench.lines("more"), Vec::<String>::new());
    }
}

#[test]
fn after_a_death_every_unanswered_record_comes_again_in_order() {
    let bench = Bench::keyed(&["a", "b", "c", "d", "e"]);
    bench.run_to_end_with(
        &["--ordering", "key"],
        &format!(
            "{ANSWERS}
             if mkdir $DIR/died 2>/dev/null; then
                 next; next; next; next; next; say 1; say 3; exit 5
             fi
             next; x=$o; next; y=$o; next; z=$o; echo $x $y $z >> $DIR/got
             say $z; say $y; say $x; cat"
        ),
    );
    assert_eq!(bench.lines("got"), ["0 2 4"]);
    assert_eq!(bench.committed(), 5);
    bench.assert_error(&["offsets 0, 2, 4 unanswered", "exit status: 5"]);
}

#[test]
fn a_wait_that_the_worker_asks_for_goes_before_the_backoff_and_is_the_least() {
    let bench = Bench::keyed(&["a", "b"]);
    bench.run_to_end_with(
        &["--ordering", "key", "--backoff", "1ms..2ms"],
        "while next; do
             [ $o = 0 ] && date +%s%3N >> $DIR/times
             [ $o = 0 ] && mkdir $DIR/tried 2>/dev/null \
                 && { echo '{\"offset\":0,\"retry_after_ms\":700,\"error\":\"not yet\"}'; continue; }
             ok
         done",
    );
    let times: Vec<u64> = bench.lines("times").iter().map(|time| time.parse().unwrap()).collect();
    assert!(times.len() == 2 && times[1] - times[0] >= 700, "{times:?}");
    bench.assert_error(&["offset 0", "not yet"]);
}

#[test]
fn a_record_that_waits_for_its_next_try_is_not_in_flight() {
    let bench = Bench::keyed(&["a", "b", "c"]);
    let laneway = bench.run(
        &["--ordering", "key", "--concurrency", "1", "--backoff", "1000h..1000h"],
        &format!("{ANSWERS} while next; do echo $o >> $DIR/got; [ $o = 0 ] && fail 0 later || ok; done"),
    );
    assert_eq!(bench.wait_for_lines("got", 3), ["0", "1", "2"]);
    laneway.terminate().unwrap();
    let status = laneway.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "it is dropped at a stop: {:?}", laneway.stderr());
    // A random part of the backoff, which is minutes for all but certain.
    let error = bench.errors().remove(0);
    let wait = error.split("trying again in ").nth(1).and_then(|wait| wait.strip_suffix('s')).unwrap();
    assert!(wait.parse::<f64>().is_ok_and(|seconds| seconds > 60.0), "{error}");
}

/// The dead letters' payloads, and whether the command ended as it should.
fn letters(bench: &Bench, flags: &[&str], worker: &str) -> Vec<(String, serde_json::Value)> {
    let topic = format!("{}.dead", bench.topic);
    bench.kafka.create_topic(&topic, 1).unwrap();
    let ordering = ["--dead-letter", &topic, "--backoff", "1ms..2ms"];
    bench.run_to_end_with(&[&ordering, flags].concat(), worker);
    let end = Admin::new(bench.kafka.brokers()).unwrap();
    let partition = laneway::TopicPartition::new(topic.as_str(), 0);
    let ends = end.end_offsets(std::slice::from_ref(&partition)).unwrap();
    if ends[&partition] == 0 {
        return Vec::new();
    }
    let mut reader = std::process::Command::new(env!("CARGO_BIN_EXE_laneway"));
    let group = format!("{}.reader", bench.group);
    reader.args(["run", "-b", bench.kafka.brokers(), "-g", &group, "-t", &topic, "-o", "earliest", "-e"]);
    let output = reader.arg("--print").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|letter| {
            let headers = letter["headers"].as_array().unwrap();
            let pairs = headers.chunks(2).map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()));
            (letter["payload"].as_str().unwrap().to_owned(), pairs.collect())
        })
        .collect()
}

#[test]
fn records_that_are_given_up_become_dead_letters_and_others_are_skipped() {
    let bench = Bench::keyed(&["a", "b", "c", "d"]);
    let letters = letters(
        &bench,
        &["--ordering", "key", "--attempts", "3"],
        "while next; do
             echo $o >> $DIR/got
             case $o in
                 0) echo '{\"offset\":0,\"error\":\"broken\"}';;
                 1) echo '{\"offset\":1,\"dead_letter\":\"unreadable\"}';;
                 2) echo '{\"offset\":2,\"skip\":\"of no use\"}';;
                 *) ok;;
             esac
         done",
    );
    let letter = |payload: &str| letters.iter().find(|(other, _)| other == payload).expect(payload).1.clone();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!(letter("0")["laneway.error"], "broken");
    assert_eq!(letter("0")["laneway.attempts"], "3");
    assert_eq!(letter("1")["laneway.error"], "unreadable");
    assert_eq!(bench.committed(), 4);
    let count = |offset| bench.lines("got").iter().filter(|got| *got == offset).count();
    assert_eq!((count("0"), count("1"), count("2")), (3, 1, 1));
    for parts in [["offset 0", "broken"], ["offset 1", "unreadable"], ["offset 2", "of no use"]] {
        bench.assert_error(&parts);
    }
}

#[test]
fn a_stop_for_a_record_commits_all_before_it_and_names_it() {
    for (flags, answer) in [
        (&["--attempts", "2", "--backoff", "1ms..2ms"][..], "error"),
        // Without a topic for dead letters.
        (&[][..], "dead_letter"),
        (&["--on-give-up", "stop"][..], "dead_letter"),
    ] {
        let bench = Bench::keyed(&["a", "b", "c", "d"]);
        let laneway = bench.run(
            flags,
            &format!(
                "while next; do [ $o = 2 ] && echo '{{\"offset\":2,\"{answer}\":\"no way\"}}' || ok; done"
            ),
        );
        assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(1), "{:?}", laneway.stderr());
        assert_eq!(bench.committed(), 2);
        let said = laneway.stderr().join("\n");
        for part in [format!("{}-0", bench.topic), "offset 2".into(), "no way".into()] {
            assert!(said.contains(&part), "{part} is not in {said}");
        }
        let tries = if answer == "error" { 2 } else { 1 };
        assert_eq!(bench.errors().len(), tries, "one for each try: {:?}", bench.errors());
    }
}

#[test]
fn a_late_answer_is_dropped_and_the_key_is_not_tried_before_it_came() {
    let bench = Bench::keyed(&["a", "a", "b"]);
    let laneway = bench.run(
        &["-e", "--ordering", "key", "--timeout", "300ms", "--backoff", "1ms..2ms"],
        &bench.bash(
            "next; first=$o; next; echo $first $o >> $DIR/got; ok
         # Whatever comes now would be a record of the key that is held.
         IFS= read -r -t 1 more && echo \"$more\" >> $DIR/more
         o=$first; echo late >> $DIR/got; ok
         while next; do echo $o >> $DIR/got; ok; done",
        ),
    );
    assert_eq!(laneway.wait(PATIENCE).unwrap().code(), Some(0), "{:?}", laneway.stderr());
    assert_eq!(bench.lines("more"), Vec::<String>::new());
    assert_eq!(bench.lines("got"), ["0 2", "late", "0", "1"]);
    assert_eq!(bench.committed(), 3);
    bench.assert_error(&["offset 0", "within 300ms"]);
}

#[test]
fn a_worker_that_does_not_answer_at_all_is_started_again_and_the_tries_are_counted() {
    let bench = Bench::keyed(&["a", "a", "b"]);
    let letters = letters(
        &bench,
        &["--ordering", "key", "--timeout", "200ms", "--attempts", "2"],
        "echo start >> $DIR/starts
         while next; do echo $o >> $DIR/got; [ $o = 0 ] || ok; done",
    );
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].0.as_str(), &letters[0].1["laneway.attempts"]), ("0", &"2".into()));
    assert!(letters[0].1["laneway.error"].as_str().unwrap().contains("did not answer within 200ms"));
    assert_eq!(bench.lines("got"), ["0", "2", "0", "1"]);
    assert_eq!(bench.lines("starts").len(), 3);
    assert_eq!(bench.committed(), 3);
}

#[test]
fn with_the_partitions_order_too_a_late_record_comes_again_before_the_next() {
    let bench = Bench::keyed(&["a", "b"]);
    bench.run_to_end_with(
        &["--timeout", "300ms"],
        "while next; do
             echo $o >> $DIR/got
             mkdir $DIR/slow 2>/dev/null && sleep 0.8
             ok
         done",
    );
    assert_eq!(bench.lines("got"), ["0", "0", "1"]);
    assert_eq!(bench.committed(), 2);
    assert_eq!(bench.errors().len(), 2, "when it was late, and when it is tried again: {:?}", bench.errors());
}

#[test]
fn a_wrong_answer_costs_no_record_that_others_wait_for() {
    // The second record of the key waits for the first: the worker does not have it.
    let bench = Bench::keyed(&["a", "a", "b"]);
    bench.run_to_end_with(
        &["--ordering", "key"],
        "if mkdir $DIR/wrong 2>/dev/null; then next; next; o=1; ok; sleep 1000; fi
         while next; do echo $o >> $DIR/got; ok; done",
    );
    assert_eq!(bench.lines("got"), ["0", "2", "1"]);
    assert_eq!(bench.committed(), 3);
    bench.assert_error(&["offsets 0, 2 unanswered", "offset 1, which it was not given"]);
}

#[test]
fn a_wrong_answer_is_no_failed_try_of_the_record_at_hand() {
    let bench = Bench::keyed(&["a", "b"]);
    bench.run_to_end_with(
        &["--attempts", "1"],
        "if mkdir $DIR/wrong 2>/dev/null; then
             next; echo $o >> $DIR/got; ok
             next; echo $o >> $DIR/got; o=0; ok; sleep 1000
         fi
         while next; do echo $o >> $DIR/got; ok; done",
    );
    assert_eq!(bench.lines("got"), ["0", "1", "1"]);
    assert_eq!(bench.committed(), 2);
    let line = "{\"offset\":0,\"ok\":true}";
    bench.assert_error(&["offset 1 unanswered", "answered for offset 0, which it was not given", line]);
}

#[test]
fn a_record_that_kills_the_worker_is_found_among_many_and_takes_no_other_with_it() {
    let keys: Vec<String> = (0..20).map(|number| format!("key {number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let bench = Bench::keyed(&keys);
    // It answers when it has read all there is, and dies before that if 7 is among it.
    let letters = letters(
        &bench,
        &["--ordering", "key", "--attempts", "2"],
        &bench.bash(
            "had=
         while :; do
             while IFS= read -r -t 0.2 line; status=$?; [ $status = 0 ]; do
                 o=${line#*\\\"offset\\\":}; o=${o%%,*}; had=\"$had $o\"
                 [ $o = 7 ] && { sleep 0.1; echo death >> $DIR/deaths; exit 9; }
             done
             [ $status -gt 128 ] || exit 0
             for o in $had; do ok; done; had=
         done",
        ),
    );
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0].0.as_str(), &letters[0].1["laneway.attempts"]), ("7", &"2".into()));
    assert!(letters[0].1["laneway.error"].as_str().unwrap().contains("exit status: 9"));
    assert_eq!(bench.committed(), 20);
}

#[test]
fn a_command_that_is_not_found_is_no_records_fault() {
    let bench = Bench::keyed(&["a"]);
    let laneway = bench.run(
        &["--attempts", "1", "--on-give-up", "skip", "--drain-deadline", "200ms"],
        "[ -e $DIR/go ] || { echo start >> $DIR/starts; exec /no/such/worker; }; while next; do ok; done",
    );
    bench.wait_for_lines("starts", 3);
    assert!(bench.committed() < 1);
    fs::write(bench.directory.join("go"), "").unwrap();
    wait_until(PATIENCE, "a commit", || bench.committed() == 1);
    laneway.terminate().unwrap();
    laneway.wait(PATIENCE).unwrap();
    assert!(!bench.errors().iter().any(|error| error.contains("skipped")), "{:?}", bench.errors());
}
