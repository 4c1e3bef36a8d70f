//! Where each property of Kafka's client goes, which ones are refused, and how a refusal is told without
//! telling a secret.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use crate::assign::NATIVE_GROUP;
use crate::builder::Builder;
use crate::config::Protocol;
use crate::error::{Error, ErrorKind};
use crate::lane::Prefetch;
use crate::oauth::Tokens;
use crate::sys::Config;

/// What the two clients are made with, and what Laneway itself takes from the properties. Not `Debug`: it
/// holds secrets.
#[derive(Clone)]
pub(crate) struct Clients {
    membership: Vec<(String, String)>,
    fetcher: Vec<(String, String)>,
    /// What all clients have in common: security, sockets.
    common: Vec<(String, String)>,
    /// How often topics are looked for.
    pub(crate) topic_interval: Duration,
    /// After how long without a heartbeat the group goes on without this member, where the client says.
    pub(crate) session: Option<Duration>,
    /// `isolation.level` is `read_committed`.
    pub(crate) read_committed: bool,
    /// The tokens of SASL OAUTHBEARER, if the user's code provides them.
    pub(crate) tokens: Option<Tokens>,
}

impl Clients {
    /// Routes the properties of a builder.
    pub(crate) fn new(builder: &Builder) -> Result<Self, Error> {
        let mut clients = Self {
            membership: Vec::new(),
            fetcher: Vec::new(),
            common: Vec::new(),
            topic_interval: DEFAULT_TOPIC_INTERVAL,
            session: None,
            read_committed: true,
            tokens: builder.tokens.clone().map(Tokens::new),
        };
        clients.set_defaults(builder);
        for (key, value) in &builder.properties {
            clients.route(builder, key, value)?;
        }
        clients.set_fixed(builder);
        clients.check_deadlines(builder)?;
        clients.check_tokens()?;
        clients.check_files()?;
        clients.membership_config()?;
        // Nobody waits for a consumer without a group.
        if builder.assigned.is_none() {
            clients.session = clients.membership_milliseconds("session.timeout.ms")?;
        }
        clients.fetcher_config()?;
        Ok(clients)
    }

    pub(crate) fn membership_config(&self) -> Result<Config, Error> {
        config(&self.membership)
    }

    pub(crate) fn fetcher_config(&self) -> Result<Config, Error> {
        config(&self.fetcher)
    }

    /// Whether what brings little has a client of its own: it was not told how long all requests wait.
    pub(crate) fn has_quiet_fetcher(&self) -> bool {
        // One is Laneway's own.
        self.fetcher.iter().filter(|(key, _)| key == WAIT).count() == 1
    }

    /// For what brings little: its requests wait at the broker until there is something.
    pub(crate) fn quiet_fetcher_config(&self) -> Result<Config, Error> {
        let others = self.fetcher.iter().filter(|(key, _)| key != WAIT);
        config(&others.cloned().collect::<Vec<_>>())
    }

    /// For the producer of dead letters: nothing twice, nothing lost.
    pub(crate) fn producer_config(&self) -> Result<Config, Error> {
        let mut properties = self.common.clone();
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "1"),
            ("message.max.bytes", "1000000000"),
        ] {
            properties.push((key.into(), value.into()));
        }
        config(&properties)
    }

    fn set_defaults(&mut self, builder: &Builder) {
        if builder.protocol != Protocol::Consumer {
            // How soon a rebalance is heard of: with 3 s, the client's default, partitions are silent longer.
            self.membership.push(("heartbeat.interval.ms".into(), "500".into()));
            // Kafka's default, but no longer than the rebalance timeout: the client refuses that.
            let session = self.longest_session(builder).min(DEFAULT_SESSION).as_millis();
            self.membership.push(("session.timeout.ms".into(), session.to_string()));
        }
        // Per partition, as queues are split; what is fetched at once for all of them comes on top, and is all in
        // memory while any of it is.
        let budget = builder.memory;
        for (key, value) in [
            (QUEUED, (budget / 256).clamp(64 << 10, 4 << 20) >> 10),
            (QUEUED_RECORDS, (budget >> 17).clamp(64, 8_192)),
            (FETCHED, (budget / 1024).clamp(64 << 10, 1 << 20)),
            ("fetch.max.bytes", (budget / 128).clamp(1 << 20, 50 << 20)),
        ] {
            self.fetcher.push((key.into(), value.to_string()));
        }
        // A queue that is full when an answer comes is looked at again after so long, however soon a lane empties it: at
        // most one answer of a partition in that time.
        self.fetcher.push(("fetch.queue.backoff.ms".into(), "1".into()));
        self.fetcher.push((WAIT.into(), "5".into()));
        for properties in [&mut self.membership, &mut self.fetcher, &mut self.common] {
            properties.push(("client.id".into(), "laneway".into()));
            // The client's default of 10 s outlasts the start of a broker, and so sessions: nearer to Java's.
            let first = given_milliseconds(builder, "reconnect.backoff.ms").unwrap_or_default();
            let longest = first.max(LONGEST_RECONNECT).as_millis().to_string();
            properties.push(("reconnect.backoff.max.ms".into(), longest));
        }
    }

    fn route(&mut self, builder: &Builder, key: &str, value: &str) -> Result<(), Error> {
        if let Some(reason) = refusal(builder, key, value) {
            return Err(Error::new(ErrorKind::Config, format!("property \"{key}\" is refused: {reason}")));
        }
        let pair = || (key.to_owned(), value.to_owned());
        match key {
            REFRESH => {
                let milliseconds = value
                    .parse()
                    .ok()
                    .filter(|ms| *ms > 0)
                    .ok_or_else(|| invalid(key, value, "a number of milliseconds above 0 is wanted"))?;
                self.topic_interval = Duration::from_millis(milliseconds);
            }
            "isolation.level" => {
                self.read_committed = !is_word(value, "read_uncommitted");
                self.membership.push(pair());
                self.fetcher.push(pair());
            }
            _ if MEMBERSHIP_ONLY.contains(&key) => self.membership.push(pair()),
            _ if key == "check.crcs" || key.starts_with("fetch.") || key.starts_with("queued.") => {
                self.fetcher.push(pair());
            }
            _ => {
                self.membership.push(pair());
                self.fetcher.push(pair());
                self.common.push(pair());
            }
        }
        Ok(())
    }

    /// What the design needs, whatever else is set.
    fn set_fixed(&mut self, builder: &Builder) {
        let group = if builder.assigned.is_some() { NATIVE_GROUP } else { &builder.group };
        for properties in [&mut self.membership, &mut self.fetcher] {
            for (key, value) in [
                ("bootstrap.servers", builder.brokers.as_str()),
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("allow.auto.create.topics", "false"),
            ] {
                properties.push((key.into(), value.into()));
            }
        }
        self.common.push(("bootstrap.servers".into(), builder.brokers.clone()));
        for (key, value) in [("auto.offset.reset", "error"), ("enable.partition.eof", "true")] {
            self.fetcher.push((key.into(), value.into()));
        }
        // A partition whose offset could not be validated while its leader was away waits for this
        // (librdkafka#4492), 5 minutes if nothing is said.
        let refresh = self.topic_interval.min(LONGEST_REFRESH).as_millis().to_string();
        self.fetcher.push((REFRESH.into(), refresh));
        // A change of metadata makes a classic member rejoin although its revoke is unanswered: membership
        // refreshes its metadata only when it is told to.
        let refresh = builder.membership_refresh.map_or("-1".into(), |each| each.as_millis().to_string());
        self.membership.push((REFRESH.into(), refresh));
        let (key, value) = match builder.protocol {
            Protocol::Eager => ("partition.assignment.strategy", "range,roundrobin"),
            Protocol::Cooperative => ("partition.assignment.strategy", "cooperative-sticky"),
            Protocol::Consumer => ("group.protocol", "consumer"),
        };
        if builder.protocol != Protocol::Eager || !self.membership.iter().any(|(set, _)| set == key) {
            self.membership.push((key.into(), value.into()));
        }
        if let Some(id) = &builder.instance_id {
            self.membership.push(("group.instance.id".into(), id.clone()));
        }
    }

    /// What may be fetched ahead of one partition: librdkafka fetches on until its queue is full.
    pub(crate) fn prefetch(&self) -> Prefetch {
        let set = |keys: &[&str], default: u64| {
            let found = self.fetcher.iter().rev().find(|(key, _)| keys.contains(&key.as_str()));
            found.and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
        };
        Prefetch {
            bytes: set(&[QUEUED], 65_536) << 10,
            records: set(&[QUEUED_RECORDS], 100_000),
            fetch: set(&[FETCHED, "max.partition.fetch.bytes"], 1 << 20),
        }
    }

    fn longest_session(&self, builder: &Builder) -> Duration {
        given_milliseconds(builder, "max.poll.interval.ms").unwrap_or(DEFAULT_MAX_POLL_INTERVAL)
    }

    fn membership_milliseconds(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some((_, value)) = self.membership.iter().rev().find(|(set, _)| set == key) else {
            return Ok(None);
        };
        let milliseconds =
            value.parse().map_err(|_| invalid(key, value, "a number of milliseconds is wanted"))?;
        Ok(Some(Duration::from_millis(milliseconds)))
    }

    /// OAUTHBEARER needs somebody who provides tokens, and nothing else does.
    fn check_tokens(&self) -> Result<(), Error> {
        let given = |keys: &[&str]| {
            let found = self.fetcher.iter().rev().find(|(key, _)| keys.contains(&key.as_str()));
            found.map(|(_, value)| value.to_ascii_lowercase()).unwrap_or_default()
        };
        let uses_tokens = given(&["sasl.mechanism", "sasl.mechanisms"]) == "oauthbearer";
        let fetches_tokens = is_word(&given(&["sasl.oauthbearer.method"]), "oidc");
        let refuse = |message: &str| Err(Error::new(ErrorKind::Config, message));
        match &self.tokens {
            None if uses_tokens && !fetches_tokens => refuse(
                "sasl.mechanism \"OAUTHBEARER\" needs tokens, and nothing provides them: give a token provider (a program's, to the library)",
            ),
            Some(_) if !uses_tokens => refuse(
                "there is a token provider, and nothing to use its tokens: set sasl.mechanism to \"OAUTHBEARER\"",
            ),
            Some(_) if !given(&["security.protocol"]).trim_start().starts_with("sasl_") => refuse(
                "there is a token provider, and nothing to use its tokens: set security.protocol to \"sasl_ssl\"",
            ),
            Some(_) if fetches_tokens => refuse(
                "tokens come from the token provider or by sasl.oauthbearer.method \"oidc\", not from both",
            ),
            _ => Ok(()),
        }
    }

    /// With TLS, what is to be read must be there: of a file that is not, OpenSSL tells a code, and later.
    fn check_files(&self) -> Result<(), Error> {
        let given = |key: &str| {
            let found = self.fetcher.iter().rev().find(|(set, _)| set == key);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let has_tls = |protocol: &str| is_word(protocol, "ssl") || is_word(protocol, "sasl_ssl");
        if !given("security.protocol").is_some_and(has_tls) {
            return Ok(());
        }
        for key in FILES {
            let may_be_directory = *key == "ssl.ca.location";
            let is_path = |value: &&str| !(may_be_directory && *value == "probe");
            let Some(path) = given(key).filter(is_path) else { continue };
            if let Some(reason) = unreadable(Path::new(path), may_be_directory) {
                let file =
                    if is_like_a_path(path) { format!("\"{path}\"") } else { "its file (not shown)".into() };
                return Err(Error::new(ErrorKind::Config, format!("property \"{key}\": {file} {reason}")));
            }
        }
        Ok(())
    }

    fn check_deadlines(&self, builder: &Builder) -> Result<(), Error> {
        let limit =
            self.membership_milliseconds("max.poll.interval.ms")?.unwrap_or(DEFAULT_MAX_POLL_INTERVAL);
        let session = self.membership_milliseconds("session.timeout.ms")?;
        if let Some(session) = session.filter(|session| *session > limit) {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "session.timeout.ms ({session:?}) must not be longer than max.poll.interval.ms ({limit:?})"
                ),
            ));
        }
        let needed = builder.drain_deadline.saturating_add(GRACE);
        if needed >= limit && !builder.allow_long_drain && builder.assigned.is_none() {
            let (drain, limit) = (builder.drain_deadline, limit);
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the drain deadline of {drain:?} and the {GRACE:?} beyond it must together be shorter than \
                     max.poll.interval.ms ({limit:?}), or the group goes on without this member in the middle \
                     of a drain: shorten the one or lengthen the other"
                ),
            ));
        }
        Ok(())
    }
}

const WAIT: &str = "fetch.wait.max.ms";
const QUEUED: &str = "queued.max.messages.kbytes";
const QUEUED_RECORDS: &str = "queued.min.messages";
const FETCHED: &str = "fetch.message.max.bytes";

/// Properties that name a file; `ssl.ca.location` may name a directory, too.
const FILES: &[&str] =
    &["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"];

/// Why a file can't be read, if it can't. What is no plain file is not opened: that may wait.
fn unreadable(path: &Path, may_be_directory: bool) -> Option<String> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some("does not exist".into()),
        Err(error) => return Some(format!("can't be read: {error}")),
    };
    if found.is_dir() {
        return (!may_be_directory).then(|| "is a directory: a file is wanted".into());
    }
    let opened = if found.is_file() { std::fs::File::open(path).map(drop) } else { Ok(()) };
    opened.err().map(|error| format!("can't be read: {error}"))
}

/// Not a key or a password that was put in the place of its file.
fn is_like_a_path(value: &str) -> bool {
    let path = Path::new(value);
    let is_rooted = path.is_absolute() || value.starts_with("./") || value.starts_with("../");
    let is_named =
        path.extension().is_some_and(|ending| ENDINGS.iter().any(|usual| ending.eq_ignore_ascii_case(usual)));
    (is_rooted || is_named) && value.len() < LONGEST_PATH && !value.contains(char::is_control)
}

/// How files of certificates and keys usually end.
const ENDINGS: &[&str] = &["pem", "crt", "cer", "cert", "key", "p12", "pfx", "der"];
/// A key in one line is longer, a path hardly ever.
const LONGEST_PATH: usize = 512;

fn given_milliseconds(builder: &Builder, key: &str) -> Option<Duration> {
    let given = builder.properties.iter().rev().find(|(set, _)| set == key);
    given.and_then(|(_, value)| value.parse().ok()).map(Duration::from_millis)
}

fn config(properties: &[(String, String)]) -> Result<Config, Error> {
    let mut config = Config::new();
    for (key, value) in properties {
        config.set(key, value).map_err(|refused| {
            if refused.unknown {
                let name = shown_name(key);
                let message = format!("property \"{name}\" is unknown to Kafka's client (librdkafka)");
                return Error::new(ErrorKind::Config, message);
            }
            invalid(key, value, "Kafka's client (librdkafka) refuses that value")
        })?;
    }
    Ok(config)
}

fn invalid(key: &str, value: &str, wanted: &str) -> Error {
    let given =
        if may_be_shown(key, value) { format!("\"{value}\"") } else { "its value (not shown)".into() };
    Error::new(ErrorKind::Config, format!("property \"{key}\": {given}: {wanted}"))
}

/// Whether librdkafka takes `value` for `word`: it does in any case, and behind spaces (rdkafka_conf.c 2330).
fn is_word(value: &str, word: &str) -> bool {
    value.trim_start().eq_ignore_ascii_case(word)
}

/// A property's name. What no name has, such as an equals sign, may be followed by a secret: it was to be a name and a
/// value.
pub(crate) fn shown_name(key: &str) -> Cow<'_, str> {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    match key.find(|character| !is_of_a_name(character)) {
        Some(end) => format!("{}...", &key[..end]).into(),
        None => key.into(),
    }
}

/// Numbers and short words of properties that are not about security can be shown.
fn may_be_shown(key: &str, value: &str) -> bool {
    let is_about_security = ["sasl.", "ssl.", "password", "secret", "token", "jaas", "username"];
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._-,".contains(character);
    !is_about_security.iter().any(|part| key.contains(part))
        && value.len() <= 32
        && value.chars().all(is_plain)
}

/// Why a property can't be set, if it can't.
fn refusal(builder: &Builder, key: &str, value: &str) -> Option<String> {
    let contradicts = |typed: &str, with: &str| {
        (value != with).then(|| format!("it contradicts {typed}, which says \"{with}\""))
    };
    let is_of_a_group =
        MEMBERSHIP_ONLY.contains(&key) || ["group.id", "group.instance.id", "group.protocol"].contains(&key);
    if is_of_a_group && builder.assigned.is_some() {
        return Some("it is about a group, and partitions are assigned by hand".into());
    }
    match key {
        "bootstrap.servers" | "metadata.broker.list" => contradicts("the brokers", &builder.brokers),
        "group.id" => contradicts("the group", &builder.group),
        "group.instance.id" => match &builder.instance_id {
            Some(id) => contradicts("the instance id", id),
            None => Some("give it as the instance id".into()),
        },
        "auto.offset.reset" => Some("resets are decided by Laneway: give it as the offset reset".into()),
        "group.protocol" => {
            let with = if builder.protocol == Protocol::Consumer { "consumer" } else { "classic" };
            contradicts("the rebalance protocol", with).filter(|_| !is_word(value, with))
        }
        "partition.assignment.strategy" => match builder.protocol {
            Protocol::Cooperative => contradicts("the rebalance protocol", "cooperative-sticky"),
            Protocol::Consumer => Some("with KIP-848 the broker assigns; see group.remote.assignor".into()),
            Protocol::Eager if value.contains("cooperative") => {
                Some("it contradicts the rebalance protocol, which says \"eager\"".into())
            }
            Protocol::Eager => None,
        },
        "session.timeout.ms" | "heartbeat.interval.ms" if builder.protocol == Protocol::Consumer => {
            Some("with KIP-848 the broker decides it".into())
        }
        "sasl.oauthbearer.token.endpoint.url" if !value.starts_with("https://") => {
            Some("tokens are fetched over https only".into())
        }
        _ => REFUSED.iter().find(|(refused, _)| *refused == key).map(|(_, reason)| (*reason).to_owned()),
    }
}

const REFUSED: &[(&str, &str)] = &[
    ("enable.auto.commit", "Laneway commits what is finished, and nothing else"),
    ("auto.commit.interval.ms", "give it as the commit interval"),
    ("auto.commit.enable", "Laneway commits what is finished, and nothing else"),
    ("enable.auto.offset.store", "Laneway commits what is finished, and nothing else"),
    ("offset.store.method", "offsets are kept by the group"),
    ("offset.store.path", "offsets are kept by the group"),
    ("enable.partition.eof", "Laneway needs it, and sets it"),
    ("topic.metadata.refresh.sparse", "Laneway looks for topics itself"),
    ("allow.auto.create.topics", "a consumer that makes topics hides a wrong name"),
    ("plugin.library.paths", "it loads code"),
    ("ssl.engine.location", "it loads code"),
    ("ssl.engine.id", "it loads code"),
    ("ssl.providers", "it loads code"),
    ("sasl.kerberos.kinit.cmd", "it runs a command"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "tokens that are not signed prove nothing"),
    ("test.mock.num.brokers", "it replaces the cluster with one that is not real"),
    ("log.queue", "Laneway reads the client's log itself"),
    ("group.protocol.type", "it must be \"consumer\""),
];

const MEMBERSHIP_ONLY: &[&str] = &[
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "group.protocol",
    "group.remote.assignor",
    "coordinator.query.interval.ms",
];

/// What ending a drain, the last commit and the leave have beyond the drain deadline.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// librdkafka's default of `max.poll.interval.ms` (CONFIGURATION.md).
const DEFAULT_MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// The default of `reconnect.backoff.max.ms`, unless the first wait is longer.
const LONGEST_RECONNECT: Duration = Duration::from_secs(2);
/// How often a client asks for its topics' metadata, and the most that librdkafka takes.
const REFRESH: &str = "topic.metadata.refresh.interval.ms";
const LONGEST_REFRESH: Duration = Duration::from_secs(3_600);
/// The default of `session.timeout.ms`, in Kafka as in librdkafka.
const DEFAULT_SESSION: Duration = Duration::from_secs(45);
/// How often topics are looked for unless `topic.metadata.refresh.interval.ms` says otherwise.
const DEFAULT_TOPIC_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::Consumer;

    fn build(properties: &[(&str, &str)]) -> Result<Clients, Error> {
        let mut builder = Consumer::builder().brokers("127.0.0.1:9092").group("g").topics(["t"]);
        for (key, value) in properties {
            builder = builder.property(*key, *value);
        }
        Clients::new(&builder)
    }

    fn refused(key: &str, value: &str) -> String {
        build(&[(key, value)]).err().expect(key).to_string()
    }

    #[test]
    fn properties_go_where_they_belong() {
        let clients = build(&[("session.timeout.ms", "9000"), ("fetch.min.bytes", "7"), ("client.id", "me")])
            .ok()
            .unwrap();
        let has = |list: &[(String, String)], key: &str, value: &str| {
            list.iter().any(|(k, v)| k == key && v == value)
        };
        assert!(has(&clients.membership, "session.timeout.ms", "9000"));
        assert!(!has(&clients.fetcher, "session.timeout.ms", "9000"));
        assert!(has(&clients.fetcher, "fetch.min.bytes", "7"));
        assert!(!has(&clients.membership, "fetch.min.bytes", "7"));
        assert!(has(&clients.fetcher, "client.id", "me") && has(&clients.membership, "client.id", "me"));
    }

    #[test]
    fn words_are_read_in_any_case_as_librdkafka_reads_them() {
        for (word, committed) in [
            ("read_uncommitted", false),
            ("READ_UNCOMMITTED", false),
            (" Read_Uncommitted", false),
            ("READ_COMMITTED", true),
        ] {
            let clients = build(&[("isolation.level", word)]).expect(word);
            assert_eq!(clients.read_committed, committed, "{word}");
        }
        assert!(build(&[("group.protocol", "Classic")]).is_ok());
        assert!(refused("group.protocol", "CONSUMER").contains("rebalance protocol"));
        let builder = Consumer::builder().brokers("127.0.0.1:9092").group("g").topics(["t"]);
        let mut provided = builder.token_provider(|| async { Err::<crate::Token, _>("none") });
        for (key, value) in [("sasl.mechanism", "OAuthBearer"), ("security.protocol", " Sasl_Plaintext")] {
            assert!(Clients::new(&provided).is_err());
            provided.properties.push((key.into(), value.into()));
        }
        assert!(Clients::new(&provided).is_ok());
    }

    #[test]
    fn what_contradicts_laneway_is_refused_by_name() {
        for (key, value) in [
            ("enable.auto.commit", "true"),
            ("plugin.library.paths", "/tmp/x.so"),
            ("auto.offset.reset", "earliest"),
            ("group.id", "other"),
            ("partition.assignment.strategy", "range"),
        ] {
            assert!(refused(key, value).contains(key));
        }
    }

    #[test]
    fn unknown_and_invalid_properties_are_named() {
        assert!(refused("no.such.thing", "1").contains("unknown"));
        assert!(refused("fetch.min.bytes", "many").contains("\"many\""));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let error = refused("ssl.endpoint.identification.algorithm", "hunter2");
        assert!(!error.contains("hunter2"), "{error}");
        let error = refused("sasl.oauthbearer.token.endpoint.url", "http://u:hunter2@h");
        assert!(!error.contains("hunter2"), "{error}");
        let error = refused("sasl.oauthbearer.method", "hunter2");
        assert!(!error.contains("hunter2"), "{error}");
        // Not where it does not belong either.
        for slip in ["sasl.password=hunter2", "sasl.password hunter2", "sasl.password:hunter2"] {
            let builder = Consumer::builder().brokers("h:1").group("g").topics(["t"]).property(slip, "");
            let shown = format!("{builder:?}");
            let error = builder.build().expect_err(slip).to_string();
            for told in [shown, error] {
                assert!(told.contains("\"sasl.password...\"") && !told.contains("hunter2"), "{told}");
            }
        }
        for brokers in
            ["user:hunter2@h:9092", "SASL_SSL://user:hunter2@h:9092", "a:hun,ter2@b:1,c:hunter2@h:9092"]
        {
            let shown = format!("{:?}", Consumer::builder().brokers(brokers));
            assert!(shown.contains("brokers: \"...@h:9092\"") && !shown.contains("hun"), "{shown}");
        }
    }

    #[test]
    fn a_file_of_certificates_that_can_not_be_read_is_refused_by_name() {
        let directory = std::env::temp_dir().join(format!("laneway-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (file, missing) = (directory.join("a.pem"), directory.join("b.pem"));
        std::fs::write(&file, "").unwrap();
        let (directory, file, missing) = [&directory, &file, &missing].map(|it| it.to_str().unwrap()).into();
        let with = |key, value| build(&[("security.protocol", "SASL_SSL"), (key, value)]);
        for key in FILES {
            let error = with(key, missing).err().expect(key).to_string();
            assert!(error.contains(key) && error.contains(missing) && error.contains("not exist"), "{error}");
            assert!(with(key, file).is_ok(), "{key}");
            assert_eq!(with(key, directory).is_ok(), *key == "ssl.ca.location", "{key}");
            // Without TLS nobody reads it.
            assert!(build(&[(key, missing)]).is_ok());
            for secret in ["hunter2", "-----BEGIN PRIVATE KEY-----\n/hunter2"] {
                let error = with(key, secret).err().expect(key).to_string();
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
        assert!(with("ssl.ca.location", "probe").is_ok());
        // A file that is behind a file.
        let error = with("ssl.ca.location", &format!("{file}/x")).err().unwrap().to_string();
        assert!(error.contains("can't be read"), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_drain_that_outlasts_the_rebalance_timeout_is_refused() {
        assert!(refused("max.poll.interval.ms", "30000").contains("max.poll.interval.ms"));
        assert!(build(&[("max.poll.interval.ms", "31000")]).is_ok());
        let both = build(&[("max.poll.interval.ms", "40000"), ("session.timeout.ms", "41000")]);
        assert!(both.err().unwrap().to_string().contains("session.timeout.ms"));
    }
}
