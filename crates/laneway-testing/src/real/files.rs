//! What a node needs around it: a directory, two ports, and its properties.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::RealOptions;
use crate::{Error, unique};

/// A directory of our own in the temporary directory. A [`Guard`](crate::guard::Guard) removes it.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(unique("laneway-kafka"));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Error::new(format!("directory {} for Kafka's data: {e}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("kafka.log")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(super) fn properties(&self) -> PathBuf {
        self.0.join("server.properties")
    }

    /// An error that ends with the last lines of the log.
    pub(super) fn complain(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        Error::new(format!("{what}; the last of its log:\n{last}"))
    }

    /// The properties of the node `id` of a cluster whose nodes have these ports, in the order of their ids.
    pub(super) fn write_properties(
        &self,
        id: usize,
        ports: &[Ports],
        options: &RealOptions,
    ) -> Result<(), Error> {
        let mut text = String::new();
        let own = ports.get(id - 1).ok_or_else(|| Error::new(format!("no ports for node {id}")))?;
        let voters: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(at, ports)| format!("{}@127.0.0.1:{}", at + 1, ports.controller))
            .collect();
        let mut listeners = format!("PLAINTEXT://{}", own.brokers());
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for ((name, protocol), port) in options.listeners.iter().zip(&own.more) {
            let _ = write!(listeners, ",{name}://127.0.0.1:{port}");
            let _ = write!(protocols, ",{name}:{protocol}");
        }
        let copies = ports.len().min(3).to_string();
        let in_sync = if ports.len() > 2 { "2" } else { "1" };
        let ours = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", id.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("listeners", format!("{listeners},CONTROLLER://127.0.0.1:{}", own.controller)),
            ("advertised.listeners", listeners),
            ("listener.security.protocol.map", protocols),
            ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
            ("log.dirs", self.data().display().to_string()),
            ("default.replication.factor", copies.clone()),
            ("offsets.topic.replication.factor", copies.clone()),
            ("transaction.state.log.replication.factor", copies.clone()),
            ("share.coordinator.state.topic.replication.factor", copies),
            ("min.insync.replicas", in_sync.to_owned()),
            ("transaction.state.log.min.isr", in_sync.to_owned()),
        ];
        // In Java's properties the last one of a key counts.
        let lines = ours.iter().map(|(k, v)| (*k, v.as_str()));
        let given = options.properties.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in lines.chain(QUICK.iter().copied()).chain(given) {
            // A backslash is an escape there, and a line may hold PEM.
            let value = value.replace('\\', "\\\\").replace('\n', "\\n").replace("{node}", &id.to_string());
            let _ = writeln!(text, "{key}={value}");
        }
        let path = self.properties();
        fs::write(&path, text).map_err(|e| Error::new(format!("{}: {e}", path.display())))
    }
}

/// What makes a node quick to start and its groups quick to react.
const QUICK: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // Killed and started again, it is let in once its old session is over (9 s by default).
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("num.recovery.threads.per.data.dir", "1"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
];

/// The ports of one node.
pub(super) struct Ports {
    client: u16,
    controller: u16,
    /// Of the other listeners.
    more: Vec<u16>,
}

impl Ports {
    /// Two and `more` that are free now. They lie below those that the system gives to outgoing connections: else a client
    /// that tries to reach a killed broker may be given the broker's port for its own end, and keep it.
    pub(super) fn pick(more: usize) -> Result<Self, Error> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let first = u16::try_from(std::process::id() % 9_973).unwrap_or(0);
        let mut free =
            (0..10_000).map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000) % 10_000);
        let mut next = || free.by_ref().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        match (next(), next(), (0..more).map(|_| next()).collect()) {
            (Some(client), Some(controller), Some(more)) => Ok(Self { client, controller, more }),
            _ => Err(Error::new("too few free ports between 20000 and 30000 on the loopback address")),
        }
    }

    pub(super) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// Where the listener with this number, beside the plain one, takes connections.
    pub(super) fn listener(&self, at: usize) -> Option<String> {
        self.more.get(at).map(|port| format!("127.0.0.1:{port}"))
    }

    /// Whether somebody takes connections at the clients' port.
    pub(super) fn open(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.client));
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    }
}
