//! What can be asked of the command.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser};
use laneway::{GiveUp, OffsetReset, Ordering, Protocol};

use crate::shown::shown;

/// Reads Kafka in parallel, one lane per partition, correctly through every rebalance.
#[derive(Debug, Parser)]
#[command(name = "laneway", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Takes in the words of the command line, the first of them its own name, and the environment.
    pub(crate) fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(words)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let cluster = match &mut cli.command {
            Command::Run(args) => &mut args.cluster,
            Command::Offsets(args) => &mut args.cluster,
            Command::Demo(_) | Command::Supervise => return Ok(cli),
        };
        let Some((_, given)) = matches.subcommand() else { return Ok(cli) };
        let is_from_env = |id: &&clap::Id| given.value_source(id.as_str()) == Some(ValueSource::EnvVariable);
        cluster.of_environment = given.ids().filter(is_from_env).map(ToString::to_string).collect();
        // One that is set and empty says nothing.
        for (id, value) in [("brokers", &mut cluster.brokers), ("group", &mut cluster.group)] {
            if cluster.of_environment.contains(id) {
                value.take_if(|value| value.is_empty());
            }
        }
        Ok(cli)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a group's records, and give each to one sink: --print or --exec
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Show what a group has committed: offsets, lag, and what is finished ahead
    #[command(after_help = OFFSETS_HELP)]
    Offsets(OffsetsArgs),
    /// See it work: an embedded Kafka, traffic, and members that come and go. Needs nothing
    Demo(DemoArgs),
    /// Holds a worker of --exec, and ends it when its parent is gone
    #[command(name = "__supervise", hide = true)]
    Supervise,
}

/// Which cluster, group and topics.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Where the cluster is; several separated by commas
    #[arg(short, long, value_name = "HOST:PORT", env = "LANEWAY_BROKERS", hide_env_values = true)]
    pub(crate) brokers: Option<String>,

    /// The consumer group
    #[arg(short, long, value_name = "NAME", env = "LANEWAY_GROUP", hide_env_values = true)]
    pub(crate) group: Option<String>,

    /// A topic, or several separated by commas; repeatable. A name that starts with ^ is a regular expression,
    /// and commas inside of its brackets are its own
    #[arg(short, long = "topic", value_name = "NAME", env = "LANEWAY_TOPIC", hide_env_values = true)]
    pub(crate) topics: Vec<String>,

    /// A property of Kafka's client, as librdkafka or Java spells it; repeatable
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,

    /// A file of client properties, Java's or librdkafka's
    #[arg(
        short = 'F',
        long = "properties",
        value_name = "FILE",
        env = "LANEWAY_PROPERTIES",
        hide_env_values = true
    )]
    pub(crate) file: Option<PathBuf>,

    /// The names of what comes from the environment.
    #[arg(skip)]
    pub(crate) of_environment: BTreeSet<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OffsetsArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Where a partition starts that has no committed offset: earliest, latest or error [default: latest]
    #[arg(short, long, value_name = "RESET", value_parser = offset_reset, env = "LANEWAY_OFFSET_RESET", hide_env_values = true)]
    pub(crate) offset_reset: Option<OffsetReset>,

    /// Stop when every partition is finished up to the end it had when it was assigned
    #[arg(short, long)]
    pub(crate) exit_at_end: bool,

    /// Stop after N records are finished; exactly N are handed out
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Which records are handled one after the other: those of a partition, those of a key, or none
    /// (unordered) [default: partition]
    #[arg(long, value_name = "ORDERING", value_parser = ordering, env = "LANEWAY_ORDERING", hide_env_values = true)]
    pub(crate) ordering: Option<Ordering>,

    /// Records in flight at once, in the whole process [default: 1 a partition; 256 for key and unordered]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), env = "LANEWAY_CONCURRENCY", hide_env_values = true)]
    pub(crate) concurrency: Option<u32>,

    /// Records in flight at once, per partition [default: no limit of its own]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), env = "LANEWAY_LANE_CONCURRENCY", hide_env_values = true)]
    pub(crate) lane_concurrency: Option<u32>,

    /// Tries of a record, the first one included, before it is given up [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), env = "LANEWAY_ATTEMPTS", hide_env_values = true)]
    pub(crate) attempts: Option<u32>,

    /// The first and the longest wait between two tries; in between it doubles
    #[arg(long, value_name = "FROM..TO", default_value = "100ms..30s", value_parser = backoff, env = "LANEWAY_BACKOFF", hide_env_values = true)]
    pub(crate) backoff: (Duration, Duration),

    /// How long one try may take; then it has failed [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = timeout, env = "LANEWAY_TIMEOUT", hide_env_values = true)]
    pub(crate) timeout: Option<Duration>,

    /// The topic that records go to which were given up; it must exist
    #[arg(long, value_name = "TOPIC", env = "LANEWAY_DEAD_LETTER", hide_env_values = true)]
    pub(crate) dead_letter: Option<String>,

    /// What happens to a record that is given up: dead-letter, skip or stop [default: dead-letter if there is a
    /// topic for that, else stop]
    #[arg(long, value_name = "WHAT", value_parser = give_up, env = "LANEWAY_ON_GIVE_UP", hide_env_values = true)]
    pub(crate) on_give_up: Option<GiveUp>,

    /// How much memory may be used for records: fetched ahead, in flight, queued and waiting
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size, env = "LANEWAY_MEMORY", hide_env_values = true)]
    pub(crate) memory: u64,

    /// The rebalance protocol: eager, cooperative, or consumer (KIP-848) [default: cooperative]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol, env = "LANEWAY_PROTOCOL", hide_env_values = true)]
    pub(crate) protocol: Option<Protocol>,

    /// Be a static member with this id (group.instance.id)
    #[arg(long, value_name = "ID", env = "LANEWAY_INSTANCE", hide_env_values = true)]
    pub(crate) instance: Option<String>,

    /// How long a revoke or a stop waits for records in flight and for workers to exit
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = duration, env = "LANEWAY_DRAIN_DEADLINE", hide_env_values = true)]
    pub(crate) drain_deadline: Duration,

    /// How often finished work is committed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration, env = "LANEWAY_COMMIT_INTERVAL", hide_env_values = true)]
    pub(crate) commit_interval: Duration,

    /// Append what happens to this file, a JSON object a line (-: standard error)
    #[arg(long, value_name = "FILE", env = "LANEWAY_EVENTS", hide_env_values = true)]
    pub(crate) events: Option<PathBuf>,

    /// Sink: write a JSON line per record to standard output
    #[arg(long)]
    pub(crate) print: bool,

    /// Sink: start COMMAND once per partition, and speak JSON lines with it
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,

    /// For tests of being thrown out of the group
    #[arg(long, hide = true)]
    pub(crate) allow_long_drain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Stop after N seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,

    /// Members of the group
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u8).range(1..=50))]
    pub(crate) members: u8,

    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = value_parser!(i32).range(1..=1_000))]
    pub(crate) partitions: i32,

    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: u64,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For the eye
    Text,
    /// A JSON object a line
    Json,
}

fn offset_reset(text: &str) -> Result<OffsetReset, String> {
    shown(text).parse()
}

fn protocol(text: &str) -> Result<Protocol, String> {
    shown(text).parse()
}

fn ordering(text: &str) -> Result<Ordering, String> {
    shown(text).parse()
}

fn give_up(text: &str) -> Result<GiveUp, String> {
    match text {
        "dead-letter" => Ok(GiveUp::DeadLetter),
        "skip" => Ok(GiveUp::Skip),
        "stop" => Ok(GiveUp::Stop),
        _ => Err(format!("\"{}\" is none of dead-letter, skip and stop", shown(text))),
    }
}

/// `100ms..30s`.
fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let wanted = "the first and the longest wait are wanted, from short to long, such as 100ms..30s";
    let (first, longest) =
        text.split_once("..").ok_or_else(|| format!("\"{}\" is not a backoff: {wanted}", shown(text)))?;
    let (from, to) = (duration(first)?, duration(longest)?);
    if from > to || from.is_zero() {
        return Err(format!("a backoff from {from:?} to {to:?}: {wanted}"));
    }
    Ok((from, to))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout.is_zero() {
        Err("a timeout of 0: more than that is wanted, such as 60s".into())
    } else {
        Ok(timeout)
    }
}

/// `25s`, `200ms`, `1m`, `1m30s`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "\"{}\" is not a time: a number with a unit is wanted, such as 200ms, 25s or 1m30s",
            shown(text)
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit_end = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let milliseconds = match &rest[..unit_end] {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        rest = &rest[unit_end..];
        let part = Duration::from_millis(milliseconds.ok_or_else(wrong)?);
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// `512MiB`, `1GiB`, `64000kB`, `1048576`: at least 1 MiB.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bytes = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "t" | "tib" => Some(1 << 40),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(bytes).and_then(|(number, bytes)| number.checked_mul(bytes));
    size.filter(|size| *size >= 1 << 20).ok_or_else(|| {
        format!("\"{}\" is not a size of at least 1MiB: such as 64MiB, 512MiB or 2GiB is wanted", shown(text))
    })
}

const RUN_HELP: &str = "\
Examples:
  laneway run -b localhost:9092 -g billing -t orders -o earliest --print
  laneway run -b localhost:9092 -g billing -t orders,payments --exec './worker.sh'
  laneway run -b localhost:9092 -g billing -t orders --ordering key --concurrency 64 \\
    --attempts 5 --timeout 60s --dead-letter orders.dead --exec './worker.sh'
  laneway run -F client.properties -t '^orders\\..*' -e --print | jq .payload

A worker of --exec gets a JSON object a line on its standard input, and answers each with a line
on its standard output:
  {\"offset\":42,\"ok\":true}                             it is finished
  {\"offset\":42,\"error\":\"why\"}                         try it again, after --backoff
  {\"offset\":42,\"error\":\"why\",\"retry_after_ms\":500}    try it again, after 500 ms at least
  {\"offset\":42,\"dead_letter\":\"why\"}                   give it up: it goes to --dead-letter
  {\"offset\":42,\"skip\":\"why\"}                          it needs no work
With --ordering key or unordered it gets further records before it has answered, up to the
concurrency, and answers in any order.

Exit codes: 0 ended as asked; 1 failed while running; 2 bad input, nothing was consumed;
3 stopped with records unfinished at the drain deadline, or finished and not committed.
SIGTERM and SIGINT drain, commit and leave; a second one ends at once.";

const OFFSETS_HELP: &str = "\
Without -t: every partition that the group has committed. With -t: every partition of those topics.
Of a group that has committed nothing, or does not exist, that is said on standard error.

Examples:
  laneway offsets -b localhost:9092 -g billing
  laneway offsets -b localhost:9092 -g billing -t orders --format json | jq .lag

Finished ahead is what is finished above the committed offset: from the map that Laneway keeps in a
commit's metadata. A group of another program has none.

Exit codes: 0 shown; 1 the brokers did not answer for 30 s, or refused; 2 bad input, such as a
topic that does not exist.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "5", "s", "1x", "-1s", "1 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).expect_err(wrong).contains(wrong));
        }
    }

    #[test]
    fn a_backoff_goes_from_short_to_long() {
        assert_eq!(backoff("100ms..30s"), Ok((Duration::from_millis(100), Duration::from_secs(30))));
        assert!(backoff("1s..1s").is_ok());
        for wrong in ["30s..100ms", "0s..1s", "1s", "1s..", "..1s", "a..b"] {
            assert!(backoff(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
