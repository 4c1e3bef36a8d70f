//! `laneway run`: a group's records, each to one sink.

use std::io::BufWriter;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use laneway::{Error, ErrorKind, Event, Handle, StartedFrom, StuckHandlers, Summary};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::RunArgs;
use crate::events::Events;
use crate::exec::Exec;
use crate::log;
use crate::print::Print;
use crate::settings::{EventsTo, Settings, Sink};
use crate::stderr::{self, say};
use crate::writer::standard_output;

/// Runs to the end, and says how it ended by the exit code.
pub(crate) fn run(args: RunArgs) -> ExitCode {
    if let Err(error) = log::start() {
        return fail(BAD_INPUT, &error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("could not start a runtime: {error}")),
    };
    let code = runtime.block_on(async {
        // Heeded from the first moment on, also before there is anything to stop.
        match Signals::listen() {
            Ok(signals) => consume(args, signals).await,
            Err(error) => fail(FAILED, &format!("could not listen for signals: {error}")),
        }
    });
    // Handlers that would not end are not waited for.
    runtime.shutdown_background();
    stderr::flush();
    code
}

async fn consume(args: RunArgs, mut signals: Signals) -> ExitCode {
    // A file may be a pipe that nobody has opened on its other side: that is waited for beside the signals.
    let prepared = tokio::task::spawn_blocking(move || prepare(&args));
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        _ = signals.next() => return ExitCode::SUCCESS,
    };
    let (settings, events) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => return fail(BAD_INPUT, &error),
        Err(error) => return fail(FAILED, &format!("could not read what is to be done: {error}")),
    };
    let events = Arc::new(events);
    let code = consume_as(settings, events.clone(), signals).await;
    events.flush();
    code
}

async fn consume_as(settings: Settings, events: Arc<Events>, signals: Signals) -> ExitCode {
    let ends_by_itself = settings.exit_at_end || settings.count.is_some();
    let told = events.clone();
    let said_end = AtomicBool::new(false);
    let builder = settings.builder.stuck_handlers(StuckHandlers::ExitProcess).on_event(move |event| {
        told.write(event);
        say_event(event, ends_by_itself, &said_end);
    });
    let consumer = match builder.build() {
        Ok(consumer) => consumer,
        Err(error) => return ended(Err(error)),
    };
    let handle = consumer.handle();
    match settings.sink {
        Sink::Print => {
            let stop = handle.clone();
            let out = match standard_output() {
                Ok(out) => BufWriter::new(out),
                Err(error) => return fail(FAILED, &format!("could not write to standard output: {error}")),
            };
            let print = match Print::start(out, move || stop.stop()) {
                Ok(print) => print,
                Err(error) => return fail(FAILED, &format!("could not start a thread: {error}")),
            };
            let failed = print.failed();
            signals.stop(handle, || {});
            let code = ended(consumer.run_lanes(print).await);
            match failed.error() {
                Some(error) => fail(FAILED, &format!("could not write to standard output: {error}")),
                None => code,
            }
        }
        Sink::Exec { command, timeout } => {
            let on_error = {
                let events = events.clone();
                move |message: String| {
                    events.error(&message);
                    say(&message);
                }
            };
            let exec = match Exec::new(command, settings.group, timeout, Arc::new(on_error)) {
                Ok(exec) => exec,
                Err(error) => return fail(FAILED, &error),
            };
            let workers = exec.clone();
            signals.stop(handle, move || workers.kill_all());
            ended(consumer.run_lanes(exec).await)
        }
    }
}

fn prepare(args: &RunArgs) -> Result<(Settings, Events), String> {
    let settings = Settings::resolve(args, &mut |line| say(&line))?;
    let events = open_events(&settings)?;
    Ok((settings, events))
}

fn open_events(settings: &Settings) -> Result<Events, String> {
    let client = settings.client_id.as_deref().unwrap_or("laneway");
    // Of one process, whatever ids the group gives it.
    let member = format!("{client}-{}-{}", host(), std::process::id());
    match &settings.events {
        None => Ok(Events::nowhere()),
        Some(EventsTo::Stderr) => Ok(Events::to_stderr(member)),
        Some(EventsTo::File(path)) => Events::to_file(path, member),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "host".into(), |name| name.trim().to_owned())
}

/// What a person is told on standard error.
fn say_event(event: &Event, ends_by_itself: bool, said_end: &AtomicBool) {
    match event {
        Event::Assigned { lanes } if ends_by_itself => {
            let at_end = lanes.iter().any(|start| start.from == StartedFrom::End);
            if at_end && !said_end.swap(true, Ordering::Relaxed) {
                say("the group has no commits, so it starts at the end: only what is produced from now on \
                     is read (-o earliest reads from the beginning)");
            }
        }
        Event::TopicMissing { topic } => {
            say(&format!("topic \"{topic}\" does not exist yet; waiting for it"));
        }
        Event::BrokersDown { error } => say(&format!("no broker can be reached, still trying: {error}")),
        Event::Lost { lanes, reason } => say(&format!("lost {} partitions: {reason}", lanes.len())),
        Event::Error { message } => say(message),
        _ => {}
    }
}

fn ended(how: Result<Summary, Error>) -> ExitCode {
    match how {
        Ok(summary) => {
            let Summary { unfinished, uncommitted, detached, .. } = summary;
            if unfinished == 0 && uncommitted == 0 && detached == 0 {
                return ExitCode::SUCCESS;
            }
            fail(
                UNFINISHED,
                &format!(
                    "stopped with {unfinished} records unfinished at the drain deadline and {uncommitted} finished \
                     that could not be committed; they come again"
                ),
            )
        }
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Config | ErrorKind::MissingTopic => BAD_INPUT,
                _ => FAILED,
            };
            fail(code, &error.to_string())
        }
    }
}

pub(crate) fn fail(code: u8, error: &str) -> ExitCode {
    say(error);
    ExitCode::from(code)
}

/// SIGTERM and SIGINT: the first one stops in order, the second one ends the workers and exits at once.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    fn stop(mut self, handle: Handle, kill_workers: impl Fn() + Send + 'static) {
        tokio::spawn(async move {
            self.next().await;
            handle.stop();
            let number = self.next().await;
            kill_workers();
            std::process::exit(128 + number);
        });
    }

    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value()
    }
}

pub(crate) const FAILED: u8 = 1;
pub(crate) const BAD_INPUT: u8 = 2;
const UNFINISHED: u8 = 3;
