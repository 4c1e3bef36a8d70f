//! Flags, environment, file and defaults, brought together: flag over environment over file over default.

use std::path::PathBuf;
use std::time::Duration;

use laneway::{Builder, Consumer, GiveUp, OffsetReset, Protocol};

use crate::args::{ClusterArgs, OffsetsArgs, RunArgs};
use crate::properties::{self, Given, Source};
use crate::shown::shown;

/// What a run is to do.
pub(crate) struct Settings {
    pub(crate) builder: Builder,
    pub(crate) sink: Sink,
    pub(crate) group: String,
    pub(crate) client_id: Option<String>,
    pub(crate) exit_at_end: bool,
    pub(crate) count: Option<u64>,
    pub(crate) events: Option<EventsTo>,
}

/// Where records go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Print,
    /// How long an answer may take is the worker's handler's to watch: a try that took too long is not over before
    /// the worker has let go of it.
    Exec {
        command: String,
        timeout: Option<Duration>,
    },
}

/// Where events go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EventsTo {
    Stderr,
    File(PathBuf),
}

impl Settings {
    /// Brings everything together. `say` is given what a person should know of it.
    ///
    /// # Errors
    /// One line that names the thing, what was given and what is allowed.
    pub(crate) fn resolve(args: &RunArgs, say: &mut dyn FnMut(String)) -> Result<Self, String> {
        let sink = sink(args)?;
        let mut given = read(&args.cluster, say)?;
        let (brokers, group) = brokers_and_group(&args.cluster, &mut given)?;
        let topics = topics(&args.cluster.topics)?;
        if topics.is_empty() {
            return Err("no topic: give -t NAME, or LANEWAY_TOPIC".into());
        }
        let reset = typed(
            unless_set(args.offset_reset, "offset_reset", &args.cluster, &given, &["auto.offset.reset"]),
            "-o (or LANEWAY_OFFSET_RESET)",
            &mut given,
            "auto.offset.reset",
            offset_reset,
        )?;
        let instance = instance(args, &mut given)?;
        let protocol = protocol(args, &mut given)?;
        let client_id = given.value("client.id").map(str::to_owned);

        let mut builder = Consumer::builder()
            .brokers(brokers)
            .group(&group)
            .topics(topics)
            .protocol(protocol)
            .offset_reset(reset.unwrap_or_default())
            .drain_deadline(args.drain_deadline)
            .commit_interval(args.commit_interval)
            .exit_at_end(args.exit_at_end);
        if let Some(count) = args.count {
            builder = builder.count(count);
        }
        builder = failures(builder, args)?;
        if let Some(instance) = instance {
            builder = builder.instance_id(instance);
        }
        if args.allow_long_drain {
            builder = builder.allow_drains_longer_than_the_rebalance_timeout();
        }
        for property in given.properties {
            builder = builder.property(property.key, property.value);
        }
        let events = args.events.as_ref().map(|path| match path.to_str() {
            Some("-") => EventsTo::Stderr,
            _ => EventsTo::File(path.clone()),
        });
        let (exit_at_end, count) = (args.exit_at_end, args.count);
        Ok(Self { builder, sink, group, client_id, exit_at_end, count, events })
    }
}

/// What a group is to be asked about.
pub(crate) fn resolve_offsets(args: &OffsetsArgs, say: &mut dyn FnMut(String)) -> Result<Builder, String> {
    let mut given = read(&args.cluster, say)?;
    let (brokers, group) = brokers_and_group(&args.cluster, &mut given)?;
    let topics = topics(&args.cluster.topics)?;
    // What a member needs, and this is none: a file may be another command's, too.
    for key in OF_A_MEMBER {
        given.take(key);
    }
    let builder = Consumer::builder().brokers(brokers).group(group).topics(topics);
    Ok(given.properties.into_iter().fold(builder, |builder, it| builder.property(it.key, it.value)))
}

fn read(args: &ClusterArgs, say: &mut dyn FnMut(String)) -> Result<Given, String> {
    let given = properties::read(args.file.as_deref(), &args.properties)?;
    if !given.passed_over.is_empty() {
        say(format!("passed over, as they mean nothing here: {}", given.passed_over.join(", ")));
    }
    Ok(given)
}

fn brokers_and_group(args: &ClusterArgs, given: &mut Given) -> Result<(String, String), String> {
    if let Some(brokers) = &args.brokers {
        without_equals("-b (or LANEWAY_BROKERS)", brokers, "HOST:PORT")?;
    }
    let brokers = unless_set(args.brokers.clone(), "brokers", args, given, &["bootstrap.servers"]);
    let brokers = typed(brokers, "-b (or LANEWAY_BROKERS)", given, "bootstrap.servers", as_is)?
        .ok_or("no brokers: give -b HOST:PORT, LANEWAY_BROKERS, or bootstrap.servers in the properties")?;
    let group = unless_set(args.group.clone(), "group", args, given, &["group.id"]);
    let group = typed(group, "-g (or LANEWAY_GROUP)", given, "group.id", as_is)?
        .ok_or("no group: give -g NAME, LANEWAY_GROUP, or group.id in the properties")?;
    Ok((brokers, group))
}

const OF_A_MEMBER: &[&str] = &[
    "auto.offset.reset",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

fn sink(args: &RunArgs) -> Result<Sink, String> {
    match (args.print, &args.exec) {
        (true, None) => Ok(Sink::Print),
        (false, Some(command)) if !command.trim().is_empty() => {
            Ok(Sink::Exec { command: command.clone(), timeout: args.timeout })
        }
        (false, Some(_)) => Err("--exec has an empty command: what sh -c can run is wanted".into()),
        (true, Some(_)) => Err("both --print and --exec are given: one sink is wanted".into()),
        (false, None) => Err("no sink: give --print, or --exec COMMAND".into()),
    }
}

/// Order, concurrency, and what is done about records that fail.
fn failures(builder: Builder, args: &RunArgs) -> Result<Builder, String> {
    let mut builder = builder
        .ordering(args.ordering.unwrap_or_default())
        .backoff(args.backoff.0, args.backoff.1)
        .memory(args.memory);
    if let Some(records) = args.concurrency {
        builder = builder.concurrency(as_usize(records));
    }
    if let Some(records) = args.lane_concurrency {
        builder = builder.lane_concurrency(as_usize(records));
    }
    if let Some(attempts) = args.attempts {
        builder = builder.attempts(attempts);
    }
    if let Some(timeout) = args.timeout.filter(|_| args.print) {
        builder = builder.timeout(timeout);
    }
    if let Some(topic) = &args.dead_letter {
        let flag = "--dead-letter (or LANEWAY_DEAD_LETTER)";
        builder = builder.dead_letters(without_equals(flag, topic, "a topic's NAME")?);
    }
    if let Some(give_up) = args.on_give_up {
        if give_up == GiveUp::DeadLetter && args.dead_letter.is_none() {
            return Err(
                "--on-give-up dead-letter (or LANEWAY_ON_GIVE_UP) needs a topic: give --dead-letter TOPIC"
                    .into(),
            );
        }
        builder = builder.on_give_up(give_up);
    }
    Ok(builder)
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// No address and no topic has an equals sign. What has may be a property, and a secret, that came under a wrong flag.
fn without_equals<'a>(flag: &str, value: &'a str, wanted: &str) -> Result<&'a str, String> {
    match value.split_once('=') {
        Some(_) => Err(format!("{flag} has an equals sign in \"{}\": {wanted} is wanted", shown(value))),
        None => Ok(value),
    }
}

fn topics(given: &[String]) -> Result<Vec<String>, String> {
    let mut topics = Vec::new();
    for value in given {
        without_equals("-t (or LANEWAY_TOPIC)", value, "a topic's NAME")?;
        topics.extend(split_at_commas(value).into_iter().map(|name| name.trim().to_owned()));
    }
    Ok(topics)
}

/// Commas part names and expressions. No topic's name has a comma, so one inside of an expression's brackets
/// (`^a{1,2}`) is the expression's own.
fn split_at_commas(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, character) in value.char_indices() {
        match character {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 || !value[start..].trim_start().starts_with('^') => {
                parts.push(&value[start..at]);
                (start, depth) = (at + 1, 0);
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

/// A setting's flag, unless it was given by the environment alone, and one of these properties by -X, which is a flag as
/// well.
fn unless_set<T>(flag: Option<T>, id: &str, args: &ClusterArgs, given: &Given, keys: &[&str]) -> Option<T> {
    let is_set = || keys.iter().any(|key| given.source(key) == Some(Source::CommandLine));
    flag.filter(|_| !(args.of_environment.contains(id) && is_set()))
}

/// A setting that has a flag and a property. The flag wins over the file, whatever the file says; from -X it
/// must not differ.
fn typed<T: PartialEq>(
    flag: Option<T>,
    flag_name: &str,
    given: &mut Given,
    key: &str,
    parse: impl Fn(&str, &str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let Some(property) = given.take(key) else { return Ok(flag) };
    match flag {
        Some(flag) if property.source == Source::File => Ok(Some(flag)),
        Some(flag) if flag == parse(key, &property.value)? => Ok(Some(flag)),
        Some(_) => Err(contradiction(flag_name, key)),
        None => parse(key, &property.value).map(Some),
    }
}

fn contradiction(flag: &str, key: &str) -> String {
    format!("{flag} and -X {key} contradict each other: one of them is wanted")
}

fn instance(args: &RunArgs, given: &mut Given) -> Result<Option<String>, String> {
    let flag_name = "--instance (or LANEWAY_INSTANCE)";
    if args.instance.as_deref() == Some("") {
        return Err(format!("{flag_name} is empty: an id is wanted"));
    }
    let key = "group.instance.id";
    let instance = unless_set(args.instance.clone(), "instance", &args.cluster, given, &[key]);
    typed(instance, flag_name, given, key, as_is)
}

fn as_is(key: &str, value: &str) -> Result<String, String> {
    if value.is_empty() { Err(format!("property \"{key}\" is empty")) } else { Ok(value.to_owned()) }
}

fn offset_reset(key: &str, value: &str) -> Result<OffsetReset, String> {
    // In any case, as librdkafka reads it.
    let value = value.to_ascii_lowercase();
    let value = match value.as_str() {
        "smallest" => "earliest",
        "largest" => "latest",
        other => other,
    };
    value.parse().map_err(|error| format!("property \"{key}\": {error}"))
}

fn protocol(args: &RunArgs, given: &mut Given) -> Result<Protocol, String> {
    let key = "partition.assignment.strategy";
    let flag = unless_set(args.protocol, "protocol", &args.cluster, given, &[key]);
    // "classic" goes with both of the classic ones.
    let is_consumer = |flag: &Protocol| *flag == Protocol::Consumer;
    let by_group = given.value("group.protocol").map(|group| group.eq_ignore_ascii_case("consumer"));
    let flag = if flag.as_ref().map(is_consumer) == by_group {
        flag
    } else {
        unless_set(flag, "protocol", &args.cluster, given, &["group.protocol"])
    };
    let flag_name = flag.map(|flag| format!("--protocol {flag} (or LANEWAY_PROTOCOL)")).unwrap_or_default();
    let is_asked_for = flag.is_some() || given.source("group.protocol") == Some(Source::CommandLine);
    let by_group = typed(flag, &flag_name, given, "group.protocol", |key, value| {
        match value.to_ascii_lowercase().as_str() {
            "consumer" => Ok(Protocol::Consumer),
            "classic" => Ok(flag.filter(|flag| *flag != Protocol::Consumer).unwrap_or_default()),
            _ => Err(format!("property \"{key}\": \"{value}\" is not a group protocol: classic or consumer")),
        }
    })?;
    let Some(property) = given.take(key) else { return Ok(by_group.unwrap_or_default()) };
    let is_from_file = property.source == Source::File;
    if by_group == Some(Protocol::Consumer) {
        // One that contradicts its own source is left for the library to refuse, with its reason.
        if !(is_from_file && is_asked_for) {
            given.put(key, property.value, property.source);
        }
        return Ok(Protocol::Consumer);
    }
    let (protocol, spelled) = match (flag, strategy(&property.value)) {
        (Some(flag), Ok((protocol, spelled))) if flag == protocol => (flag, spelled),
        (Some(flag), _) if is_from_file => return Ok(flag),
        (Some(_), Ok(_)) => return Err(contradiction(&flag_name, key)),
        (_, by_strategy) => by_strategy?,
    };
    if protocol == Protocol::Eager {
        given.put(key, spelled, property.source);
    }
    Ok(protocol)
}

/// What an assignor's name, librdkafka's or Java's, says about the protocol, and librdkafka's spelling.
fn strategy(value: &str) -> Result<(Protocol, String), String> {
    let mut names = Vec::new();
    for name in value.split(',').map(str::trim) {
        let short = name.rsplit('.').next().unwrap_or(name);
        names.push(match short {
            "cooperative-sticky" | "CooperativeStickyAssignor" => "cooperative-sticky",
            "range" | "RangeAssignor" => "range",
            "roundrobin" | "RoundRobinAssignor" => "roundrobin",
            "StickyAssignor" => {
                return Err("property \"partition.assignment.strategy\": StickyAssignor is not one that librdkafka \
                            has: cooperative-sticky is as sticky, and what members move to"
                    .into());
            }
            _ => {
                return Err(format!(
                    "property \"partition.assignment.strategy\": \"{name}\" is not an assignor that this client \
                     has: range, roundrobin or cooperative-sticky"
                ));
            }
        });
    }
    // Java's default names both, and then the cooperative one is what a group moves to.
    if names.contains(&"cooperative-sticky") {
        return Ok((Protocol::Cooperative, "cooperative-sticky".into()));
    }
    Ok((Protocol::Eager, names.join(",")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn resolve(words: &[&str]) -> Result<Settings, String> {
        let all = ["laneway", "run"].iter().chain(words);
        let Command::Run(args) = Cli::try_parse_from(all).expect("words").command else {
            panic!("not a run")
        };
        Settings::resolve(&args, &mut |_| {})
    }

    fn error(words: &[&str]) -> String {
        resolve(words).err().expect("an error")
    }

    const GOOD: [&str; 7] = ["-b", "h:1", "-g", "g", "-t", "t", "--print"];

    fn and(more: &[&'static str]) -> Vec<&'static str> {
        GOOD.iter().chain(more).copied().collect()
    }

    #[test]
    fn what_is_missing_is_named_with_how_to_give_it() {
        assert!(error(&["-g", "g", "-t", "t", "--print"]).contains("-b HOST:PORT"));
        assert!(error(&["-b", "h:1", "-t", "t", "--print"]).contains("-g NAME"));
        assert!(error(&["-b", "h:1", "-g", "g", "--print"]).contains("-t NAME"));
        assert!(error(&["-b", "h:1", "-g", "g", "-t", "t"]).contains("--exec"));
        assert!(error(&and(&["--exec", "cat"])).contains("both"));
    }

    #[test]
    fn a_flag_and_a_property_of_the_command_line_must_agree() {
        assert!(error(&and(&["-X", "group.id=other"])).contains("group.id"));
        assert!(resolve(&and(&["-X", "group.id=g"])).is_ok());
        assert!(error(&and(&["-o", "latest", "-X", "auto.offset.reset=earliest"])).contains("-o"));
        let words = and(&["--protocol", "eager", "-X", "partition.assignment.strategy=cooperative-sticky"]);
        assert!(error(&words).contains("--protocol eager"));
    }

    #[test]
    fn an_expression_may_hold_commas_and_names_are_split_at_them() {
        assert_eq!(topics(&["a,b".into(), "^c{1,2}".into()]).unwrap(), ["a", "b", "^c{1,2}"]);
        assert_eq!(topics(&["a, ^b{1,2}x,^(c|d)".into()]).unwrap(), ["a", "^b{1,2}x", "^(c|d)"]);
        // Left whole, so that the library's refusal shows all of it.
        assert_eq!(topics(&["^b(,c".into()]).unwrap(), ["^b(,c"]);
    }

    fn with_file(text: &str, more: &[&'static str]) -> Result<Settings, String> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("laneway-settings-{}-{number}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let shown = path.to_str().unwrap();
        let result = resolve(&[&GOOD[..], more, &["-F", shown]].concat());
        std::fs::remove_file(&path).unwrap();
        result
    }

    fn built(text: &str, more: &[&'static str]) -> String {
        format!("{:?}", with_file(text, more).unwrap_or_else(|error| panic!("{error}")).builder)
    }

    #[test]
    fn a_flag_wins_over_the_file_whatever_the_file_says() {
        assert!(with_file("auto.offset.reset=by_duration:PT1H\n", &["-o", "earliest"]).is_ok());
        let sticky = "partition.assignment.strategy=org.apache.kafka.clients.consumer.StickyAssignor\n";
        assert!(built(sticky, &["--protocol", "eager"]).contains("properties: [], protocol: Eager"));
        let range = "partition.assignment.strategy=range\n";
        assert!(built(range, &["--protocol", "consumer"]).contains("properties: [], protocol: Consumer"));
        assert!(
            built(range, &["-X", "group.protocol=consumer"]).contains("properties: [], protocol: Consumer")
        );
        assert!(
            built(range, &["--protocol", "cooperative"]).contains("properties: [], protocol: Cooperative")
        );
        // What agrees with the flag is kept.
        assert!(built(range, &["--protocol", "eager"]).contains("[\"partition.assignment.strategy\"]"));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_left_for_the_library_to_refuse() {
        let both = "group.protocol=consumer\npartition.assignment.strategy=range\n";
        assert!(built(both, &[]).contains("[\"partition.assignment.strategy\"], protocol: Consumer"));
    }

    #[test]
    fn an_offset_reset_is_read_in_capitals_as_librdkafka_reads_it() {
        assert!(with_file("auto.offset.reset=LATEST\n", &["-o", "latest"]).is_ok());
        assert!(with_file("auto.offset.reset=Smallest\n", &[]).is_ok());
    }

    #[test]
    fn group_protocols_are_read_in_capitals_as_java_reads_them() {
        assert!(built("group.protocol=CONSUMER\n", &[]).contains("protocol: Consumer"));
        assert!(built("group.protocol=Classic\n", &[]).contains("protocol: Cooperative"));
    }

    #[test]
    fn brokers_of_the_command_line_take_the_place_of_the_files_in_either_spelling() {
        let words = ["run", "-g", "g", "-t", "t", "--print"];
        let path = std::env::temp_dir().join(format!("laneway-brokers-{}", std::process::id()));
        std::fs::write(&path, "bootstrap.servers=file:1\n").unwrap();
        let more = ["-F", path.to_str().unwrap(), "-X", "metadata.broker.list=mine:1"];
        let settings = resolve(&[&words[1..], &more].concat()).unwrap_or_else(|error| panic!("{error}"));
        std::fs::remove_file(&path).unwrap();
        assert!(format!("{:?}", settings.builder).contains("brokers: \"mine:1\""));
    }

    #[test]
    fn javas_assignors_are_understood() {
        assert_eq!(strategy("org.apache.kafka.clients.consumer.RangeAssignor").unwrap().1, "range");
        assert_eq!(strategy("range,roundrobin").unwrap().0, Protocol::Eager);
        let error = strategy("org.apache.kafka.clients.consumer.StickyAssignor").unwrap_err();
        assert!(error.contains("cooperative-sticky") && error.contains("librdkafka"), "{error}");
    }
}
