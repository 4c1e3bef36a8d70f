//! Handlers of decoded records.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handler::{Handler, IntoOutcome, Outcome};
use crate::lane::panic_text;
use crate::record::Record;

/// Makes a value of a record.
pub trait Decode: Send + Sync + 'static {
    /// What a record is decoded to.
    type Value: Send;
    /// Why one can't be.
    type Error: fmt::Display;

    /// Decodes a record.
    ///
    /// # Errors
    /// When it can't be decoded. That is the record's fault and stays so: it is given up at once. A panic is as good as
    /// an error.
    fn decode(&self, record: &Record) -> Result<Self::Value, Self::Error>;
}

/// A handler of decoded records, from a closure `Fn(Value, Record) -> impl Future`.
///
/// A record that can't be decoded is poison: trying again would not help. It becomes a dead letter, or what
/// [`Builder::on_give_up`](crate::Builder::on_give_up) says where there is no topic for those.
///
/// ```no_run
/// # #[cfg(feature = "json")] {
/// # use laneway::{Json, Record, Typed};
/// #[derive(serde::Deserialize)]
/// struct Order {
///     customer: String,
/// }
///
/// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
/// let handler = Typed::new(Json::new(), |order: Order, record: Record| async move {
///     println!("{}: {}", record.offset(), order.customer);
/// });
/// consumer.run(handler).await?;
/// # Ok(())
/// # }
/// # }
/// ```
pub struct Typed<D, F> {
    decode: D,
    handle: F,
}

impl<D, F> Typed<D, F> {
    /// Decodes with `decode`, and has `handle` called with what comes of it.
    pub fn new(decode: D, handle: F) -> Self {
        Self { decode, handle }
    }
}

impl<D, F, Fut, O> Handler for Typed<D, F>
where
    D: Decode,
    F: Fn(D::Value, Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send,
    O: IntoOutcome,
{
    async fn handle(&self, record: Record) -> Outcome {
        match self.decoded(&record) {
            Ok(value) => (self.handle)(value, record).await.into_outcome(),
            Err(why) => Outcome::DeadLetter { reason: format!("it could not be decoded: {why}") },
        }
    }
}

impl<D: Decode, F> Typed<D, F> {
    /// The error is made to a text at once: it may not be held over an await point.
    fn decoded(&self, record: &Record) -> Result<D::Value, String> {
        let decode = || self.decode.decode(record).map_err(|error| format!("{error:#}"));
        match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(decoded) => decoded,
            Err(panic) => Err(format!("the decoder panicked: {}", panic_text(&*panic))),
        }
    }
}

impl<D, F> fmt::Debug for Typed<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

/// Decodes the payload as JSON. A record without a payload (a tombstone) reads like `null`: an `Option` takes it.
#[cfg(feature = "json")]
pub struct Json<T>(std::marker::PhantomData<fn() -> T>);

#[cfg(feature = "json")]
impl<T> Json<T> {
    /// One for values of the type `T`.
    pub fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

#[cfg(feature = "json")]
impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "json")]
impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json")
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned + Send + 'static> Decode for Json<T> {
    type Value = T;
    type Error = serde_json::Error;

    fn decode(&self, record: &Record) -> Result<T, serde_json::Error> {
        serde_json::from_slice(record.payload().unwrap_or(b"null"))
    }
}
