//! A real Apache Kafka: nodes in KRaft combined mode, on this machine, for as long as a test needs it.

mod files;
mod jars;

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::process::wait_until_stopped;
use crate::{Admin, Error, sys};
use files::{Directory, Ports};

/// How long a start may take, on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A running node of Kafka 4.3.1 (or the one that `KAFKA_HOME` has), on the loopback address. It ends when it
/// is dropped, and also when this process ends in any other way; its data goes with it.
///
/// Its jars are brought by Maven once, into `$LANEWAY_KAFKA_CACHE` or `~/.cache/laneway/kafka-4.3.1`.
pub struct RealKafka {
    brokers: String,
    state: Mutex<State>,
    directory: Directory,
    listeners: Vec<(String, String)>,
}

struct State {
    child: Option<Child>,
    guard: Guard,
    ports: Ports,
    libs: PathBuf,
}

/// How a [`RealKafka`] is made.
#[derive(Clone, Default)]
pub struct RealOptions {
    /// Properties of the server, which go before ours. Ours make it quick: no initial rebalance delay, short
    /// session timeouts allowed, heartbeats of KIP-848 members each second, four partitions in its own topics, no
    /// topics that nobody made.
    ///
    /// `{node}` in a value becomes the number of the node, from 1 on.
    pub properties: Vec<(String, String)>,
    /// Listeners beside the plain one, which is for administration: a name, and its security protocol
    /// (`SSL`, `SASL_PLAINTEXT`, `SASL_SSL`). What they need is to be among the properties.
    pub listeners: Vec<(String, String)>,
    /// SCRAM users that are there from the start: mechanism, name, password.
    pub scram: Vec<(String, String, String)>,
}

impl RealKafka {
    /// Whether one can be started here: Java 17, and jars from `KAFKA_HOME`, from the cache, or by Maven.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn available() -> Result<(), String> {
        jars::available().map_err(|e| e.to_string())
    }

    /// Starts one, and waits until it answers. The first start on a machine also fetches the jars.
    ///
    /// # Errors
    /// When something is missing ([`available`](Self::available)), or it does not start: the error ends with
    /// the last lines of its log.
    pub fn start(options: RealOptions) -> Result<Self, Error> {
        Self::start_cluster(1, options)?.pop().ok_or_else(|| Error::new("a cluster without a node"))
    }

    /// Starts a cluster, and waits until every node knows of all: the nodes 1, 2, ... in this order. With three
    /// or more of them topics have three replicas, of which two must be in sync to write.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_cluster(nodes: usize, options: RealOptions) -> Result<Vec<Self>, Error> {
        let libs = jars::libs()?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&libs, nodes, &options) {
                // Between our look at a port and its use somebody else may have taken it.
                Err(error) if attempt < 5 && error.to_string().contains("Address already in use") => {
                    attempt += 1
                }
                started => return started,
            }
        }
    }

    /// One that all tests of this process share; use names of your own ([`unique`](crate::unique)). It is started
    /// by the first who asks, and ends with the process.
    ///
    /// # Errors
    /// As [`start`](Self::start); the same for everybody who asks.
    pub fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceLock<Result<RealKafka, Error>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(RealOptions::default())).as_ref().map_err(Clone::clone)
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Where the listener of this name, one of [`RealOptions::listeners`], takes connections.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn listener(&self, name: &str) -> Result<String, Error> {
        let at = self.listeners.iter().position(|(known, _)| known == name);
        at.and_then(|at| self.state().ports.listener(at))
            .ok_or_else(|| Error::new(format!("Kafka at {} has no listener {name}", self.brokers)))
    }

    /// The directory with its data: a directory for each partition.
    pub fn data(&self) -> PathBuf {
        self.directory.data()
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(Child::id)
    }

    /// The file with what it says.
    pub fn log(&self) -> PathBuf {
        self.directory.log()
    }

    /// Kills it (SIGKILL), as a crash of the broker would. Its data stays.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// Starts it again after [`kill`](Self::kill), on the same ports and with the same data.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub fn start_again(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.child.is_some() {
            return Err(Error::new(format!("Kafka at {} is running: kill it first", self.brokers)));
        }
        state.run(&self.directory)?;
        state.wait_until_ready(&self.brokers, 1, &self.directory)
    }

    /// As [`start_again`](Self::start_again), but returns at once: a node whose cluster has lost its majority is
    /// not ready before others are.
    ///
    /// # Errors
    /// When it runs, or no process can be made.
    pub fn begin_to_start_again(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.child.is_some() {
            return Err(Error::new(format!("Kafka at {} is running: kill it first", self.brokers)));
        }
        state.run(&self.directory)
    }

    /// Waits until it answers, and knows of as many nodes.
    ///
    /// # Errors
    /// When that takes too long, or it has ended.
    pub fn wait_until_ready(&self, nodes: usize) -> Result<(), Error> {
        self.state().wait_until_ready(&self.brokers, nodes, &self.directory)
    }

    /// Stops it where it stands (SIGSTOP): connections stay, nothing is answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<(), Error> {
        self.signal(libc::SIGSTOP)?;
        let pid = self.pid().ok_or_else(|| Error::new(format!("Kafka at {} does not run", self.brokers)))?;
        wait_until_stopped(pid)
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<(), Error> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        let state = self.state();
        let Some(child) = &state.child else {
            return Err(Error::new(format!("signal {signal} to Kafka at {}: it does not run", self.brokers)));
        };
        sys::signal(child.id(), false, signal)
            .map_err(|e| Error::new(format!("signal {signal} to Kafka at {}: {e}", self.brokers)))
    }

    fn start_once(libs: &Path, nodes: usize, options: &RealOptions) -> Result<Vec<Self>, Error> {
        let ports: Vec<Ports> =
            (0..nodes).map(|_| Ports::pick(options.listeners.len())).collect::<Result<_, _>>()?;
        let mut made = Vec::with_capacity(nodes);
        for id in 1..=nodes {
            let directory = Directory::new()?;
            let guard = Guard::new(Some(directory.path()))?;
            directory.write_properties(id, &ports, options)?;
            made.push((directory, guard));
        }
        let nodes_of = made.into_iter().zip(ports).map(|((directory, guard), ports)| {
            let brokers = ports.brokers();
            let state = Mutex::new(State { child: None, guard, ports, libs: libs.to_owned() });
            Self { brokers, state, directory, listeners: options.listeners.clone() }
        });
        let cluster: Vec<Self> = nodes_of.collect();
        for node in &cluster {
            let mut state = node.state();
            state.format(&node.directory, &options.scram)?;
            state.run(&node.directory)?;
        }
        // One that ends, perhaps for want of its port, keeps the others from becoming ready.
        let begun = Instant::now();
        while begun.elapsed() < START && !cluster.iter().all(|node| node.state().ports.open()) {
            for node in &cluster {
                node.state().check_that_it_runs(&node.directory)?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for node in &cluster {
            node.state().wait_until_ready(&node.brokers, nodes, &node.directory)?;
        }
        Ok(cluster)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn java(&self, directory: &Directory, class: &str) -> Result<Command, Error> {
        let log = OpenOptions::new().create(true).append(true).open(directory.log());
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|e| Error::new(format!("log {}: {e}", directory.log().display())))?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"])
            // Jansi and its like unpack libraries into the temporary directory: they go with ours.
            .arg(format!("-Djava.io.tmpdir={}", directory.path().display()))
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            // Who joins a group, who leaves, and why: what a test that failed is understood by.
            .arg("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group=info")
            .arg("-cp")
            .arg(self.libs.join("*"))
            .arg(class)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        Ok(command)
    }

    fn format(&mut self, directory: &Directory, scram: &[(String, String, String)]) -> Result<(), Error> {
        let mut command = self.java(directory, "kafka.tools.StorageTool")?;
        // Any id does, as long as it is 16 bytes in Base64.
        command.args(["format", "-t", "bGFuZXdheS10ZXN0cy0xMg", "-c"]).arg(directory.properties());
        for (mechanism, name, password) in scram {
            command.arg("--add-scram").arg(format!("{mechanism}=[name={name},password={password}]"));
        }
        let mut child = self.guard.spawn(&mut command)?;
        let ended = child.wait();
        self.guard.forget();
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(directory.complain(&format!("Kafka's storage was not formatted ({status})"))),
            Err(e) => Err(Error::new(format!("Kafka's storage tool: {e}"))),
        }
    }

    fn run(&mut self, directory: &Directory) -> Result<(), Error> {
        let mut command = self.java(directory, "kafka.Kafka")?;
        command.arg(directory.properties());
        self.child = Some(self.guard.spawn(&mut command)?);
        Ok(())
    }

    fn wait_until_ready(&mut self, brokers: &str, nodes: usize, directory: &Directory) -> Result<(), Error> {
        let deadline = Instant::now() + START;
        let admin = Admin::new(brokers)?;
        loop {
            self.check_that_it_runs(directory)?;
            if self.ports.open()
                && admin.broker_count(Duration::from_millis(500)).is_ok_and(|count| count >= nodes)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(
                    directory.complain(&format!("Kafka at {brokers} did not answer within {START:?}"))
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn check_that_it_runs(&mut self, directory: &Directory) -> Result<(), Error> {
        match self.child.as_ref().and_then(|child| sys::ended(child.id())) {
            Some(status) => {
                self.kill();
                Err(directory.complain(&format!("Kafka ended while it started ({status})")))
            }
            None => Ok(()),
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = sys::signal(child.id(), true, libc::SIGKILL);
            self.guard.forget();
            let _ = child.wait();
        }
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for RealKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealKafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// The shared real Kafka, or `None` where there is none to be had, after saying so in one line.
///
/// # Panics
/// When there is none although `LANEWAY_REQUIRE_REAL_KAFKA=1` says that there must be, or when it is available and
/// does not start.
#[track_caller]
pub fn real_kafka_or_skip() -> Option<&'static RealKafka> {
    let required = std::env::var_os("LANEWAY_REQUIRE_REAL_KAFKA").is_some_and(|v| v == "1");
    if let Err(why) = RealKafka::available() {
        assert!(!required, "LANEWAY_REQUIRE_REAL_KAFKA=1, but: {why}");
        eprintln!("skipped, no real Kafka here: {why}");
        return None;
    }
    let kafka = RealKafka::shared();
    assert!(kafka.is_ok(), "{}", kafka.err().map(|e| e.to_string()).unwrap_or_default());
    kafka.ok()
}
