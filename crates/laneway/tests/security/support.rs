//! A broker with listeners of all kinds, the certificates for them, and consumers whose every word is kept.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use laneway::{
    Builder, Consumer, Error, ErrorKind, Event, Handle, OffsetReset, Record, Start, Summary, Token,
    TopicPartition,
};
use laneway_testing::{Admin, Producer, RealKafka, RealOptions, try_wait_until, unique};
use tokio::runtime::Runtime;

/// What is in every secret, and may be in nothing that is said.
pub(crate) const MARKER: &str = "hunter2";
pub(crate) const PASSWORD: &str = "hunter2-is-right";
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The broker, and what its clients need.
pub(crate) struct Secured {
    pub(crate) kafka: RealKafka,
    pub(crate) ca: String,
    /// Signed by nobody that the broker knows.
    pub(crate) other_ca: String,
    pub(crate) client: Pair,
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The one that all tests of this binary share, or `None` where there is none to be had. The plain listener is its
/// own and the tests'; alice, olga (with a token) and carol (with a certificate) may do everything, bob nothing.
pub(crate) fn secured() -> Option<&'static Secured> {
    static SHARED: OnceLock<Option<Secured>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        crate::logged::keep();
        if let Err(why) = RealKafka::available() {
            let required = std::env::var_os("LANEWAY_REQUIRE_REAL_KAFKA").is_some_and(|v| v == "1");
            assert!(!required, "LANEWAY_REQUIRE_REAL_KAFKA=1, but: {why}");
            eprintln!("skipped, no real Kafka here: {why}");
            return None;
        }
        Some(start())
    });
    shared.as_ref()
}

fn start() -> Secured {
    let directory = std::env::temp_dir().join(unique("laneway-certificates"));
    std::fs::create_dir(&directory).expect("a directory");
    let authority = Authority::new(&directory, "ca");
    let other = Authority::new(&directory, "other");
    let good = authority.sign("broker", "IP:127.0.0.1,DNS:localhost", 30);
    let misnamed = authority.sign("elsewhere", "DNS:elsewhere.example", 30);
    let expired = authority.sign("expired", "IP:127.0.0.1", -1);
    let client = authority.sign("carol", "DNS:carol", 30);
    let mut properties = vec![
        property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        property("super.users", "User:ANONYMOUS;User:alice;User:olga;User:CN=carol"),
        property("allow.everyone.if.no.acl.found", "false"),
    ];
    for (listener, pair) in [("tls", &good), ("named", &misnamed), ("old", &expired), ("sasltls", &good)] {
        let mut add = |key: &str, value: &str| {
            properties.push(property(&format!("listener.name.{listener}.{key}"), value))
        };
        add("ssl.keystore.type", "PEM");
        add("ssl.keystore.certificate.chain", &pair.certificate);
        add("ssl.keystore.key", &pair.key);
        add("ssl.truststore.type", "PEM");
        add("ssl.truststore.certificates", &authority.pem());
        if listener == "tls" {
            add("ssl.client.auth", "required");
        }
    }
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{PASSWORD}\" \
         user_bob=\"{PASSWORD}\";"
    );
    let oauth = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\";";
    for listener in ["sasl", "sasltls"] {
        let mut add = |key: &str, value: &str| {
            properties.push(property(&format!("listener.name.{listener}.{key}"), value))
        };
        add("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER");
        add("plain.sasl.jaas.config", &plain);
        add("scram-sha-256.sasl.jaas.config", scram);
        add("scram-sha-512.sasl.jaas.config", scram);
        add("oauthbearer.sasl.jaas.config", oauth);
        // A connection ends with the token that it was authenticated with.
        add("oauthbearer.connections.max.reauth.ms", "3600000");
    }
    let named = |(name, protocol): (&str, &str)| (name.to_owned(), protocol.to_owned());
    let user = |mechanism: &str| (mechanism.to_owned(), "alice".to_owned(), PASSWORD.to_owned());
    let options = RealOptions {
        properties,
        listeners: [("TLS", "SSL"), ("NAMED", "SSL"), ("OLD", "SSL"), ("SASL", "SASL_PLAINTEXT")]
            .into_iter()
            .chain([("SASLTLS", "SASL_SSL")])
            .map(named)
            .collect(),
        scram: vec![user("SCRAM-SHA-256"), user("SCRAM-SHA-512")],
    };
    let kafka = RealKafka::start(options).expect("a broker");
    let (ca, other_ca) = (authority.pem(), other.pem());
    std::fs::remove_dir_all(&directory).expect("the directory of the certificates");
    Secured { kafka, ca, other_ca, client }
}

pub(crate) fn property(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// A private authority, in files.
struct Authority<'a> {
    directory: &'a Path,
    name: &'static str,
}

impl<'a> Authority<'a> {
    fn new(directory: &'a Path, name: &'static str) -> Self {
        let new = Self { directory, name };
        new.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem \
             -days 30 -subj /CN={name} -addext basicConstraints=critical,CA:TRUE"
        ));
        new
    }

    fn pem(&self) -> String {
        self.read(&format!("{}.pem", self.name))
    }

    /// A certificate for `name`; with -1 days it has expired.
    fn sign(&self, name: &str, hosts: &str, days: i32) -> Pair {
        let ca = self.name;
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
             -subj /CN={name}"
        ));
        let extensions = self.directory.join(format!("{name}.ext"));
        std::fs::write(extensions, format!("subjectAltName={hosts}\n")).expect("a file of extensions");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} -extfile {name}.ext \
             -out {name}.pem"
        ));
        Pair { certificate: self.read(&format!("{name}.pem")), key: self.read(&format!("{name}.key")) }
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .output()
            .expect("`openssl`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.join(file)).expect(file)
    }
}

impl Secured {
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(self.kafka.brokers()).expect("an admin client")
    }

    /// A topic of one partition with as many records.
    pub(crate) fn topic(&self, records: usize) -> String {
        let topic = unique("orders");
        self.admin().create_topic(&topic, 1, &[]).expect("a topic");
        self.produce(&topic, records);
        topic
    }

    pub(crate) fn produce(&self, topic: &str, records: usize) {
        let producer = Producer::new(self.kafka.brokers(), &[]).expect("a producer");
        for _ in 0..records {
            producer.send(topic, 0, None, Some(b"payload"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
    }

    /// A consumer's settings, to one of the listeners.
    pub(crate) fn builder(&self, listener: &str, topic: &str) -> Builder {
        let builder = Consumer::builder().group(unique("group")).topics([topic]);
        self.connect(builder.offset_reset(OffsetReset::Earliest), listener)
    }

    fn connect(&self, builder: Builder, listener: &str) -> Builder {
        let mut builder = builder.brokers(self.kafka.listener(listener).expect(listener));
        let (protocol, tls) = match listener {
            "SASL" => ("sasl_plaintext", false),
            "SASLTLS" => ("sasl_ssl", true),
            _ => ("ssl", true),
        };
        builder = builder.property("security.protocol", protocol);
        if tls {
            builder = builder.property("ssl.ca.pem", &self.ca);
        }
        if listener == "TLS" {
            builder = builder
                .property("ssl.certificate.pem", &self.client.certificate)
                .property("ssl.key.pem", &self.client.key);
        }
        builder
    }

    /// The same, with a password.
    pub(crate) fn user(
        &self,
        listener: &str,
        topic: &str,
        mechanism: &str,
        name: &str,
        password: &str,
    ) -> Builder {
        with_password(self.builder(listener, topic), mechanism, name, password)
    }

    /// The settings of one that reads a partition without a group, with a password.
    pub(crate) fn by_hand(&self, partition: &TopicPartition, start: Start, name: &str) -> Builder {
        let builder = Consumer::builder().assign([(partition.clone(), start)]);
        with_password(self.connect(builder, "SASL"), "PLAIN", name, PASSWORD)
    }
}

fn with_password(builder: Builder, mechanism: &str, name: &str, password: &str) -> Builder {
    builder
        .property("sasl.mechanism", mechanism)
        .property("sasl.username", name)
        .property("sasl.password", password)
}

/// A running consumer, and everything that it says.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    said: Arc<Mutex<String>>,
    run: tokio::task::JoinHandle<Result<Summary, Error>>,
    begun: Instant,
}

impl Running {
    pub(crate) fn start(builder: Builder) -> Self {
        let said = Arc::new(Mutex::new(format!("{builder:?}\n")));
        let (kept, begun) = (said.clone(), Instant::now());
        let builder = builder.on_event(move |event: &Event| {
            let _ = writeln!(lock(&kept), "{:?} {event:?}", begun.elapsed());
        });
        let consumer = builder.build().expect("a consumer");
        let _ = writeln!(lock(&said), "{consumer:?} {:?}", consumer.handle());
        let handle = consumer.handle();
        let run = runtime().spawn(consumer.run(|_: Record| async {}));
        Self { handle, said, run, begun }
    }

    pub(crate) fn finished(&self) -> u64 {
        self.handle.status().finished
    }

    pub(crate) fn wait_for(&self, records: u64) {
        let came = try_wait_until(SOON, &format!("{records} records"), || self.finished() >= records);
        assert!(came.is_ok(), "{came:?}; it said {}", self.said());
    }

    pub(crate) fn said(&self) -> String {
        lock(&self.said).clone()
    }

    /// Waits until something is said.
    pub(crate) fn wait_to_hear(&self, text: &str) {
        let heard = try_wait_until(SOON, &format!("{text} to be said"), || self.count(text) > 0);
        assert!(heard.is_ok(), "{heard:?}; it said {}", self.said());
    }

    /// How often something was said.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.said().lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.run.is_finished()
    }

    /// Stops it, and does not wait.
    pub(crate) fn leave(self) {
        self.handle.stop();
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(self) -> Summary {
        self.handle.stop();
        let (result, said) = self.end();
        result.unwrap_or_else(|error| panic!("{error}; {said}"))
    }

    /// Waits for its end. Nothing it said holds a secret.
    pub(crate) fn end(self) -> (Result<Summary, Error>, String) {
        let (status, said) = (self.handle.clone(), self.said.clone());
        let ended = runtime().block_on(async move { tokio::time::timeout(SOON, self.run).await });
        let mut said = lock(&said).clone();
        let result = ended.unwrap_or_else(|_| panic!("it does not end; it said {said}")).expect("a task");
        let _ = writeln!(said, "{result:?} {:?} ended after {:?}", status.status(), self.begun.elapsed());
        assert!(!said.contains(MARKER), "{said}");
        (result, said)
    }

    /// It ends by itself, refused, within seconds. What it said then.
    pub(crate) fn refused(self) -> String {
        let begun = self.begun;
        let (result, said) = self.end();
        let error = match result {
            Err(error) if error.kind() == ErrorKind::Refused => error.to_string(),
            other => panic!("{other:?}; it said {said}"),
        };
        assert!(begun.elapsed() < Duration::from_secs(15), "{said}");
        eprintln!("refused after {:?}: {error}", begun.elapsed());
        error
    }
}

/// A token for olga that is not signed: what this broker takes.
pub(crate) fn token(life: Duration) -> Token {
    let now = SystemTime::now();
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_millis() as f64 / 1_000.0
    };
    let claims = format!(
        "{{\"sub\":\"olga\",\"iat\":{},\"exp\":{},\"secret\":\"{MARKER}\"}}",
        seconds(now),
        seconds(now + life)
    );
    let value = format!("{}.{}.", base64(b"{\"alg\":\"none\"}"), base64(claims.as_bytes()));
    Token::new(value, now + life).principal("olga")
}

/// What every token holds, as it is found in one: the start of its payload.
pub(crate) fn token_mark() -> String {
    base64(b"{\"sub\":\"olga\"")[..12].to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}
