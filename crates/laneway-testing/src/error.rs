//! What went wrong: one sentence, and Kafka's code where Kafka said no.

use std::fmt;

/// Why something could not be done. Shown as one sentence: what was tried, with what, and why it failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    text: String,
    code: Option<i32>,
}

impl Error {
    /// An error that says `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    /// An error that comes from Kafka or its client, with the code it had.
    pub(crate) fn with_code(text: impl Into<String>, code: i32) -> Self {
        Self { text: text.into(), code: Some(code) }
    }

    /// Kafka's error code, if Kafka or its client said no: positive ones are the broker's, negative ones
    /// the client's (see [`code`](crate::code)).
    pub fn code(&self) -> Option<i32> {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// Tests unwrap results, and what they print then is the `Debug` form: it is to be the sentence as well.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
