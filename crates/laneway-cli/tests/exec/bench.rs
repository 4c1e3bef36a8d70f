//! A topic on the embedded Kafka, and the command with a worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use laneway_testing::{Admin, EmbeddedKafka, Process, Producer, unique, wait_until};

/// A topic of one partition, and a directory that workers write to.
pub(crate) struct Bench {
    pub(crate) kafka: EmbeddedKafka,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) directory: PathBuf,
}

impl Bench {
    pub(crate) fn new(payloads: &[&[u8]]) -> Self {
        let records: Vec<_> = payloads.iter().map(|payload| (None, *payload)).collect();
        Self::with_records(&records)
    }

    /// One record for each key, with its offset as the payload.
    pub(crate) fn keyed(keys: &[&str]) -> Self {
        let payloads: Vec<String> = (0..keys.len()).map(|offset| offset.to_string()).collect();
        let records = keys.iter().zip(&payloads);
        Self::with_records(
            &records.map(|(key, payload)| (Some(*key), payload.as_bytes())).collect::<Vec<_>>(),
        )
    }

    fn with_records(records: &[(Option<&str>, &[u8])]) -> Self {
        let kafka = EmbeddedKafka::start().unwrap();
        let topic = unique("topic");
        kafka.create_topic(&topic, 1).unwrap();
        let producer = Producer::new(kafka.brokers(), &[("message.max.bytes", "6000000")]).unwrap();
        for (key, payload) in records {
            producer.send(&topic, 0, key.map(str::as_bytes), Some(payload), &[], None).unwrap();
        }
        producer.flush().unwrap();
        let directory = std::env::temp_dir().join(unique("exec"));
        fs::create_dir_all(&directory).unwrap();
        Self { kafka, topic, group: unique("group"), directory }
    }

    /// Starts the command with a worker that finds the shell functions below, and `$DIR`.
    pub(crate) fn run(&self, flags: &[&str], worker: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
        command.args(["run", "-b", self.kafka.brokers(), "-g", &self.group, "-t", &self.topic]);
        command
            .args(["-o", "earliest", "--commit-interval", "100ms", "--events"])
            .arg(self.directory.join("events"));
        command.args(flags).arg("--exec").arg(format!("{FUNCTIONS}\n{worker}"));
        command.env("DIR", &self.directory);
        Process::spawn(command).unwrap()
    }

    /// Runs until all records are finished, and checks that it ended well.
    pub(crate) fn run_to_end(&self, worker: &str) {
        self.run_to_end_with(&[], worker);
    }

    pub(crate) fn run_to_end_with(&self, flags: &[&str], worker: &str) {
        let laneway = self.run(&[&["-e"], flags].concat(), worker);
        let status = laneway.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{:?}", laneway.stderr());
        assert_eq!(laneway.stdout(), Vec::<String>::new(), "answers are no product of the command");
    }

    /// A worker for bash, which can wait for a line for a while.
    pub(crate) fn bash(&self, worker: &str) -> String {
        fs::write(self.directory.join("worker.sh"), format!("{FUNCTIONS}\n{worker}")).unwrap();
        "exec bash $DIR/worker.sh".to_owned()
    }

    pub(crate) fn committed(&self) -> i64 {
        let partition = laneway::TopicPartition::new(self.topic.as_str(), 0);
        let committed = Admin::new(self.kafka.brokers())
            .unwrap()
            .committed(&self.group, std::slice::from_ref(&partition))
            .unwrap();
        committed.get(&partition).map_or(-1, |committed| committed.offset)
    }

    /// What workers have written to the file `name`, by lines.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        wait_until(PATIENCE, &format!("{count} lines in {name}"), || self.lines(name).len() >= count);
        self.lines(name)
    }

    /// The messages of the `error` events.
    pub(crate) fn errors(&self) -> Vec<String> {
        let events = self.lines("events").into_iter().map(|line| serde_json::from_str(&line).unwrap());
        let errors = events.filter(|event: &serde_json::Value| event["event"] == "error");
        errors.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    /// One error names the lane and all of `parts`.
    pub(crate) fn assert_error(&self, parts: &[&str]) {
        let lane = format!("{}-0", self.topic);
        let named = |error: &String| error.contains(&lane) && parts.iter().all(|part| error.contains(part));
        assert!(self.errors().iter().any(named), "no error names {lane} and {parts:?}: {:?}", self.errors());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// A process that has ended, or waits only to be reaped.
pub(crate) fn is_gone(pid: &str) -> bool {
    match fs::read_to_string(Path::new("/proc").join(pid).join("stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

pub(crate) fn wait_until_gone(pids: &[String]) {
    for pid in pids {
        wait_until(PATIENCE, &format!("end of process {pid}"), || is_gone(pid));
    }
}

/// Reads a record and its offset, and answers it.
const FUNCTIONS: &str = r#"
next() { IFS= read -r line || return 1; o=${line#*\"offset\":}; o=${o%%,*}; }
ok() { echo "{\"offset\":$o,\"ok\":true}"; }
"#;

/// How long is waited for what should come soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
