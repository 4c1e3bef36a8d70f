//! How the client thread is reached: messages by channel, and a wake-up.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use tokio::sync::watch;

use super::asks::Ask;
use super::topics::TopicsSeen;
use crate::fetcher::Wake;
use crate::lane::LaneMessage;

/// Something the client thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Stop: drain, commit, leave.
    Stop,
    /// From a handle.
    Ask(Ask),
    /// From a lane.
    Lane(LaneMessage),
    /// There is no token, and why.
    NoToken(String),
    /// The topics as they are now.
    Topics(TopicsSeen),
    /// Membership was not shown new partitions, as a rebalance had begun.
    NotShown,
}

/// Reaches the client thread from anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    messages: Sender<Message>,
    thread: Arc<OnceLock<Thread>>,
    /// There is a thread, or what will start it.
    begun: watch::Sender<bool>,
}

impl Mailbox {
    pub(crate) fn new() -> (Self, Receiver<Message>) {
        let (messages, received) = channel();
        (Self { messages, thread: Arc::default(), begun: watch::Sender::new(false) }, received)
    }

    /// Somebody will read it, or drop it.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    pub(crate) fn begun(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }

    /// Tells the thread something. When it has ended there is nobody left to tell.
    pub(crate) fn post(&self, message: Message) {
        if self.messages.send(message).is_ok() {
            self.wake();
        }
    }

    pub(crate) fn stop(&self) {
        self.post(Message::Stop);
    }

    /// Makes the calling thread the one that is woken.
    pub(super) fn attach(&self) {
        self.thread.get_or_init(std::thread::current);
    }

    /// Wakes the thread. Safe to call with locks of librdkafka's held: it only unparks.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn waker(&self) -> Wake {
        let mailbox = self.clone();
        Arc::new(move || mailbox.wake())
    }
}
