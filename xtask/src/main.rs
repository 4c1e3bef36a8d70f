//! Laneway's own commands: `cargo xtask test | check | prove | outages | bench | memory | soak | sim`.

mod failures;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use failures::Failures;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "test" => test(&rest),
        "check" => check(),
        "prove" => prove(),
        "outages" => outages(),
        "bench" => bench(&rest),
        "memory" => real_tests("memory::prove", "/dev/null"),
        "soak" => soak(&rest),
        "sim" => sim(&rest),
        "" | "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(format!("there is no command \"{command}\"\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All tests. The real-Kafka tier runs where Java and Maven (or KAFKA_HOME) are.
fn test(rest: &[String]) -> Result<(), String> {
    say_what_is_left_out();
    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    arguments.extend(rest.iter().map(String::as_str));
    tests(&arguments)
}

/// Passes on what the tests print, and tells at the end what failed.
fn tests(arguments: &[&str]) -> Result<(), String> {
    let (mut command, shown) = cargo_command(arguments);
    let could_not = |error| format!("could not run {shown}: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(could_not)?;
    let mut failures = Failures::default();
    let mut stdout = child.stdout.take().map(BufReader::new);
    let mut bytes = Vec::new();
    while let Some(stdout) = &mut stdout
        && stdout.read_until(b'\n', &mut bytes).map_err(could_not)? > 0
    {
        std::io::stdout().write_all(&bytes).map_err(could_not)?;
        failures.line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    let status = child.wait().map_err(could_not)?;
    print!("{}", failures.told());
    ended(&shown, status)
}

/// Everything that must hold of the sources.
fn check() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|output| output.status.success())
    {
        return cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"], &[]);
    }
    println!("xtask: licences, bans and sources were not checked: cargo install --locked cargo-deny");
    Ok(())
}

/// The long matrix against a real Kafka, and many seeds of the simulation. Writes its report into the docs.
fn prove() -> Result<(), String> {
    println!("xtask: the full matrix takes about 20 minutes");
    let started = Instant::now();
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROOF.md");
    std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
        .map_err(|error| error.to_string())?;
    std::fs::write(report, report_head()).map_err(|error| format!("{report}: {error}"))?;
    real_tests("prove::", report)?;
    let seeds = PROVED_SEEDS.to_string();
    for protocol in ["eager", "cooperative", "consumer"] {
        sim(&["--seeds".into(), seeds.clone(), "--protocol".into(), protocol.into()])?;
    }
    append(report, PROTOTYPE)?;
    let foot = format!(
        "\nThe simulation ran {seeds} seeds of each protocol, graceful and with faults, and found nothing broken.\n"
    );
    append(report, &foot)?;
    println!("xtask: proved in {} s; the report is docs/PROOF.md", started.elapsed().as_secs());
    Ok(())
}

/// Brokers that are killed, frozen and away for long, again and again.
fn outages() -> Result<(), String> {
    println!("xtask: all outages take about 40 minutes");
    real_tests("prove_clusters", "/dev/null")?;
    real_tests("thrown_out::prove", "/dev/null")
}

/// What Laneway costs beside its peers, in a release build; writes docs/BENCHMARKS.md. `stay`: how long lanes that stay
/// are without progress while another member's lane drains.
fn bench(rest: &[String]) -> Result<(), String> {
    if rest == ["stay"] {
        return real_tests("prove_3", "/dev/null");
    }
    let mut arguments = vec!["bench", "--package", "laneway", "--bench", "lanes", "--"];
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments, &[])
}

/// Group cycles of each protocol, a thousand unless another number is given: what each leaves behind. With
/// `--minutes N [PROTOCOL]`: one member for so long, with others that come and go, and a broker that is restarted.
fn soak(rest: &[String]) -> Result<(), String> {
    let arguments =
        |test| ["test", "--package", "laneway", "--test", "real", "--", test, "--ignored", "--nocapture"];
    if let [flag, minutes, protocol @ ..] = rest
        && flag == "--minutes"
    {
        minutes.parse::<u64>().map_err(|_| format!("soak wants a number of minutes, not \"{minutes}\""))?;
        let protocol = protocol.first().map_or("cooperative", String::as_str);
        let variables = [
            ("LANEWAY_REQUIRE_REAL_KAFKA", "1"),
            ("LANEWAY_ENDURE", minutes),
            ("LANEWAY_PROTOCOL", protocol),
        ];
        return cargo(&arguments("soak_one_member_for_minutes"), &variables);
    }
    let count = rest.first().map_or("1000", String::as_str);
    count.parse::<u64>().map_err(|_| format!("soak wants a number of cycles, not \"{count}\""))?;
    cargo(&arguments("soak_group_cycles"), &[("LANEWAY_REQUIRE_REAL_KAFKA", "1"), ("LANEWAY_SOAK", count)])
}

fn real_tests(filter: &str, report: &str) -> Result<(), String> {
    let arguments = [
        "test",
        "--package",
        "laneway",
        "--test",
        "real",
        "--test",
        "clusters",
        "--",
        filter,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ];
    cargo(&arguments, &[("LANEWAY_REQUIRE_REAL_KAFKA", "1"), ("LANEWAY_REPORT", report)])
}

fn append(path: &str, text: &str) -> Result<(), String> {
    let mut before = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    before.push_str(text);
    std::fs::write(path, before).map_err(|error| format!("{path}: {error}"))
}

fn report_head() -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
    };
    let said = |program, argument| first_line(program, argument).unwrap_or_else(|| "unknown".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Proof\n\nWritten by `cargo xtask prove`, on {cores} cores that broker and members share ({}; {}; {}), with \
         Apache Kafka 4.3.1 and librdkafka 2.12.1. Members are in one process; every record is recorded as it is \
         begun and finished, and the history is checked afterwards.\n\n\
         | members that come and go | protocol | changes | records | duplicates / losses / overlaps / strays | longest \
         silence of a partition | longest leave |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        said("uname", "-srm"),
        said("rustc", "--version"),
        said("java", "-version"),
    )
}

/// Any number of seeds of the simulation.
fn sim(rest: &[String]) -> Result<(), String> {
    let mut arguments =
        vec!["run", "--quiet", "--package", "laneway-core", "--features", "sim", "--example", "sim", "--"];
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments, &[])
}

fn say_what_is_left_out() {
    let runs = |program: &str| Command::new(program).arg("-version").output().is_ok();
    let has_kafka = std::env::var_os("KAFKA_HOME").is_some() || runs("mvn");
    if !(runs("java") && has_kafka) {
        println!(
            "xtask: tests against a real Kafka are left out: they need Java 17 and Maven, or KAFKA_HOME"
        );
    }
}

fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    let (mut command, shown) = cargo_command(arguments);
    let status = command
        .envs(variables.iter().copied())
        .status()
        .map_err(|error| format!("could not run {shown}: {error}"))?;
    ended(&shown, status)
}

fn cargo_command(arguments: &[&str]) -> (Command, String) {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(arguments);
    let shown = format!("cargo {}", arguments.join(" "));
    println!("xtask: {shown}");
    (command, shown)
}

fn ended(shown: &str, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("{shown} failed ({status})")) }
}

/// What Laneway's design was measured with before there was Laneway.
const PROTOTYPE: &str = "
For comparison, a prototype of the same design, in the same churns on a like machine: longest silence / longest leave, with \
0 duplicates, losses and overlaps.

| members that come and go | eager | cooperative | consumer |
| --- | --- | --- | --- |
| 5 members, a change per 0.6–2.5 s | 1.9 / 0.5 s | 2.0 / 0.9 s | 4.9 / 0.6 s |
| 8 members, a change per 0.2–1 s | 2.3 / 0.8 s | 2.2–4.0 / 1.0 s | 3.6 / 0.5 s |
| 5 members, at every fifth change one drains for 5 s | 7.1 / 5.1 s | 5.3 / 5.1 s | 6.2 / 5.0 s |
| drains of 10 s with `max.poll.interval.ms` 6 s | 7.1 s | 6.9 s | 7.0 s |
| members stopped at once after their start | 2.0 s | 2.6 s | 2.3 s |
";
/// Seeds of each protocol that are part of the proof.
const PROVED_SEEDS: u32 = 10_000;

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]    all tests; ARGS go to cargo test. Against a real Kafka where Java and Maven (or KAFKA_HOME) are
  check          formatting, lints, docs, licences
  prove          the long matrix against a real Kafka, about 20 minutes; writes docs/PROOF.md
  outages        brokers killed, frozen and away for long, about 40 minutes
  bench [WHAT]   figures beside the peers', in a release build; writes docs/BENCHMARKS.md. WHAT: prefetched, broker,
                 idle, start, keyed, maps, growth (default: all); --quick, --records N, --runs N, --no-doc
  bench stay     how long lanes that stay are silent while another member's lane drains
  memory         the resident size of a process beside its budget, over partitions, sizes of records and handlers
  soak [N]       a thousand group cycles (or N) of each protocol: threads, handles and memory they leave behind
  soak --minutes N [PROTOCOL]
                 one member for so long, others that come and go, a broker that is restarted: whether it grows
  sim [ARGS]     the simulation of groups: --seeds N --from SEED --protocol eager|cooperative|consumer";
