//! What happened in a run, in virtual time. Told only when it is asked for: a run that fails is run again,
//! with its story.

use std::fmt::{self, Write as _};

use super::wire::Time;

#[derive(Debug, Default)]
pub(super) struct Story {
    text: Option<String>,
}

/// Whose line it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    World,
    Broker,
    Host(usize),
}

impl Story {
    pub(super) fn new(told: bool) -> Self {
        Self { text: told.then(String::new) }
    }

    pub(super) fn tell(&mut self, now: Time, who: Who, what: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            let seconds = now.as_secs_f64();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{seconds:>9.3}  {who:<6}  {}", what());
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.pad("world"),
            Self::Broker => f.pad("broker"),
            Self::Host(host) => f.pad(&format!("m{host}")),
        }
    }
}
