//! Laneway's own commands: `cargo xtask test | check | prove | sim`.

use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "test" => test(&rest),
        "check" => check(),
        "prove" => prove(&rest),
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
    let mut arguments = vec!["test", "--workspace", "--exclude", "xtask", "--no-fail-fast"];
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments, &[])
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

/// The long matrix against a real Kafka. Writes its report into the docs.
fn prove(rest: &[String]) -> Result<(), String> {
    println!("xtask: the full matrix takes about 25 minutes");
    let started = Instant::now();
    let mut arguments =
        vec!["test", "--package", "laneway", "--test", "prove", "--", "--ignored", "--nocapture"];
    arguments.push("--test-threads=1");
    arguments.extend(rest.iter().map(String::as_str));
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROOF.md");
    cargo(&arguments, &[("LANEWAY_REQUIRE_REAL_KAFKA", "1"), ("LANEWAY_REPORT", report)])?;
    println!("xtask: proved in {} s; the report is docs/PROOF.md", started.elapsed().as_secs());
    Ok(())
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
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let shown = format!("cargo {}", arguments.join(" "));
    println!("xtask: {shown}");
    let status = Command::new(cargo)
        .args(arguments)
        .envs(variables.iter().copied())
        .status()
        .map_err(|error| format!("could not run {shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} failed ({status})")) }
}

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]    all tests; ARGS go to cargo test. Against a real Kafka where Java and Maven (or KAFKA_HOME) are
  check          formatting, lints, docs, licences
  prove          the long matrix against a real Kafka; writes docs/PROOF.md
  sim [ARGS]     the simulation of groups: --seeds N --from SEED --protocol eager|cooperative|consumer";
