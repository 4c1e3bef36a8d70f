//! Tokens for SASL OAUTHBEARER: asked of the user's code, on the user's runtime, and given to every client.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::task::{JoinError, JoinSet};

use crate::sys::{Native, set_token};

/// Where tokens come from: see [`Builder::token_provider`](crate::Builder::token_provider).
///
/// An async function or closure that answers a [`Token`] is one:
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use laneway::{Consumer, Token};
///
/// let builder = Consumer::builder()
///     .property("security.protocol", "sasl_ssl")
///     .property("sasl.mechanism", "OAUTHBEARER")
///     .token_provider(|| async {
///         let value = std::fs::read_to_string("/var/run/secrets/token")?;
///         Ok::<_, std::io::Error>(Token::new(value.trim(), SystemTime::now() + Duration::from_secs(300)))
///     });
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// Why there is no token. Its text is shown, so it must not hold a secret.
    type Error: fmt::Display;

    /// A token that is valid now. Called when the consumer starts and again when three quarters of a token's
    /// life are over; one call at a time. A call that fails, panics or takes longer than 10 s is said with an
    /// [`Event::Error`](crate::Event::Error) and made again, after 1 s at first and 10 s at last. Dropped when
    /// it took too long.
    fn token(&self) -> impl Future<Output = Result<Token, Self::Error>> + Send;
}

impl<F, Fut, E> TokenProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, E>> + Send,
    E: fmt::Display,
{
    type Error = E;

    fn token(&self) -> impl Future<Output = Result<Token, E>> + Send {
        self()
    }
}

/// A token, as a broker is shown it. Its `Debug` form tells nothing but when it expires.
#[derive(Clone)]
pub struct Token {
    value: String,
    expires: SystemTime,
    principal: String,
    extensions: Vec<(String, String)>,
}

impl Token {
    /// A token that is valid until `expires`.
    pub fn new(value: impl Into<String>, expires: SystemTime) -> Self {
        Self { value: value.into(), expires, principal: String::new(), extensions: Vec::new() }
    }

    /// Who it is for, as far as the client says so. Brokers read that from the token itself.
    #[must_use]
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        self.principal = name.into();
        self
    }

    /// A SASL extension that goes with it (RFC 7628): the key is of letters alone.
    #[must_use]
    pub fn extension(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((key.into(), value.into()));
        self
    }

    /// What the native client would refuse, which would say the token in its answer.
    fn check(&self) -> Result<(), String> {
        let is_text = |text: &str| {
            text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')) && !text.is_empty()
        };
        let is_key = |key: &str| {
            !key.is_empty() && key != "auth" && key.bytes().all(|byte| byte.is_ascii_alphabetic())
        };
        if !is_text(&self.value) {
            return Err("it is empty, or holds characters that a token can't have".into());
        }
        if self.principal.contains('\0') {
            return Err("its principal contains a zero byte".into());
        }
        if !self.extensions.iter().all(|(key, value)| is_key(key) && is_text(value)) {
            return Err("an extension has a key that is not of letters alone, or is \"auth\", or a value \
                        that is empty or not printable"
                .into());
        }
        if self.expires <= SystemTime::now() {
            return Err("it has expired already".into());
        }
        Ok(())
    }

    fn expires_in_ms(&self) -> i64 {
        let since = self.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The client counts microseconds.
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 1_000)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

type Answer = Result<Token, String>;

/// A [`TokenProvider`] of any type.
pub(crate) trait Source: Send + Sync {
    fn ask(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Answer> + Send>>;
}

impl<P: TokenProvider> Source for P {
    fn ask(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(async move { self.token().await.map_err(|error| error.to_string()) })
    }
}

/// The token of one consumer, and the clients that it is for.
#[derive(Clone)]
pub(crate) struct Tokens {
    source: Arc<dyn Source>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    token: Option<Token>,
    clients: Vec<Weak<dyn Native>>,
}

impl Tokens {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self { source, shared: Arc::default() }
    }

    /// Gives `client` the token that there is, and each one that there will be. Until it has one it connects to
    /// nothing, and waits.
    pub(crate) fn serve<T: Native + 'static>(&self, client: &Arc<T>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = shared.token.as_ref().filter(|token| token.check().is_ok()) {
            give(token, &**client).ok();
        }
        shared.clients.retain(|client| client.strong_count() > 0);
        let weak: Weak<T> = Arc::downgrade(client);
        shared.clients.push(weak);
    }

    /// Keeps all clients in tokens, until it is dropped. Tells `failed` why there is none.
    pub(crate) async fn keep(self, failed: impl Fn(String)) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.next(&failed).await {
                Ok(renew) => {
                    wait = FIRST_WAIT;
                    sleep_until(renew).await;
                }
                Err(error) => {
                    failed(format!("no token for SASL OAUTHBEARER: {error}; asking again in {wait:?}"));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Asks for a token and gives it away. Answers when to ask for the next.
    async fn next(&self, failed: &impl Fn(String)) -> Result<SystemTime, String> {
        let asked = SystemTime::now();
        let token = self.ask(failed).await?;
        token.check().map_err(|reason| format!("the provider's token is of no use: {reason}"))?;
        let life = token.expires.duration_since(asked).unwrap_or_default();
        let renew = asked + life.mul_f64(RENEWED_AFTER).max(SHORTEST_LIFE);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clients.retain(|client| client.strong_count() > 0);
        for client in shared.clients.iter().filter_map(Weak::upgrade) {
            give(&token, &*client)?;
        }
        shared.token = Some(token);
        Ok(renew)
    }

    /// One call of the provider, as a task of its own: it may panic, and it may hang.
    async fn ask(&self, failed: &impl Fn(String)) -> Answer {
        let mut call = JoinSet::new();
        call.spawn(self.source.clone().ask());
        if let Ok(ended) = tokio::time::timeout(PATIENCE, call.join_next()).await {
            return answer(ended);
        }
        let message = format!("the provider did not answer within {PATIENCE:?}");
        call.abort_all();
        // Code that blocks its thread can't be cancelled: there is no second call beside it.
        match tokio::time::timeout(FIRST_WAIT, call.join_next()).await {
            Ok(ended) => answer(ended).map_err(|_| message),
            Err(_) => {
                failed(format!("no token for SASL OAUTHBEARER: {message}, and blocks its thread"));
                answer(call.join_next().await).map_err(|_| message)
            }
        }
    }
}

fn answer(ended: Option<Result<Answer, JoinError>>) -> Answer {
    match ended {
        Some(Ok(answer)) => answer,
        // What it panicked with is the user's, and may hold anything.
        Some(Err(error)) if error.is_panic() => Err("the provider panicked".into()),
        Some(Err(_)) | None => Err("the provider was cancelled".into()),
    }
}

fn give(token: &Token, client: &dyn Native) -> Result<(), String> {
    set_token(client, &token.value, token.expires_in_ms(), &token.principal, &token.extensions)
        .map_err(|error| format!("Kafka's client (librdkafka) does not take it ({})", error.name()))
}

/// By the clock on the wall, which goes on while the machine is suspended.
async fn sleep_until(then: SystemTime) {
    while let Ok(left) = then.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_AT_THE_CLOCK)).await;
    }
}

/// The part of a token's life after which the next one is asked for. A broker that has connections authenticated
/// again wants that before the end of it, and librdkafka does it after nine tenths (rdkafka_broker.c,
/// `rd_kafka_broker_start_reauth_timer`).
const RENEWED_AFTER: f64 = 0.75;
/// Tokens that live shorter are not asked for more often.
const SHORTEST_LIFE: Duration = Duration::from_millis(500);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first and the longest wait after a call that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn soon() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_token_that_is_of_no_use_is_refused_without_being_told() {
        let marker = "hunter2";
        let bad = [
            Token::new("", soon()),
            Token::new(format!("{marker}\u{1}"), soon()),
            Token::new(marker, SystemTime::now() - Duration::from_secs(1)),
            Token::new(marker, soon()).extension("not a key", marker),
            Token::new(marker, soon()).extension("auth", marker),
            Token::new(marker, soon()).extension("key", format!("{marker}\0")),
            Token::new(marker, soon()).principal("zero\0"),
        ];
        for token in bad {
            let said = format!("{} {token:?}", token.check().unwrap_err());
            assert!(!said.contains(marker), "{said}");
        }
        Token::new(marker, soon()).principal("me").extension("traceId", "1 2").check().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_panics_or_hangs_is_asked_again_and_never_twice_at_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let running = Arc::new(AtomicUsize::new(0));
        let (called, runs) = (calls.clone(), running.clone());
        struct Runs(Arc<AtomicUsize>);
        impl Drop for Runs {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let provider = move || {
            let (call, runs) = (called.fetch_add(1, Ordering::SeqCst), runs.clone());
            async move {
                assert_eq!(runs.fetch_add(1, Ordering::SeqCst), 0, "two calls at once");
                let _runs = Runs(runs);
                match call {
                    0 => Err("not today".to_owned()),
                    1 => panic!("hunter2"),
                    2 => std::future::pending().await,
                    3 => Ok(Token::new("", soon())),
                    _ => Ok(Token::new("good", soon())),
                }
            }
        };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let tokens = Tokens::new(Arc::new(provider));
        let shared = tokens.shared.clone();
        let keeping = tokio::spawn(tokens.keep(move |error| tell.send(error).unwrap()));
        for expected in ["not today", "panicked", "within 10s", "empty"] {
            let said = told.recv().await.unwrap();
            assert!(said.contains(expected) && !said.contains("hunter2"), "{said}");
        }
        while shared.lock().unwrap().token.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 5);
        keeping.abort();
        assert!(told.recv().await.is_none());
        assert_eq!(running.load(Ordering::SeqCst), 0);
    }
}
