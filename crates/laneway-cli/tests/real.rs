//! `laneway run` against a real Apache Kafka. Skipped, with a line, where there is no Java or Maven.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use laneway::TopicPartition;
use laneway_testing::{Admin, Process, Producer, real_kafka_or_skip, unique, wait_until};
use serde_json::Value;

/// A topic, a group, and a file for events, on the shared real Kafka.
struct Bench {
    brokers: String,
    topic: String,
    group: String,
    events: PathBuf,
    partitions: i32,
}

impl Bench {
    fn new(partitions: i32) -> Option<Self> {
        let bench = Self::without_topic(partitions)?;
        bench.create_topic();
        Some(bench)
    }

    fn without_topic(partitions: i32) -> Option<Self> {
        let brokers = real_kafka_or_skip()?.brokers().to_owned();
        let events = std::env::temp_dir().join(unique("laneway-events"));
        Some(Self { brokers, topic: unique("run"), group: unique("group"), events, partitions })
    }

    fn create_topic(&self) {
        self.admin().create_topic(&self.topic, self.partitions, &[]).expect("a topic");
    }

    fn admin(&self) -> Admin {
        Admin::new(&self.brokers).expect("an admin client")
    }

    fn produce(&self, records: i32) {
        let producer = Producer::new(&self.brokers, &[]).expect("a producer");
        for number in 0..records {
            let payload = format!("record {number}");
            let partition = number % self.partitions;
            producer.send(&self.topic, partition, None, Some(payload.as_bytes()), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
    }

    fn run(&self, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
        command.args(["run", "-b", &self.brokers, "-g", &self.group, "-t", &self.topic, "--events"]);
        command.arg(&self.events).args(more);
        Process::spawn(command).expect("the command")
    }

    fn committed(&self) -> i64 {
        let partitions: Vec<TopicPartition> =
            (0..self.partitions).map(|number| TopicPartition::new(self.topic.as_str(), number)).collect();
        let committed = self.admin().committed(&self.group, &partitions).expect("committed offsets");
        committed.values().map(|committed| committed.offset).sum()
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    fn has_event(&self, name: &str) -> bool {
        self.events().iter().any(|event| event["event"] == name)
    }
}

/// The records that were printed, each told apart.
fn printed(process: &Process) -> Vec<(i64, i64)> {
    let of = |line: &String| {
        let record: Value = serde_json::from_str(line).expect("a record");
        (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap())
    };
    process.stdout().iter().map(of).collect()
}

#[track_caller]
fn ends_with(process: &Process, code: i32, within: Duration) {
    let status = process.wait(within).expect("an end");
    assert_eq!(status.code(), Some(code), "{:?}", process.stderr());
}

const LONG: Duration = Duration::from_secs(40);

#[test]
fn every_record_is_printed_once_up_to_the_end_in_all_protocols() {
    for protocol in ["eager", "cooperative", "consumer"] {
        let Some(bench) = Bench::new(3) else { return };
        bench.produce(3_000);
        let run = bench.run(&["--print", "-o", "earliest", "-e", "--protocol", protocol]);
        ends_with(&run, 0, LONG);
        let printed = printed(&run);
        assert_eq!(printed.len(), 3_000);
        assert_eq!(printed.iter().collect::<BTreeSet<_>>().len(), 3_000);
        assert_eq!(bench.committed(), 3_000);
        assert_eq!(run.stderr(), Vec::<String>::new());
        let names: Vec<String> = bench.events().iter().map(|event| event["event"].to_string()).collect();
        assert_eq!(names.last().map(String::as_str), Some("\"stopped\""));
        assert!(bench.has_event("assigned") && bench.has_event("committed") && bench.has_event("revoked"));
        assert!(!bench.has_event("stray") && !bench.has_event("error"), "{names:?}");
    }
}

#[test]
fn exactly_as_many_records_as_wanted_are_printed_and_committed() {
    let Some(bench) = Bench::new(4) else { return };
    bench.produce(1_000);
    let first = bench.run(&["--print", "-o", "earliest", "-n", "137"]);
    ends_with(&first, 0, LONG);
    assert_eq!((printed(&first).len(), bench.committed()), (137, 137));
    // The next run goes on where that one ended.
    let second = bench.run(&["--print", "-o", "earliest", "-e"]);
    ends_with(&second, 0, LONG);
    let all: BTreeSet<_> = printed(&first).into_iter().chain(printed(&second)).collect();
    assert_eq!((printed(&second).len(), all.len()), (863, 1_000));
}

#[test]
fn a_group_that_starts_at_the_end_says_so_and_ends() {
    let Some(bench) = Bench::new(1) else { return };
    bench.produce(10);
    let run = bench.run(&["--print", "-e"]);
    ends_with(&run, 0, LONG);
    assert_eq!(printed(&run).len(), 0);
    assert!(run.stderr().iter().any(|line| line.contains("starts at the end")), "{:?}", run.stderr());
}

#[test]
fn a_reader_that_goes_away_is_a_reason_to_stop_and_no_error() {
    let Some(bench) = Bench::new(1) else { return };
    bench.produce(50_000);
    let mut command = Command::new("sh");
    let laneway = env!("CARGO_BIN_EXE_laneway");
    let (brokers, group, topic) = (&bench.brokers, &bench.group, &bench.topic);
    let pipe = format!(
        "{{ {laneway} run -b {brokers} -g {group} -t {topic} -o earliest --print; echo \"exit $?\" >&2; }} | head -n 5"
    );
    command.args(["-c", &pipe]);
    let shell = Process::spawn(command).expect("a shell");
    ends_with(&shell, 0, LONG);
    assert_eq!(shell.stdout().len(), 5);
    assert_eq!(shell.stderr(), ["exit 0"]);
    assert!(bench.committed() < 50_000);
}

#[test]
fn a_topic_that_is_missing_is_waited_for_said_once_and_read_from_its_beginning() {
    let Some(bench) = Bench::without_topic(2) else { return };
    let run = bench.run(&["--print"]);
    run.wait_for_stderr(LONG, |line| line.contains(&bench.topic)).expect("the topic is named");
    bench.create_topic();
    bench.produce(20);
    wait_until(LONG, "all records are printed, with -o latest too", || run.stdout().len() == 20);
    run.terminate().expect("terminated");
    ends_with(&run, 0, LONG);
    assert_eq!(run.stderr().len(), 1, "{:?}", run.stderr());
}

#[test]
fn topics_are_found_by_expression() {
    let Some(bench) = Bench::new(2) else { return };
    bench.produce(10);
    let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
    let expression = format!("^{}$", bench.topic);
    command.args([
        "run",
        "-b",
        &bench.brokers,
        "-g",
        &bench.group,
        "-t",
        &expression,
        "-o",
        "earliest",
        "-e",
        "--print",
    ]);
    let run = Process::spawn(command).expect("the command");
    ends_with(&run, 0, LONG);
    assert_eq!(run.stdout().len(), 10);
}

#[test]
fn a_signal_is_heeded_before_there_is_an_assignment() {
    let Some(bench) = Bench::without_topic(1) else { return };
    let waiting = bench.run(&["--print"]);
    waiting.wait_for_stderr(LONG, |line| line.contains("does not exist")).expect("it waits");
    let began = Instant::now();
    waiting.terminate().expect("terminated");
    ends_with(&waiting, 0, LONG);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn an_address_where_nothing_answers_is_named_after_30_seconds() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
    command.args(["run", "-b", "127.0.0.1:1", "-g", "g", "-t", "t", "--print"]);
    let began = Instant::now();
    let run = Process::spawn(command).expect("the command");
    ends_with(&run, 1, Duration::from_secs(45));
    assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
    let error = run.stderr().join("\n");
    assert!(error.contains("127.0.0.1:1") && error.contains("refused"), "{error}");
}

#[test]
fn workers_of_two_members_share_the_partitions_and_nothing_is_done_twice() {
    let Some(bench) = Bench::new(6) else { return };
    bench.produce(600);
    let done = std::env::temp_dir().join(unique("laneway-done"));
    let worker = format!(
        "while read -r line; do o=${{line#*\\\"offset\\\":}}; o=${{o%%,*}}; \
         echo \"$LANEWAY_PARTITION $o\" >> {}; echo \"{{\\\"offset\\\":$o,\\\"ok\\\":true}}\"; done",
        done.display()
    );
    let first = bench.run(&["--exec", &worker, "-o", "earliest"]);
    let lines =
        || std::fs::read_to_string(&done).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    wait_until(LONG, "the first member works", || lines().len() > 20);
    let second = bench.run(&["--exec", &worker, "-o", "earliest"]);
    bench.produce(600);
    wait_until(LONG, "everything is done", || lines().len() >= 1_200);
    for member in [&first, &second] {
        member.terminate().expect("terminated");
    }
    for member in [&first, &second] {
        ends_with(member, 0, LONG);
    }
    let all = lines();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (1_200, 1_200));
    assert_eq!(bench.committed(), 1_200);
}

#[test]
fn a_static_member_of_a_classic_group_stays_in_it() {
    let Some(bench) = Bench::new(2) else { return };
    bench.produce(10);
    let run = bench.run(&["--print", "-o", "earliest", "--instance", "one"]);
    wait_until(LONG, "the records are printed", || run.stdout().len() == 10);
    run.terminate().expect("terminated");
    ends_with(&run, 0, LONG);
    assert_eq!(bench.committed(), 10);
    let group = bench.admin().describe_group(&bench.group).expect("the group");
    assert_eq!(group.members.len(), 1, "{group:?}");
    // Started again it has its partitions back, and reads on.
    bench.produce(10);
    let again = bench.run(&["--print", "-o", "earliest", "--instance", "one"]);
    wait_until(LONG, "the new records are printed", || again.stdout().len() == 10);
    again.terminate().expect("terminated");
    ends_with(&again, 0, LONG);
}

/// Bash or nothing: a worker that answers in turn, and remembers what it had.
const WORKER: &str = r#"
while IFS= read -r line; do
    o=${line#*\"offset\":}; o=${o%%,*}
    echo "$LANEWAY_PARTITION $o" >> $DONE
    case $line in
        *'"payload":"record 7"'*) echo "{\"offset\":$o,\"error\":\"broken\"}";;
        *'"payload":"record 8"'*) echo "{\"offset\":$o,\"dead_letter\":\"unreadable\"}";;
        *'"payload":"record 9"'*) echo "{\"offset\":$o,\"skip\":\"of no use\"}";;
        *) echo "{\"offset\":$o,\"ok\":true}";;
    esac
done"#;

#[test]
fn failures_end_where_they_are_to_in_every_ordering_and_protocol() {
    for (ordering, protocol) in [("partition", "eager"), ("key", "cooperative"), ("unordered", "consumer")] {
        let Some(bench) = Bench::new(3) else { return };
        bench.produce(300);
        let letters = format!("{}.dead", bench.topic);
        bench.admin().create_topic(&letters, 1, &[]).expect("a topic");
        let done = std::env::temp_dir().join(unique("laneway-done"));
        let worker = format!("DONE={}\n{WORKER}", done.display());
        let run = bench.run(&[
            "--exec",
            &worker,
            "-o",
            "earliest",
            "-e",
            "--protocol",
            protocol,
            "--ordering",
            ordering,
            "--attempts",
            "3",
            "--backoff",
            "1ms..10ms",
            "--dead-letter",
            &letters,
        ]);
        ends_with(&run, 0, LONG);
        assert_eq!(bench.committed(), 300);
        let all = std::fs::read_to_string(&done).expect("what was done");
        let mut times: Vec<usize> =
            all.lines().map(|line| all.lines().filter(|other| *other == line).count()).collect();
        times.sort_unstable();
        // Each once, but for the one that was tried three times.
        assert_eq!((times.len(), times[298], times[299]), (302, 1, 3));
        let end = TopicPartition::new(letters.as_str(), 0);
        let ends = bench.admin().end_offsets(std::slice::from_ref(&end)).expect("its end");
        assert_eq!(ends[&end], 2);
        let errors = bench.events().iter().filter(|event| event["event"] == "error").count();
        // Two tries, two dead letters, a skipped one.
        assert_eq!(errors, 5, "{:?}", bench.events());
        std::fs::remove_file(done).expect("removed");
    }
}

#[test]
fn a_record_that_fails_for_good_stops_the_command_after_all_before_it_was_committed() {
    let Some(bench) = Bench::new(1) else { return };
    bench.produce(20);
    let worker = format!("DONE=/dev/null\n{WORKER}");
    let flags = ["--exec", &worker, "-o", "earliest", "--attempts", "2", "--backoff", "1ms..10ms"];
    let run = bench.run(&flags);
    ends_with(&run, 1, LONG);
    assert_eq!(bench.committed(), 7);
    let said = run.stderr().join("\n");
    assert!(said.contains(&format!("{}-0 at offset 7", bench.topic)) && said.contains("broken"), "{said}");
    // It has left: the next one has the partition at once, and goes on.
    let next = bench.run(&["--print", "-e"]);
    ends_with(&next, 0, LONG);
    assert_eq!(printed(&next).len(), 13);
}

#[test]
fn a_topic_for_dead_letters_that_does_not_exist_is_bad_input() {
    let Some(bench) = Bench::new(1) else { return };
    bench.produce(1);
    let run = bench.run(&["--print", "-o", "earliest", "--dead-letter", "no.such.topic"]);
    ends_with(&run, 2, LONG);
    assert!(run.stderr().join("\n").contains("no.such.topic"), "{:?}", run.stderr());
    assert_eq!(printed(&run).len(), 0);
}

#[test]
fn records_are_printed_side_by_side_in_any_ordering() {
    for ordering in ["key", "unordered"] {
        let Some(bench) = Bench::new(2) else { return };
        bench.produce(2_000);
        let flags = ["--print", "-o", "earliest", "-e", "--ordering", ordering, "--timeout", "20s"];
        let run = bench.run(&flags);
        ends_with(&run, 0, LONG);
        assert_eq!(printed(&run).into_iter().collect::<BTreeSet<_>>().len(), 2_000);
        assert_eq!((printed(&run).len(), bench.committed()), (2_000, 2_000));
    }
}

#[test]
fn offsets_are_shown_of_laneways_groups_and_of_others() {
    let Some(bench) = Bench::new(3) else { return };
    bench.produce(30);
    let offsets = |group: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
        command.args(["offsets", "-b", &bench.brokers, "-g", group, "--format", "json"]).args(more);
        let output = command.output().expect("the command");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (lines, String::from_utf8(output.stderr).expect("text"))
    };
    // Of a group that does not exist.
    let (lines, said) = offsets(&bench.group, &[]);
    assert!(lines.is_empty() && said.contains("does not exist"), "{lines:?} {said}");
    let (lines, _) = offsets(&bench.group, &["-t", &bench.topic]);
    assert!(lines.len() == 3 && lines.iter().all(|line| line["committed"].is_null() && line["lag"] == 10));
    for protocol in ["cooperative", "consumer"] {
        let run = bench.run(&["--print", "-o", "earliest", "-e", "--protocol", protocol]);
        ends_with(&run, 0, LONG);
        bench.produce(3);
        let (lines, said) = offsets(&bench.group, &[]);
        assert_eq!((lines.len(), said.as_str()), (3, ""));
        let whole = |line: &Value| line["lag"] == 1 && line["topic"] == *bench.topic && line["map"].is_null();
        assert!(lines.iter().all(whole), "{lines:?}");
    }
    let other = unique("other");
    let commit = |partition, offset, metadata: &[u8]| {
        let at = TopicPartition::new(bench.topic.as_str(), partition);
        let committed = laneway_testing::Committed { offset, metadata: metadata.to_vec() };
        bench.admin().set_committed_with_metadata(&other, &[(at, committed)]).expect("a commit");
    };
    commit(1, 4, b"somebody's");
    let (lines, said) = offsets(&other, &[]);
    assert_eq!((lines.len(), &lines[0]["committed"], &lines[0]["map"]), (1, &4.into(), &Value::Null));
    assert!(said.contains(&format!("{}, partition 1", bench.topic)) && said.lines().count() == 1, "{said}");
}
