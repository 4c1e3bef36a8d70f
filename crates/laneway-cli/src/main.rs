//! The `laneway` command.

mod args;
mod demo;
mod events;
mod exec;
mod print;
mod properties;
mod record_json;
mod run;
mod settings;
mod sys;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args.into()),
        Command::Supervise => exec::supervise(),
    }
}
