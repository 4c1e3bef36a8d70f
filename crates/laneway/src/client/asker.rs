//! Who is asked of the brokers: the client that looks for topics, the fetcher's own. It is never in a group, so nothing
//! waits behind a JoinGroup, and it keeps its metadata fresh.

use std::sync::Arc;

use crate::fetcher::Wake;
use crate::sys::{Client, NativeEvent, Queue};

/// A client that is asked, and where its answers come.
pub(crate) struct Asker {
    client: Arc<Client>,
    answers: Queue,
    /// What it says by itself, where it fetches nothing that would be told of there.
    main: Option<Queue>,
    /// The answers of the one that was asked before it, which may still come.
    former: Option<Queue>,
}

impl Asker {
    /// Asks through the client that fetches. `wake` is called when an answer comes.
    pub(super) fn new(client: Arc<Client>, wake: Wake) -> Self {
        let answers = client.new_queue();
        answers.on_ready(wake);
        Self { client, answers, main: None, former: None }
    }

    /// Asks through another client from now on, which fetches nothing. Answers what is over, and may hang in being
    /// dropped: that can be the last that holds its client.
    pub(super) fn replace(&mut self, client: Arc<Client>, wake: Wake) -> impl Send + use<> {
        let main = Some(client.consumer_queue());
        let before = std::mem::replace(self, Self { main, ..Self::new(client, wake) });
        self.former = Some(before.answers);
        (before.main, before.former, before.client)
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn answers(&self) -> &Queue {
        &self.answers
    }

    pub(super) fn next_answer(&self) -> Option<NativeEvent> {
        // Nothing that it says by itself is news: the first one, and membership, say it as well.
        while self.main.as_ref().is_some_and(|main| main.poll().is_some()) {}
        self.answers.poll().or_else(|| self.former.as_ref()?.poll())
    }
}
