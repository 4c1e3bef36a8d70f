//! A tower `Service` as a handler, so that tower's timeouts, limits and tracing apply.

use std::fmt;
use std::future::poll_fn;

use tower_service::Service;

use crate::handler::{Handler, IntoOutcome, Outcome};
use crate::record::Record;

/// A handler that calls a tower `Service<Record>`: a clone of it for each record, once that is ready.
///
/// What the service answers with is an [`IntoOutcome`]; an error of it is a try that failed. While a record waits for
/// the service to be ready it counts as in flight.
///
/// ```no_run
/// # async fn example<S>(consumer: laneway::Consumer, service: S) -> Result<(), laneway::Error>
/// # where
/// #     S: tower_service::Service<laneway::Record, Response = (), Error = std::io::Error>
/// #         + Clone + Send + Sync + 'static,
/// #     S::Future: Send,
/// # {
/// // let service = tower::ServiceBuilder::new().timeout(Duration::from_secs(5)).service_fn(handle);
/// consumer.run(laneway::ServiceHandler::new(service)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServiceHandler<S>(S);

impl<S> ServiceHandler<S> {
    /// Calls `service` for each record.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Handler for ServiceHandler<S>
where
    S: Service<Record> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: IntoOutcome,
    S::Error: fmt::Display,
{
    async fn handle(&self, record: Record) -> Outcome {
        let mut service = self.0.clone();
        // Errors are made to outcomes at once: they may not be held over an await point.
        if let Err(failed) =
            poll_fn(|context| service.poll_ready(context).map_err(|error| Err::<(), _>(error).into_outcome()))
                .await
        {
            return failed;
        }
        service.call(record).await.into_outcome()
    }
}

impl<S> fmt::Debug for ServiceHandler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandler").finish_non_exhaustive()
    }
}
