//! One lane's worker: started, given records, read, started again when it fails, and ended.

use std::collections::{BTreeMap, VecDeque};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use laneway::{Closing, Outcome, TopicPartition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Shared, protocol};
use crate::sys;

/// What a lane asks of its worker.
pub(super) enum Request {
    Record { offset: i64, line: Vec<u8>, answer: oneshot::Sender<Outcome> },
    Close { closing: Closing, done: oneshot::Sender<()> },
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    partition: TopicPartition,
    requests: mpsc::UnboundedReceiver<Request>,
    /// Records that were given and not answered, by offset.
    unanswered: BTreeMap<i64, Pending>,
    wait: Duration,
}

struct Pending {
    line: Arc<[u8]>,
    answer: oneshot::Sender<Outcome>,
}

/// A worker that runs. When it is dropped, its whole process group is killed.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    leader: u32,
    shared: Arc<Shared>,
    killed: bool,
}

/// Why a worker is no longer served.
enum End {
    Close(Closing, oneshot::Sender<()>),
    /// The lane is gone without a word.
    Dropped,
    Broken(String),
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        Self { shared, partition, requests, unanswered: BTreeMap::new(), wait: FIRST_WAIT }
    }

    pub(super) async fn run(mut self) {
        loop {
            let end = match Process::start(&self.shared, &self.partition) {
                Ok(mut process) => match self.serve(&mut process).await {
                    End::Close(closing, done) => {
                        self.close(process, closing).await;
                        done.send(()).ok();
                        return;
                    }
                    end => {
                        process.kill().await;
                        end
                    }
                },
                Err(error) => End::Broken(format!("could not be started: {error}")),
            };
            let End::Broken(why) = end else { return };
            self.report(&format!("{why}; starting it again in {:?}", self.wait));
            if self.pause().await {
                return;
            }
        }
    }

    /// Waits before the next start. True if the lane ended meanwhile.
    async fn pause(&mut self) -> bool {
        let until = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        loop {
            match timeout_at(until, self.requests.recv()).await {
                Err(_) => return false,
                Ok(None) => return true,
                Ok(Some(Request::Close { done, .. })) => {
                    done.send(()).ok();
                    return true;
                }
                Ok(Some(Request::Record { offset, line, answer })) => {
                    self.unanswered.insert(offset, Pending { line: line.into(), answer });
                }
            }
        }
    }

    /// Gives the worker its records, those that were not answered before first, and takes its answers. A
    /// record is written while answers are read, whatever their sizes.
    async fn serve(&mut self, process: &mut Process) -> End {
        self.unanswered.retain(|_, pending| !pending.answer.is_closed());
        let mut to_write: VecDeque<Arc<[u8]>> =
            self.unanswered.values().map(|pending| pending.line.clone()).collect();
        let mut written = 0;
        let mut answers = Vec::new();
        let mut chunk = vec![0u8; CHUNK];
        let Process { child, stdin, stdout, .. } = process;
        let Some(stdin) = stdin.as_mut() else { return End::Dropped };
        loop {
            let next: &[u8] = to_write.front().map_or(&[], |line| &line[written..]);
            tokio::select! {
                biased;
                read = stdout.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => {
                        let how = timeout(EXIT_PATIENCE, child.wait()).await;
                        return End::Broken(self.last_words(answers, how.ok().and_then(Result::ok)));
                    }
                    Ok(count) => {
                        if let Err(why) = self.take(&chunk[..count], &mut answers) {
                            return End::Broken(why);
                        }
                    }
                },
                wrote = stdin.write(next), if !next.is_empty() => match wrote {
                    Ok(count) => {
                        written += count;
                        if to_write.front().is_some_and(|line| written >= line.len()) {
                            to_write.pop_front();
                            written = 0;
                        }
                    }
                    Err(_) => {
                        let how = timeout(EXIT_PATIENCE, child.wait()).await;
                        return End::Broken(self.take_rest(stdout, answers, how.ok().and_then(Result::ok)).await);
                    }
                },
                request = self.requests.recv() => match request {
                    None => return End::Dropped,
                    Some(Request::Close { closing, done }) => return End::Close(closing, done),
                    Some(Request::Record { offset, line, answer }) => {
                        let line: Arc<[u8]> = line.into();
                        to_write.push_back(line.clone());
                        self.unanswered.insert(offset, Pending { line, answer });
                    }
                },
                status = child.wait() => {
                    // What it started may hold its output open: what it said itself is there by now.
                    return End::Broken(self.take_rest(stdout, answers, status.ok()).await);
                }
            }
        }
    }

    /// Takes what a worker that has ended had still said. Answers how it ended.
    async fn take_rest(
        &mut self,
        stdout: &mut ChildStdout,
        mut answers: Vec<u8>,
        status: Option<ExitStatus>,
    ) -> String {
        let mut chunk = vec![0u8; CHUNK];
        while let Ok(Ok(count @ 1..)) = timeout(REST_PATIENCE, stdout.read(&mut chunk)).await {
            if let Err(why) = self.take(&chunk[..count], &mut answers) {
                return why;
            }
        }
        self.last_words(answers, status)
    }

    /// A last line may lack its end.
    fn last_words(&mut self, line: Vec<u8>, status: Option<ExitStatus>) -> String {
        let answered = if line.is_empty() { Ok(()) } else { self.answer(&line) };
        answered.err().unwrap_or_else(|| died(status))
    }

    /// Takes in what the worker wrote.
    fn take(&mut self, bytes: &[u8], answers: &mut Vec<u8>) -> Result<(), String> {
        let mut rest = bytes;
        while let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
            answers.extend_from_slice(&rest[..length]);
            rest = &rest[length + 1..];
            let answered = self.answer(answers);
            answers.clear();
            answered?;
        }
        answers.extend_from_slice(rest);
        if answers.len() > LONGEST_LINE {
            return Err(format!(
                "answered a line longer than {LONGEST_LINE} bytes: {}",
                protocol::shown(answers)
            ));
        }
        Ok(())
    }

    fn answer(&mut self, line: &[u8]) -> Result<(), String> {
        let answer = protocol::parse(line)?;
        let Some(pending) = self.unanswered.remove(&answer.offset) else {
            let (offset, line) = (answer.offset, protocol::shown(line));
            return Err(format!(
                "answered for offset {offset}, which it was not given or has answered: {line}"
            ));
        };
        self.wait = FIRST_WAIT;
        // A lane that no longer waits has let the record go.
        pending.answer.send(answer.outcome).ok();
        Ok(())
    }

    /// Ends the worker: in order if nothing is in its hands, by force at the deadline.
    async fn close(&mut self, mut process: Process, closing: Closing) {
        process.stdin = None;
        let is_idle = self.unanswered.is_empty() && !closing.lost;
        let mut status = None;
        if is_idle {
            status = process.exited_by(closing.deadline.into()).await;
        }
        if status.is_none() {
            sys::signal_group(process.leader, libc::SIGTERM);
            process.group_gone_by(Instant::now() + TERM_PATIENCE).await;
            if is_idle {
                self.report("did not exit by the drain deadline, and was ended");
            }
        } else if let Some(bad) = status.filter(|status| !status.success()) {
            self.report(&format!("ended with {bad} after its last record"));
        }
        process.kill().await;
    }

    fn report(&self, what: &str) {
        let offsets: Vec<String> = self.unanswered.keys().take(10).map(i64::to_string).collect();
        let held = match offsets.len() {
            0 => "with no record in hand".to_owned(),
            1 => format!("with offset {} unanswered", offsets[0]),
            _ => format!("with offsets {} unanswered", offsets.join(", ")),
        };
        (self.shared.on_error)(format!("{}: the worker, {held}, {what}", self.partition));
    }
}

impl Process {
    fn start(shared: &Arc<Shared>, partition: &TopicPartition) -> std::io::Result<Self> {
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg(&shared.command)
            .env("LANEWAY_TOPIC", &*partition.topic)
            .env("LANEWAY_PARTITION", partition.partition.to_string())
            .env("LANEWAY_GROUP", &shared.group)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let pipe = shared.watch.pipe(&shared.running())?;
        sys::lead_a_watched_group(&mut command, pipe);
        let mut child = Command::from(command).spawn()?;
        let missing = || std::io::Error::other("a pipe of it is missing");
        let leader = child.id().ok_or_else(missing)?;
        shared.running().insert(leader);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(missing)?;
        Ok(Self { child, stdin, stdout, leader, shared: shared.clone(), killed: false })
    }

    /// Waits until the worker has exited. What it still writes is read, so that it is not held up.
    async fn exited_by(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let mut chunk = vec![0u8; CHUNK];
        let mut is_open = true;
        let (child, stdout) = (&mut self.child, &mut self.stdout);
        let exited = async {
            loop {
                tokio::select! {
                    status = child.wait() => return status.ok(),
                    read = stdout.read(&mut chunk), if is_open => is_open = matches!(read, Ok(1..)),
                }
            }
        };
        timeout_at(deadline, exited).await.ok().flatten()
    }

    /// Waits until nothing of the whole group is left: the shell may be gone before what it started.
    async fn group_gone_by(&mut self, deadline: Instant) {
        self.exited_by(deadline).await;
        while Instant::now() < deadline && sys::signal_group(self.leader, 0) {
            sleep(GROUP_LOOK).await;
        }
    }

    /// Kills what is left of the group, and waits for the worker's end.
    async fn kill(mut self) {
        sys::signal_group(self.leader, libc::SIGKILL);
        self.killed = true;
        timeout(EXIT_PATIENCE, self.child.wait()).await.ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.killed {
            sys::signal_group(self.leader, libc::SIGKILL);
        }
        self.shared.running().remove(&self.leader);
        self.shared.watch.forget(self.leader);
    }
}

fn died(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("died ({status})"),
        None => "closed its output".to_owned(),
    }
}

/// How long after its failure a worker is started again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(1);
/// How long a worker whose pipes broke may take to be seen as ended.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// How long is waited for more of what a worker that has ended had said.
const REST_PATIENCE: Duration = Duration::from_millis(50);
/// How often is looked whether a group is gone.
const GROUP_LOOK: Duration = Duration::from_millis(20);
const CHUNK: usize = 64 * 1024;
const LONGEST_LINE: usize = 64 * 1024 * 1024;
