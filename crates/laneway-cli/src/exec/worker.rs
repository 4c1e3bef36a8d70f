//! One lane's worker: started, given records, read, started again when it fails, and ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use laneway::{Closing, Outcome, TopicPartition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

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
    /// Records that were not answered, by offset.
    unanswered: BTreeMap<i64, Pending>,
    /// Those of them that the worker which runs now does not have yet.
    waiting: BTreeSet<i64>,
    /// When the others were given, and when their tries failed for that. One that was answered meanwhile is still in
    /// there.
    given: VecDeque<(Instant, i64)>,
    late: VecDeque<(Instant, i64)>,
    blame: Blame,
    wait: Duration,
    /// The record that a worker had, alone, when it answered for one that it did not have.
    strayed: Option<i64>,
}

struct Pending {
    line: Arc<[u8]>,
    answer: oneshot::Sender<Outcome>,
    given: Option<Instant>,
    /// Its try took too long, and has failed. It is told when the worker has let go of it.
    is_late: bool,
}

/// Which record a worker dies of. One that was alone with it, or is known for that, has failed. Else it can't be told,
/// and none has: but the next worker that dies like that had half as many, until all of them were answered.
#[derive(Debug)]
struct Blame {
    /// Records that a worker died with, when it had several.
    suspects: BTreeSet<i64>,
    /// Records that a worker died of.
    known: BTreeSet<i64>,
    /// How many records a worker has at once.
    at_once: usize,
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
    /// No record's fault: it could not be run at all, or answered for a record that it did not have.
    Blameless(String),
    /// It still has records whose tries took too long.
    Late(String),
}

impl Blame {
    /// A worker died that had these. Answers which of them it died of.
    fn died(&mut self, had: &[i64]) -> Option<i64> {
        let mut known = had.iter().filter(|offset| self.known.contains(offset));
        let of = match (had, known.next(), known.next()) {
            ([offset], ..) | (_, Some(offset), None) => Some(*offset),
            _ => None,
        };
        match of {
            Some(offset) => {
                self.known.insert(offset);
                self.answered(offset);
            }
            None if had.iter().any(|offset| self.suspects.contains(offset)) => {
                self.at_once = had.len().div_ceil(2);
                self.suspects.extend(had);
            }
            None => self.suspects.extend(had),
        }
        of
    }

    /// A worker did not die of this one.
    fn answered(&mut self, offset: i64) {
        self.suspects.remove(&offset);
        if self.suspects.is_empty() {
            self.at_once = usize::MAX;
        }
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        Self {
            shared,
            partition,
            requests,
            unanswered: BTreeMap::new(),
            waiting: BTreeSet::new(),
            given: VecDeque::new(),
            late: VecDeque::new(),
            blame: Blame { suspects: BTreeSet::new(), known: BTreeSet::new(), at_once: usize::MAX },
            wait: FIRST_WAIT,
            strayed: None,
        }
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
                Err(error) => End::Blameless(format!("could not be started: {error}")),
            };
            match end {
                End::Broken(why) => self.has_died(&why),
                End::Blameless(why) | End::Late(why) => self.tell_failed(&why),
                End::Close(..) | End::Dropped => return,
            }
            self.take_back();
            if self.pause().await {
                return;
            }
        }
    }

    /// A worker that died, or answered what is none, has failed with the record that it was at, if that can be told.
    fn has_died(&mut self, why: &str) {
        let had = self.unanswered.iter().filter(|(_, pending)| pending.given.is_some());
        let had: Vec<i64> = had.map(|(offset, _)| *offset).collect();
        let of = self.blame.died(&had);
        let pending =
            of.filter(|offset| !self.is_late(*offset)).and_then(|offset| self.unanswered.remove(&offset));
        match pending {
            Some(pending) if !pending.answer.is_closed() => {
                let error = format!("the worker {why}, and is started again in {:?}", self.wait);
                pending.answer.send(Outcome::Retry { error, after: None }).ok();
            }
            _ => self.tell_failed(why),
        }
    }

    fn tell_failed(&self, why: &str) {
        self.report(&format!("{why}; starting it again in {:?}", self.wait));
    }

    /// No worker has any of the records now: what was to be tried again is, and all others are given to the next one.
    fn take_back(&mut self) {
        let late: Vec<i64> = self
            .unanswered
            .iter()
            .filter(|(_, pending)| pending.is_late)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in late {
            self.blame.answered(offset);
            if let Some(pending) = self.unanswered.remove(&offset) {
                self.let_go_of_late(pending);
            }
        }
        self.unanswered.retain(|_, pending| !pending.answer.is_closed());
        for pending in self.unanswered.values_mut() {
            pending.given = None;
        }
        self.waiting = self.unanswered.keys().copied().collect();
        self.given.clear();
        self.late.clear();
    }

    fn is_late(&self, offset: i64) -> bool {
        self.unanswered.get(&offset).is_some_and(|pending| pending.is_late)
    }

    fn let_go_of_late(&self, pending: Pending) {
        let timeout = self.shared.timeout.unwrap_or_default();
        let error = format!("the worker did not answer within {timeout:?}");
        pending.answer.send(Outcome::Retry { error, after: None }).ok();
    }

    fn add(&mut self, offset: i64, line: Vec<u8>, answer: oneshot::Sender<Outcome>) {
        self.unanswered.insert(offset, Pending { line: line.into(), answer, given: None, is_late: false });
        self.waiting.insert(offset);
    }

    /// Gives the worker the records that wait, in their order, as many as it may have.
    fn give(&mut self, to_write: &mut VecDeque<Arc<[u8]>>) {
        while self.unanswered.len() - self.waiting.len() < self.blame.at_once {
            let Some(offset) = self.waiting.pop_first() else { return };
            let Some(pending) = self.unanswered.get_mut(&offset) else { continue };
            let now = Instant::now();
            pending.given = Some(now);
            to_write.push_back(pending.line.clone());
            if self.shared.timeout.is_some() {
                self.given.push_back((now, offset));
            }
            if self.given.len() > 2 * self.unanswered.len() + SPARE {
                let Self { unanswered, given, .. } = self;
                given.retain(|(at, offset)| {
                    unanswered.get(offset).is_some_and(|pending| pending.given == Some(*at))
                });
            }
        }
    }

    /// When the next record has been with the worker for too long.
    fn next_due(&mut self) -> Option<Instant> {
        let timeout = self.shared.timeout?;
        let Self { unanswered, given, late, .. } = self;
        let first = |given: &mut VecDeque<(Instant, i64)>, is_late: bool| {
            // Given before to this worker, and perhaps again since.
            while let Some((at, offset)) = given.front().copied() {
                let pending = unanswered.get(&offset);
                if pending.is_some_and(|pending| pending.given == Some(at) && pending.is_late == is_late) {
                    return Some(at);
                }
                given.pop_front();
            }
            None
        };
        let fails = first(given, false).and_then(|at| at.checked_add(timeout));
        let ends = first(late, true).and_then(|at| at.checked_add(patience(timeout)));
        [fails, ends].into_iter().flatten().min()
    }

    /// Sees which tries have failed. Answers why the worker is to be started again, if it is.
    fn look_at_clock(&mut self) -> Option<String> {
        let (timeout, now) = (self.shared.timeout?, Instant::now());
        while let Some((at, offset)) = pop_older(&mut self.given, now, timeout) {
            let pending = self.unanswered.get_mut(&offset).filter(|pending| pending.given == Some(at));
            let Some(pending) = pending else { continue };
            pending.is_late = true;
            self.late.push_back((at, offset));
            (self.shared.on_error)(format!(
                "{}: the worker did not answer offset {offset} within {timeout:?}; it is tried again once that answer \
                 came, or the worker was started again",
                self.partition
            ));
        }
        // What was answered meanwhile is no longer in there: see `next_due`.
        pop_older(&mut self.late, now, patience(timeout))?;
        Some(format!("has not answered for {:?}", patience(timeout)))
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
                    self.add(offset, line, answer);
                }
            }
        }
    }

    /// Gives the worker its records, those that were not answered before first, and takes its answers. A
    /// record is written while answers are read, whatever their sizes.
    async fn serve(&mut self, process: &mut Process) -> End {
        let mut to_write: VecDeque<Arc<[u8]>> = VecDeque::new();
        let mut written = 0;
        let mut answers = Vec::new();
        let mut chunk = vec![0u8; CHUNK];
        let Process { child, stdin, stdout, .. } = process;
        let Some(stdin) = stdin.as_mut() else { return End::Dropped };
        loop {
            self.give(&mut to_write);
            let due = self.next_due();
            let next: &[u8] = to_write.front().map_or(&[], |line| &line[written..]);
            tokio::select! {
                biased;
                read = stdout.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => {
                        let how = timeout(EXIT_PATIENCE, child.wait()).await;
                        return self.ended(stdout, answers, how.ok().and_then(Result::ok)).await;
                    }
                    Ok(count) => {
                        if let Err(end) = self.take(&chunk[..count], &mut answers) {
                            return end;
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
                        return self.ended(stdout, answers, how.ok().and_then(Result::ok)).await;
                    }
                },
                request = self.requests.recv() => match request {
                    None => return End::Dropped,
                    Some(Request::Close { closing, done }) => return End::Close(closing, done),
                    Some(Request::Record { offset, line, answer }) => self.add(offset, line, answer),
                },
                status = child.wait() => {
                    // What it started may hold its output open: what it said itself is there by now.
                    return self.ended(stdout, answers, status.ok()).await;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(why) = self.look_at_clock() {
                        return End::Late(why);
                    }
                }
            }
        }
    }

    /// Takes what a worker that has ended had still said, and says how it ended.
    async fn ended(
        &mut self,
        stdout: &mut ChildStdout,
        mut answers: Vec<u8>,
        status: Option<ExitStatus>,
    ) -> End {
        let mut chunk = vec![0u8; CHUNK];
        while let Ok(Ok(count @ 1..)) = timeout(REST_PATIENCE, stdout.read(&mut chunk)).await {
            if let Err(end) = self.take(&chunk[..count], &mut answers) {
                return end;
            }
        }
        // A last line may lack its end.
        if !answers.is_empty()
            && let Err(end) = self.answer(&answers)
        {
            return end;
        }
        let why = died(status);
        // The shell's word for a command that it did not find, or may not run: that is no record's fault.
        match status.and_then(|status| status.code()) {
            Some(126 | 127) => End::Blameless(why),
            _ => End::Broken(why),
        }
    }

    /// Takes in what the worker wrote.
    fn take(&mut self, bytes: &[u8], answers: &mut Vec<u8>) -> Result<(), End> {
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
            return Err(End::Broken(format!(
                "answered a line longer than {LONGEST_LINE} bytes: {}",
                protocol::shown(answers)
            )));
        }
        Ok(())
    }

    fn answer(&mut self, line: &[u8]) -> Result<(), End> {
        let answer = protocol::parse(line).map_err(End::Broken)?;
        let was_given = self.unanswered.get(&answer.offset).is_some_and(|pending| pending.given.is_some());
        let pending = if was_given { self.unanswered.remove(&answer.offset) } else { None };
        let Some(pending) = pending else {
            let (offset, line) = (answer.offset, protocol::shown(line));
            let why = format!("answered for offset {offset}, which it was not given or has answered: {line}");
            // Once it can be any record's fault; of one that is alone at hand each time it is its own.
            let mut had = self.unanswered.iter().filter(|(_, pending)| pending.given.is_some());
            let alone = had.next().map(|(offset, _)| *offset).filter(|_| had.next().is_none());
            let is_again = alone.is_some() && alone == self.strayed;
            self.strayed = alone;
            return Err(if is_again { End::Broken(why) } else { End::Blameless(why) });
        };
        self.wait = FIRST_WAIT;
        self.strayed = None;
        self.blame.answered(answer.offset);
        if pending.is_late {
            self.let_go_of_late(pending);
            return Ok(());
        }
        if !matches!(answer.outcome, Outcome::Retry { .. }) {
            self.blame.known.remove(&answer.offset);
        }
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
            sys::reap_group(self.leader);
        }
    }

    /// Kills what is left of the group, and waits for the worker's end.
    async fn kill(mut self) {
        sys::signal_group(self.leader, libc::SIGKILL);
        self.killed = true;
        let is_over = timeout(EXIT_PATIENCE, self.child.wait()).await.is_ok();
        if is_over && std::process::id() == 1 {
            self.group_gone_by(Instant::now() + REAP_PATIENCE).await;
        }
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

fn pop_older(given: &mut VecDeque<(Instant, i64)>, now: Instant, age: Duration) -> Option<(Instant, i64)> {
    let (at, _) = given.front()?;
    if now.duration_since(*at) >= age { given.pop_front() } else { None }
}

/// How long a worker may be at one record.
fn patience(timeout: Duration) -> Duration {
    timeout.saturating_add(timeout.max(LATE_PATIENCE))
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
/// After a try took too long, its answer is waited for as long again, but for this at least; then the worker is started
/// again.
const LATE_PATIENCE: Duration = Duration::from_secs(5);
/// Records that have been answered and are still remembered as given.
const SPARE: usize = 1_024;
/// From SIGTERM to SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(1);
/// How long a worker whose pipes broke may take to be seen as ended.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// How long is waited for more of what a worker that has ended had said.
const REST_PATIENCE: Duration = Duration::from_millis(50);
/// How long those that a worker leaves behind may take to die of SIGKILL, where nobody else takes note of it.
const REAP_PATIENCE: Duration = Duration::from_millis(100);
/// How often is looked whether a group is gone.
const GROUP_LOOK: Duration = Duration::from_millis(20);
const CHUNK: usize = 64 * 1024;
const LONGEST_LINE: usize = 64 * 1024 * 1024;
