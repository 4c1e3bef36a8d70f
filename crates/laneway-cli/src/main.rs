//! The `laneway` command.

mod args;
mod demo;
mod events;
mod exec;
mod log;
mod offsets;
mod print;
mod properties;
mod record_json;
mod run;
mod settings;
mod shown;
mod stderr;
mod sys;
mod writer;

use std::process::ExitCode;

use args::{Cli, Command};
use shown::without_values;

fn main() -> ExitCode {
    match Cli::of(std::env::args_os()).unwrap_or_else(|error| without_values(error).exit()).command {
        Command::Run(args) => run::run(*args),
        Command::Offsets(args) => offsets::run(&args),
        Command::Demo(args) => demo::run(&args.into()),
        Command::Supervise => exec::supervise(),
    }
}
