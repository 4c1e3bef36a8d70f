//! Standard streams that break, and files that are pipes nobody has opened yet: no panic, no deaf process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use laneway_testing::{Admin, EmbeddedKafka, Process, Producer, unique, wait_until};

/// A directory of a test, with a pipe in it that nobody has opened.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place = std::env::temp_dir().join(unique("streams"));
        fs::create_dir_all(&place).unwrap();
        assert!(Command::new("mkfifo").arg(place.join("pipe")).status().unwrap().success());
        Self(place)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Starts the command after `redirect`, a shell's words, with `$PIPE`.
    fn run(&self, redirect: &str, words: &[&str]) -> Process {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{redirect}\nexec \"$@\"")).arg("sh");
        command.arg(env!("CARGO_BIN_EXE_laneway")).args(words).env("PIPE", self.path("pipe"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LANEWAY_")) {
            command.env_remove(name);
        }
        Process::spawn(command).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[track_caller]
fn ends_with(process: &Process, code: i32) {
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(code), "{:?}", process.stderr());
}

/// Makes the topic, with one record.
fn produce_one(kafka: &EmbeddedKafka, topic: &str) {
    kafka.create_topic(topic, 1).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    producer.send(topic, 0, None, Some(b"a"), &[], None).unwrap();
    producer.flush().unwrap();
}

/// Whether the process has a handler of its own for SIGTERM.
fn heeds_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let caught = status.unwrap_or_default().lines().find_map(|line| {
        line.strip_prefix("SigCgt:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    });
    caught.is_some_and(|mask| mask & (1 << 14) != 0)
}

#[test]
fn bad_input_is_bad_input_where_nobody_reads_the_error() {
    let place = Place::new();
    ends_with(&place.run(NO_READER, &["run", "-b", "h:1", "-g", "g", "-t", "t"]), 2);
    ends_with(&place.run(NO_READER, &["run", "-b", "nowhere", "-g", "g", "-t", "t", "--print"]), 2);
}

#[test]
fn a_run_goes_on_where_nobody_reads_what_it_says() {
    let place = Place::new();
    let kafka = EmbeddedKafka::start().unwrap();
    // Said on standard error, in the middle of the run: it is the first topic that is missing.
    let (missing, topic) = (unique("missing"), unique("topic"));
    produce_one(&kafka, &topic);
    let both = format!("{missing},{topic}");
    let run = place
        .run(NO_READER, &["run", "-b", kafka.brokers(), "-g", "g", "-t", &both, "-o", "earliest", "--print"]);
    wait_until(PATIENCE, "the record is printed", || run.stdout().len() == 1 || run.ended().is_some());
    run.terminate().unwrap();
    ends_with(&run, 0);
}

#[test]
fn what_can_not_be_written_is_an_error_and_is_not_finished() {
    let place = Place::new();
    let kafka = EmbeddedKafka::start().unwrap();
    for (redirect, error) in
        [("exec > /dev/full", "No space left"), ("exec 1< /dev/null", "Bad file descriptor")]
    {
        let (topic, group) = (unique("topic"), unique("group"));
        produce_one(&kafka, &topic);
        let words = ["run", "-b", kafka.brokers(), "-g", &group, "-t", &topic, "-o", "earliest", "--print"];
        let run = place.run(redirect, &words);
        ends_with(&run, 1);
        assert!(run.stderr().iter().any(|line| line.contains(error)), "{:?}", run.stderr());
        assert!(committed(&kafka, &group, &topic).is_none_or(|offset| offset <= 0));
    }
}

/// A try that is not over in time has failed, also where the reader does not read.
#[test]
fn a_line_that_is_not_read_in_time_is_a_failed_try() {
    let kafka = EmbeddedKafka::start().unwrap();
    let (topic, group, place) = (unique("topic"), unique("group"), Place::new());
    kafka.create_topic(&topic, 1).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    // More than a pipe holds.
    producer.send(&topic, 0, None, Some(&[b'x'; 200_000]), &[], None).unwrap();
    producer.flush().unwrap();
    let base = ["run", "-b", kafka.brokers(), "-g", &group, "-t", &topic, "-o", "earliest", "--print"];
    let tries = ["--timeout", "200ms", "--attempts", "2", "--backoff", "1ms..2ms"];
    // Open on its other side, and not read.
    let run = place.run("exec 3<>\"$PIPE\" 1>&3", &[&base[..], &tries].concat());
    ends_with(&run, 1);
    let said = run.stderr().join("\n");
    assert!(said.contains("offset 0") && said.contains("within 200ms"), "{said}");
    assert!(committed(&kafka, &group, &topic).is_none_or(|offset| offset == 0));
}

#[test]
fn a_signal_is_heeded_while_a_file_is_waited_for() {
    let place = Place::new();
    let pipe = place.path("pipe");
    let run = place.run("", &["run", "-b", "127.0.0.1:1", "-g", "g", "-t", "t", "--print", "-F", &pipe]);
    wait_until(PATIENCE, "signals are listened for", || heeds_sigterm(run.pid()));
    run.terminate().unwrap();
    ends_with(&run, 0);
    assert_eq!(run.stderr(), Vec::<String>::new());
}

#[test]
fn a_run_does_not_wait_for_whoever_is_to_read_its_events() {
    let place = Place::new();
    let kafka = EmbeddedKafka::start().unwrap();
    let topic = unique("topic");
    produce_one(&kafka, &topic);
    let pipe = place.path("pipe");
    let run = place.run("", &printing(&kafka, "g", &topic, &pipe));
    wait_until(PATIENCE, "the record is printed", || run.stdout().len() == 1 || run.ended().is_some());
    // Whoever comes late is told everything from the beginning, in order.
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    wait_until(PATIENCE, "it is committed", || committed(&kafka, "g", &topic) == Some(1));
    run.terminate().unwrap();
    ends_with(&run, 0);
    let events = event_names(&reader.join().unwrap());
    // The start was decided, so it was committed first.
    assert_eq!(events[..2], ["committed", "assigned"], "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("stopped"), "{events:?}");

    // And where nobody comes at all.
    let run = place.run("", &printing(&kafka, "other", &topic, &pipe));
    wait_until(PATIENCE, "the record is printed", || run.stdout().len() == 1 || run.ended().is_some());
    run.terminate().unwrap();
    ends_with(&run, 0);
}

#[test]
fn a_stop_does_not_wait_for_a_standard_error_that_nobody_reads() {
    let place = Place::new();
    let kafka = EmbeddedKafka::start().unwrap();
    let (missing, topic) = (unique("missing"), unique("topic"));
    produce_one(&kafka, &topic);
    let both = format!("{missing},{topic}");
    for (group, events) in [("told", &["--events", "-"][..]), ("untold", &[])] {
        let words = ["run", "-b", kafka.brokers(), "-g", group, "-t", &both, "-o", "earliest", "--print"];
        let run = place.run(FULL, &[&words[..], events, &["--drain-deadline", "5s"]].concat());
        wait_until(PATIENCE, "it is committed", || {
            committed(&kafka, group, &topic) == Some(1) || run.ended().is_some()
        });
        run.terminate().unwrap();
        let status = run.wait(Duration::from_secs(5 + 5)).unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn what_nobody_read_for_a_while_comes_in_order() {
    let place = Place::new();
    let kafka = EmbeddedKafka::start().unwrap();
    let topic = unique("topic");
    produce_one(&kafka, &topic);
    let run = place.run(FULL, &printing(&kafka, "g", &topic, "-"));
    wait_until(PATIENCE, "it is committed", || {
        committed(&kafka, "g", &topic) == Some(1) || run.ended().is_some()
    });
    run.signal(19).unwrap();
    // The pipe has a writer still, so that reading it ends only with the process.
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    run.signal(18).unwrap();
    run.terminate().unwrap();
    ends_with(&run, 0);
    let bytes = reader.join().unwrap();
    let text: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
    let events = event_names(&String::from_utf8(text).unwrap());
    // The start was decided, so it was committed first.
    assert_eq!(events[..2], ["committed", "assigned"], "{events:?}");
    assert_eq!(events.iter().filter(|name| *name == "revoked").count(), 1, "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("stopped"), "{events:?}");
}

/// What librdkafka says of it is told as far as it is asked for, and a secret never.
#[test]
fn the_log_tells_of_a_broker_that_is_down_and_never_a_secret() {
    let place = Place::new();
    let properties =
        ["-X", "sasl.password=hunter2", "-X", "sasl.username=u", "-X", "security.protocol=SASL_PLAINTEXT"];
    let words = ["run", "-b", "127.0.0.1:1", "-g", "g", "-t", "t", "--print", "-X", "sasl.mechanism=PLAIN"];
    for (level, most) in [("off", 0), ("error", 2), ("debug", usize::MAX)] {
        let debug: &[&str] = if level == "debug" { &["-X", "debug=all"] } else { &[] };
        let run =
            place.run(&format!("export LANEWAY_LOG={level}"), &[&words[..], &properties, debug].concat());
        wait_until(PATIENCE, "signals are listened for", || heeds_sigterm(run.pid()));
        let shows = || run.stderr().iter().any(|line| line.contains("Connection refused"));
        if most > 0 {
            wait_until(PATIENCE, "it is told", || shows() || run.ended().is_some());
        }
        run.terminate().unwrap();
        ends_with(&run, 0);
        let said = run.stderr();
        assert!(said.len() <= most && !said.join(" ").contains("hunter2"), "{said:?}");
        assert!(said.iter().all(|line| line.starts_with("laneway: librdkafka ")), "{said:?}");
    }
}

fn committed(kafka: &EmbeddedKafka, group: &str, topic: &str) -> Option<i64> {
    let partition = laneway::TopicPartition::new(topic, 0);
    let committed = Admin::new(kafka.brokers()).unwrap().committed(group, std::slice::from_ref(&partition));
    committed.unwrap().get(&partition).map(|committed| committed.offset)
}

fn event_names(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["event"].as_str().unwrap().to_owned()
    };
    text.lines().map(name).collect()
}

/// Makes standard error a pipe whose reader went away.
const NO_READER: &str = "exec 3<>\"$PIPE\" 2>\"$PIPE\" 3<&-";

/// Makes standard error a pipe that is full, and that nobody reads.
const FULL: &str = "exec 3<>\"$PIPE\" 2>\"$PIPE\"; dd if=/dev/zero of=\"$PIPE\" bs=4096 count=4096 oflag=nonblock 2>/dev/null";

/// How long is waited for what should come soon.
const PATIENCE: Duration = Duration::from_secs(15);

/// The flags that print a topic from its beginning, with events.
fn printing<'a>(kafka: &'a EmbeddedKafka, group: &'a str, topic: &'a str, events: &'a str) -> [&'a str; 12] {
    let brokers = kafka.brokers();
    ["run", "-b", brokers, "-g", group, "-t", topic, "-o", "earliest", "--print", "--events", events]
}
