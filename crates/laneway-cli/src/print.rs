//! `--print`: a line per record on standard output. A record is finished once its line was written and
//! flushed. One thread writes, so that lines never mix, and flushes once for all that wait.

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use laneway::{Handler, LaneId, MakeHandler, Outcome, Record};
use tokio::sync::oneshot;

use crate::record_json;

/// Prints the records of all lanes.
#[derive(Clone)]
pub(crate) struct Print {
    lines: Sender<Line>,
    failed: Failed,
}

struct Line {
    bytes: Vec<u8>,
    written: oneshot::Sender<()>,
}

/// Why nothing more can be written.
#[derive(Clone, Default)]
pub(crate) struct Failed(Arc<Mutex<Option<std::io::Error>>>);

impl Failed {
    /// The error, unless whoever read went away: that is a reason to stop, and no error.
    pub(crate) fn error(&self) -> Option<String> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|error| error.kind() != ErrorKind::BrokenPipe).map(ToString::to_string)
    }

    fn set(&self, error: std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl Print {
    /// Prints to `out`. `stop` is called when that has failed for good.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        stop: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (lines, waiting) = channel();
        let failed = Failed::default();
        let note = failed.clone();
        std::thread::Builder::new().name("laneway-print".into()).spawn(move || {
            if let Err(error) = print(out, &waiting) {
                note.set(error);
                stop();
            }
        })?;
        Ok(Self { lines, failed })
    }

    pub(crate) fn failed(&self) -> Failed {
        self.failed.clone()
    }
}

fn print(mut out: impl Write, waiting: &Receiver<Line>) -> std::io::Result<()> {
    let mut written = Vec::new();
    while let Ok(line) = waiting.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            // A lane that no longer waits was cancelled: its partition may be another member's by now, and the
            // record comes again there.
            if !line.written.is_closed() {
                out.write_all(&line.bytes)?;
                written.push(line.written);
            }
            next = if written.len() < FLUSH_AFTER { waiting.try_recv().ok() } else { None };
        }
        out.flush()?;
        for written in written.drain(..) {
            // One that was cancelled meanwhile comes again, too.
            written.send(()).ok();
        }
    }
    Ok(())
}

impl MakeHandler for Print {
    type Handler = Self;

    fn make(&self, _: &LaneId) -> Self {
        self.clone()
    }
}

impl Handler for Print {
    async fn handle(&self, record: Record) -> Outcome {
        let bytes = record_json::line(&record);
        let (written, was_written) = oneshot::channel();
        if self.lines.send(Line { bytes, written }).is_err() {
            return Outcome::Abandon;
        }
        match was_written.await {
            Ok(()) => Outcome::Done,
            // The writing thread has ended: what was not written is not finished.
            Err(_) => Outcome::Abandon,
        }
    }
}

/// Lines after which is flushed at the latest.
const FLUSH_AFTER: usize = 1_024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Poll;

    use laneway::OwnedRecord;

    use super::*;

    /// Takes what it is given, but keeps it from being flushed until told.
    struct Full;

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    #[tokio::test]
    async fn a_record_whose_line_was_not_flushed_is_not_finished() {
        let stopped = Arc::new(AtomicBool::new(false));
        let asked = stopped.clone();
        let print = Print::start(Full, move || asked.store(true, Ordering::Release)).unwrap();
        let outcome = print.handle(Record::from_owned(OwnedRecord::default())).await;
        assert_eq!(outcome, Outcome::Abandon);
        while !stopped.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        assert_eq!(print.failed().error(), None, "a reader that went away is no error");
    }

    /// Hands out what was written, and holds each write up until it is let go.
    struct Slow {
        began: Sender<Vec<u8>>,
        let_go: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.began.send(bytes.to_vec()).unwrap();
            // An error means that nothing is held up any more.
            self.let_go.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_that_nobody_waits_for_any_more_is_not_written() {
        let (began, begun) = channel();
        let (go, let_go) = channel();
        let print = Print::start(Slow { began, let_go }, || ()).unwrap();
        let record =
            |offset| Record::from_owned(OwnedRecord { offset, topic: "t".into(), ..OwnedRecord::default() });
        let first = tokio::spawn({
            let (print, record) = (print.clone(), record(1));
            async move { print.handle(record).await }
        });
        while begun.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // Its lane is cancelled while it waits behind the first.
        let mut second = std::pin::pin!(print.handle(record(2)));
        assert!(
            std::future::poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending())).await
        );
        second.set(print.handle(record(3)));
        drop(go);
        assert_eq!(first.await.unwrap(), Outcome::Done);
        assert_eq!(second.await, Outcome::Done);
        let written: Vec<u8> = begun.try_iter().flatten().collect();
        let lines = String::from_utf8(written).unwrap();
        assert!(lines.contains("\"offset\":3") && !lines.contains("\"offset\":2"), "{lines}");
    }
}
