//! Runs the simulator over any number of seeds, and tells the story of one that fails.
//!
//! `cargo run -p laneway-core --features sim --example sim -- --seeds 1000 --from 0 --protocol eager`

use std::process::ExitCode;

use laneway_core::Protocol;
use laneway_core::sim::{Conditions, Run, Summary};

struct Asked {
    seeds: u64,
    from: u64,
    protocols: Vec<Protocol>,
    conditions: Vec<Conditions>,
    tell: bool,
    go_on: bool,
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for protocol in &asked.protocols {
        for conditions in &asked.conditions {
            let mut total = Summary::default();
            let mut bad = 0;
            for seed in asked.from..asked.from + asked.seeds {
                let run = Run { seed, protocol: *protocol, conditions: *conditions, sabotage: None };
                if asked.tell {
                    println!("{}", run.tell());
                    continue;
                }
                match run.carry_out() {
                    Ok(summary) => total.add(summary),
                    Err(failure) if asked.go_on => {
                        bad += 1;
                        let first = failure.what.lines().next().unwrap_or_default();
                        println!("{protocol:?}, {conditions:?}, seed {seed}: {first}");
                    }
                    Err(failure) => {
                        println!("{failure}");
                        return ExitCode::FAILURE;
                    }
                }
            }
            failed += bad;
            println!("{protocol:?}, {conditions:?}, {} seeds, {bad} failed: {total}", asked.seeds);
        }
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        seeds: 100,
        from: 0,
        protocols: vec![Protocol::Eager, Protocol::Cooperative, Protocol::Consumer],
        conditions: vec![Conditions::Graceful, Conditions::Faulty],
        tell: false,
        go_on: false,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--tell" => asked.tell = true,
            "--go-on" => asked.go_on = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
                let number = || value.parse().map_err(|_| format!("{name} wants a number, not {value}"));
                match (name.as_str(), value.as_str()) {
                    ("--seeds", _) => asked.seeds = number()?,
                    ("--from", _) => asked.from = number()?,
                    ("--protocol", "eager") => asked.protocols = vec![Protocol::Eager],
                    ("--protocol", "cooperative") => asked.protocols = vec![Protocol::Cooperative],
                    ("--protocol", "consumer") => asked.protocols = vec![Protocol::Consumer],
                    ("--conditions", "graceful") => asked.conditions = vec![Conditions::Graceful],
                    ("--conditions", "faulty") => asked.conditions = vec![Conditions::Faulty],
                    _ => return Err(format!("{name} {value} is not known")),
                }
            }
        }
    }
    Ok(asked)
}

const USAGE: &str = "--seeds N --from SEED --protocol eager|cooperative|consumer --conditions graceful|faulty \
                     --tell (the story of every run) --go-on (also after a failure, without stories)";
