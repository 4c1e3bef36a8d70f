//! Flags, environment, file and defaults, brought together: flag over environment over file over default.

use std::path::PathBuf;

use laneway::{Builder, Consumer, OffsetReset, Protocol};

use crate::args::RunArgs;
use crate::properties::{self, Given, Source};

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
    Exec(String),
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
        let mut given = properties::read(args.file.as_deref(), &args.properties)?;
        if !given.passed_over.is_empty() {
            say(format!("passed over, as they mean nothing here: {}", given.passed_over.join(", ")));
        }
        let brokers = typed(
            args.brokers.clone(),
            "-b",
            &mut given,
            &["bootstrap.servers", "metadata.broker.list"],
            as_is,
        )?
        .ok_or("no brokers: give -b HOST:PORT, LANEWAY_BROKERS, or bootstrap.servers in the properties")?;
        let group = typed(args.group.clone(), "-g", &mut given, &["group.id"], as_is)?
            .ok_or("no group: give -g NAME, LANEWAY_GROUP, or group.id in the properties")?;
        let topics = topics(&args.topics)?;
        let reset = typed(args.offset_reset, "-o", &mut given, &["auto.offset.reset"], offset_reset)?;
        let instance = typed(args.instance.clone(), "--instance", &mut given, &["group.instance.id"], as_is)?;
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

fn sink(args: &RunArgs) -> Result<Sink, String> {
    match (args.print, &args.exec) {
        (true, None) => Ok(Sink::Print),
        (false, Some(command)) if !command.trim().is_empty() => Ok(Sink::Exec(command.clone())),
        (false, Some(_)) => Err("--exec has an empty command: what sh -c can run is wanted".into()),
        (true, Some(_)) => Err("both --print and --exec are given: one sink is wanted".into()),
        (false, None) => Err("no sink: give --print, or --exec COMMAND".into()),
    }
}

fn topics(given: &[String]) -> Result<Vec<String>, String> {
    let mut topics = Vec::new();
    for value in given {
        // An expression may hold commas itself.
        if value.starts_with('^') {
            topics.push(value.clone());
            continue;
        }
        topics.extend(value.split(',').map(|name| name.trim().to_owned()));
    }
    if topics.is_empty() {
        return Err("no topic: give -t NAME, or LANEWAY_TOPIC".into());
    }
    Ok(topics)
}

/// A setting that has a flag and a property. The flag wins over the file; against -X it must not differ.
fn typed<T: PartialEq>(
    flag: Option<T>,
    flag_name: &str,
    given: &mut Given,
    keys: &[&str],
    parse: impl Fn(&str, &str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let mut result = None;
    for key in keys {
        let Some(property) = given.take(key) else { continue };
        let value = parse(key, &property.value)?;
        if let (Some(flag), Source::CommandLine) = (&flag, property.source)
            && *flag != value
        {
            return Err(format!("{flag_name} and -X {key} contradict each other: one of them is wanted"));
        }
        result = result.or(Some(value));
    }
    Ok(flag.or(result))
}

fn as_is(key: &str, value: &str) -> Result<String, String> {
    if value.is_empty() { Err(format!("property \"{key}\" is empty")) } else { Ok(value.to_owned()) }
}

fn offset_reset(key: &str, value: &str) -> Result<OffsetReset, String> {
    let value = match value {
        "smallest" => "earliest",
        "largest" => "latest",
        other => other,
    };
    value.parse().map_err(|error| format!("property \"{key}\": {error}"))
}

fn protocol(args: &RunArgs, given: &mut Given) -> Result<Protocol, String> {
    let by_group =
        typed(args.protocol, "--protocol", given, &["group.protocol"], |key, value| match value {
            "consumer" => Ok(Protocol::Consumer),
            "classic" => Ok(args.protocol.filter(|flag| *flag != Protocol::Consumer).unwrap_or_default()),
            _ => Err(format!("property \"{key}\": \"{value}\" is not a group protocol: classic or consumer")),
        })?;
    if by_group == Some(Protocol::Consumer) {
        // Left for the library to refuse, where it is given beside KIP-848.
        return Ok(Protocol::Consumer);
    }
    let key = "partition.assignment.strategy";
    let Some(property) = given.take(key) else { return Ok(by_group.unwrap_or_default()) };
    let (by_strategy, spelled) = strategy(&property.value)?;
    match args.protocol {
        Some(flag) if flag != by_strategy && property.source == Source::CommandLine => {
            return Err(format!(
                "--protocol {flag} and -X {key} contradict each other: one of them is wanted"
            ));
        }
        Some(flag) if flag != by_strategy => return Ok(flag),
        _ => {}
    }
    if by_strategy == Protocol::Eager {
        given.put(key, spelled, property.source);
    }
    Ok(by_strategy)
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
    }

    #[test]
    fn javas_assignors_are_understood() {
        assert_eq!(strategy("org.apache.kafka.clients.consumer.RangeAssignor").unwrap().1, "range");
        assert_eq!(strategy("range,roundrobin").unwrap().0, Protocol::Eager);
        assert!(strategy("org.apache.kafka.clients.consumer.StickyAssignor").is_err());
    }
}
