//! Errors with their causes.

use std::error::Error;
use std::fmt;

/// An error and all that caused it, as one text: `could not store the order: connection refused`.
///
/// What a handler returns is told, and written to the header `laneway.error`, as its `Display` has it. That of most
/// errors of the standard library's kind leaves out their causes ([`Error::source`]). A handler that returns
/// `Result<_, Chain>` has them told: `?` makes any such error one, and [`Chain::of`] one that is boxed. Errors of anyhow
/// and eyre tell their causes without it.
///
/// ```no_run
/// # #[derive(Debug)]
/// # struct StoreError;
/// # impl std::fmt::Display for StoreError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("not stored") }
/// # }
/// # impl std::error::Error for StoreError {}
/// # async fn store(_: &laneway::Record) -> Result<(), StoreError> { Ok(()) }
/// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
/// consumer
///     .run(|record: laneway::Record| async move {
///         store(&record).await?;
///         Ok::<_, laneway::Chain>(())
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
// It is no `Error` itself, as its text could not be made from any error by `?` then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain(String);

impl Chain {
    /// The text of an error and its causes. A cause that the text before it ends with already is not told again.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let told = cause.to_string();
            if !text.ends_with(&told) {
                text = format!("{text}: {told}");
            }
            next = cause.source();
        }
        Self(text)
    }
}

impl<E: Error + 'static> From<E> for Chain {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::handler::{IntoOutcome, Outcome};

    /// Shows its cause as anyhow's errors do: where it is asked for all of it.
    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            match &self.1 {
                Some(cause) if f.alternate() => write!(f, ": {cause:#}"),
                _ => Ok(()),
            }
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|cause| &**cause as _)
        }
    }

    fn failed(texts: &[&'static str]) -> Failed {
        let (first, causes) = texts.split_first().unwrap();
        Failed(first, (!causes.is_empty()).then(|| Box::new(failed(causes))))
    }

    #[test]
    fn all_causes_are_told_once() {
        let text = |texts: &[&'static str]| Chain::from(failed(texts)).to_string();
        assert_eq!(text(&["not stored"]), "not stored");
        assert_eq!(text(&["not stored", "timed out", "no route"]), "not stored: timed out: no route");
        assert_eq!(
            text(&["not stored: timed out", "timed out", "no route"]),
            "not stored: timed out: no route"
        );
        let boxed: Box<dyn Error + Send + Sync> = Box::new(std::io::Error::other(failed(&["a", "b"])));
        assert_eq!(Chain::of(&*boxed).to_string(), "a: b");
    }

    #[test]
    fn an_error_of_a_handler_tells_its_causes_once_with_it_and_without_it() {
        fn fail() -> Result<(), Chain> {
            Err(failed(&["not stored", "timed out"]))?;
            Ok(())
        }
        let retry = Outcome::Retry { error: "not stored: timed out".into(), after: None };
        assert_eq!(fail().into_outcome(), retry);
        assert_eq!(Err::<(), _>(failed(&["not stored", "timed out"])).into_outcome(), retry);
    }
}
