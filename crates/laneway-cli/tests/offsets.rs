//! `laneway offsets` on the embedded Kafka: what it prints, and what it says of what is void.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

use laneway::TopicPartition;
use laneway_core::map::{Ahead, DEFAULT_LIMIT, Place, Text, encode};
use laneway_testing::{Admin, Committed, EmbeddedKafka, Producer, unique};
use serde_json::{Value, json};

struct Bench {
    kafka: EmbeddedKafka,
    topic: String,
    group: String,
}

impl Bench {
    /// Ten records in each partition.
    fn new(partitions: i32) -> Self {
        let kafka = EmbeddedKafka::start().unwrap();
        let topic = unique("topic");
        kafka.create_topic(&topic, partitions).unwrap();
        let producer = Producer::new(kafka.brokers(), &[]).unwrap();
        for partition in 0..partitions {
            for _ in 0..10 {
                producer.send(&topic, partition, None, Some(b"x"), &[], None).unwrap();
            }
        }
        producer.flush().unwrap();
        Self { kafka, topic, group: unique("group") }
    }

    fn commit(&self, partition: i32, offset: i64, metadata: &[u8]) {
        let committed = Committed { offset, metadata: metadata.to_vec() };
        let at = TopicPartition::new(self.topic.as_str(), partition);
        let admin = Admin::new(self.kafka.brokers()).unwrap();
        admin.set_committed_with_metadata(&self.group, &[(at, committed)]).unwrap();
    }

    /// The map of a commit at `base`, with 5 and 6 finished above it, and 8.
    fn map(&self, partition: i32, base: i64) -> String {
        let mut ahead = Ahead::new(base);
        for offset in base..9 {
            ahead.push(offset, [5, 6, 8].contains(&offset));
        }
        let place = Place { group: &self.group, topic: &self.topic, partition };
        encode(&ahead, place, DEFAULT_LIMIT, Text::Dense).text
    }

    fn offsets(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
        command.args(["offsets", "-b", self.kafka.brokers(), "-g", &self.group]).args(more);
        command.output().unwrap()
    }
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(output: &Output) -> Vec<String> {
    String::from_utf8(output.stderr.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn each_partition_has_a_line_with_what_is_committed_its_lag_and_its_map() {
    let bench = Bench::new(3);
    let map = bench.map(0, 3);
    bench.commit(0, 3, map.as_bytes());
    bench.commit(1, 10, b"");
    let output = bench.offsets(&["-t", &bench.topic, "--format", "json"]);
    let map = json!({
        "encoding": "bitmap",
        "bytes": map.len(),
        "finished_ahead": 3,
        "unfinished": [[3, 4], [7, 7]],
    });
    let topic = &bench.topic;
    assert_eq!(
        lines(&output),
        [
            json!({"topic": topic, "partition": 0, "committed": 3, "end": 10, "lag": 7, "map": map}),
            json!({"topic": topic, "partition": 1, "committed": 10, "end": 10, "lag": 0, "map": null}),
            json!({"topic": topic, "partition": 2, "committed": null, "end": 10, "lag": 10, "map": null}),
        ]
    );
    assert_eq!(said(&output), Vec::<String>::new());
}

#[test]
fn metadata_that_is_void_is_said_in_one_line_and_is_no_map() {
    let bench = Bench::new(4);
    // Somebody else's; of another partition; of another offset; damaged.
    bench.commit(0, 3, b"consumer-1");
    bench.commit(1, 3, bench.map(0, 3).as_bytes());
    bench.commit(2, 4, bench.map(2, 3).as_bytes());
    bench.commit(3, 3, &[bench.map(3, 3).as_bytes(), b"A"].concat());
    let output = bench.offsets(&["-t", &bench.topic, "--format", "json"]);
    let lines = lines(&output);
    assert!(lines.len() == 4 && lines.iter().all(|line| line["map"].is_null()), "{lines:?}");
    let said = said(&output);
    let whys = ["not an offset map of Laneway's", "checksum", "checksum", "damaged"];
    assert_eq!(said.len(), 4, "{said:?}");
    for (number, why) in whys.iter().enumerate() {
        let place = format!("{}, partition {number}:", bench.topic);
        assert!(said[number].contains(&place) && said[number].contains(why), "{said:?}");
    }
}

#[test]
fn a_group_that_has_committed_nothing_is_said_and_is_no_failure() {
    let bench = Bench::new(1);
    let output = bench.offsets(&["-t", &bench.topic, "--format", "json"]);
    assert_eq!(lines(&output)[0]["committed"], Value::Null);
    assert_eq!(said(&output).len(), 1);
    let output = bench.offsets(&[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert!(said(&output)[0].contains("committed nothing"), "{output:?}");
}

#[test]
fn as_text_it_is_a_table() {
    let bench = Bench::new(2);
    bench.commit(0, 3, bench.map(0, 3).as_bytes());
    let output = bench.offsets(&["-t", &bench.topic]);
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let cells = |row: usize| rows[row].iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>();
    assert_eq!(cells(0)[..3], ["TOPIC", "PARTITION", "COMMITTED"]);
    assert_eq!(cells(1)[..7], [bench.topic.as_str(), "0", "3", "10", "7", "3", "3-4, 7"]);
    assert_eq!(cells(2), [bench.topic.as_str(), "1", "-", "10", "10", "-", "-", "-"]);
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_topic_that_does_not_exist_is_bad_input() {
    let bench = Bench::new(1);
    for missing in ["nowhere", "^nowhere.*"] {
        let output = bench.offsets(&["-t", missing]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        assert!(said(&output)[0].contains(missing), "{output:?}");
    }
    let output = bench.offsets(&["-t", &format!("^{}$", bench.topic), "--format", "json"]);
    assert_eq!(lines(&output).len(), 1);
}

#[test]
fn an_answer_that_is_not_there_yet_is_asked_for_again() {
    let bench = Bench::new(1);
    bench.commit(0, 3, b"");
    let (not_coordinator, loading) = (16, 14);
    bench.kafka.push_errors(laneway_testing::ApiKey::OFFSET_FETCH, &[loading, not_coordinator]);
    let output = bench.offsets(&["-t", &bench.topic, "--format", "json"]);
    assert_eq!(lines(&output)[0]["committed"], 3);
}

#[test]
fn what_a_file_says_of_members_means_nothing_here() {
    let bench = Bench::new(1);
    let file = std::env::temp_dir().join(unique("properties"));
    let group = format!("group.id={}\n", bench.group);
    let text = "group.protocol=consumer\nsession.timeout.ms=9000\ngroup.instance.id=one\n\
                auto.offset.reset=earliest\npartition.assignment.strategy=range\nmax.poll.interval.ms=1000\n";
    std::fs::write(&file, group + text).unwrap();
    let output = bench.offsets(&["-F", file.to_str().unwrap(), "-t", &bench.topic, "--format", "json"]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(lines(&output).len(), 1);
}

#[test]
fn an_address_where_nothing_answers_is_named_after_30_seconds() {
    let began = std::time::Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
    let output = command.args(["offsets", "-b", "127.0.0.1:1", "-g", "g"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(began.elapsed().as_secs() >= 29, "{:?}", began.elapsed());
    let said = said(&output).join("\n");
    assert!(said.contains("127.0.0.1:1") && said.contains("refused"), "{said}");
}
