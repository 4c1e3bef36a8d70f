//! What Laneway costs, beside its peers. Run by `cargo xtask bench`, which says what there is to measure.
//!
//! Each client is measured in a process of its own, which is this program again, so that the CPU that is counted
//! is that client's alone. What comes out goes into docs/BENCHMARKS.md, a section for each measurement.
#![deny(unsafe_code)]

mod broker;
mod child;
mod clients;
mod doc;
mod growth;
mod idle;
mod kafka;
mod keyed;
mod load;
mod maps;
mod members;
mod meter;
mod options;
#[path = "../../../laneway-core/examples/map.rs"]
mod patterns;
mod plot;
mod prefetched;
mod start;
mod stats;
#[allow(unsafe_code)]
mod sys;

use std::process::ExitCode;

use child::Task;
use options::Options;

/// Counts what a child asks it to; the others it costs a look at a flag.
#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.as_slice() {
        [child, task] if child == child::ARGUMENT => child::be(task),
        _ => Options::parse(&arguments).and_then(|options| measure(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Failure> {
    for what in &options.what {
        let section = match what.as_str() {
            "broker" => broker::measure(options)?,
            "idle" => idle::measure(options)?,
            "growth" => growth::measure(options)?,
            "keyed" => keyed::measure(options)?,
            "maps" => maps::measure(options)?,
            "start" => start::measure(options)?,
            "prefetched" => prefetched::measure(options)?,
            _ => return Err(format!("there is nothing called \"{what}\" to measure").into()),
        };
        println!("\n{}", section.text());
        if options.writes {
            section.write()?;
        }
    }
    Ok(())
}

/// What a child does.
fn perform(task: Task) -> Result<stats::Figures, Failure> {
    match task {
        Task::Read(job) => clients::read(&job),
        Task::Idle(idle) => idle::be_idle(&idle),
        Task::Members(job, members) => members::read(&job, members),
        Task::Keyed(cell) => keyed::handle(&cell),
        Task::Start(start) => start::start(&start),
    }
}
