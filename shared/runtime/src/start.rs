//! Start-up: creates a function from the environment and serves its calls.

use std::sync::Arc;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use credits_aws::sources::SystemClock;
use credits_aws::{Settings, StartError, telemetry};
use credits_core::id::WorkspaceId;
use credits_store::error::Chain;
use credits_store::{Clock, Store};
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::Value;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::call::Call;
use crate::event::HttpEvent;
use crate::problem::Problem;
use crate::route::Route;

/// How often the warm-up task yields first, so that the runtime connects to Lambda's API and requests the first
/// invocation.
const YIELDS_BEFORE_WARM_UP: u32 = 4;

/// A function that answers HTTP calls.
pub trait Function: Send + Sync + 'static {
    /// The calls that the function answers.
    type Route: Route;

    /// Returns the store of the function, bound to no deadline.
    fn store(&self) -> &Store;

    /// Answers a call. `store` ends its retries before the call's deadline.
    fn answer(
        &self,
        route: Self::Route,
        call: &Call,
        store: &Store,
    ) -> impl Future<Output = Result<Answer, Problem>> + Send;
}

/// A function that handles events of a schedule, a stream or a bus.
pub trait EventFunction: Send + Sync + 'static {
    /// The reason why an event could not be handled. Lambda retries the event, and finally sends it to the dead-letter
    /// queue.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Handles an event.
    fn handle(
        &self,
        event: Value,
        deadline: Instant,
    ) -> impl Future<Output = Result<Value, Self::Error>> + Send;
}

/// Starts a function that answers calls, and serves it until Lambda ends it.
pub fn run<F: Function>(make: impl FnOnce(Settings) -> Result<F, StartError>) -> Result<(), StartError> {
    telemetry::start(Settings)?;
    let function = Arc::new(make(Settings)?);
    let warmed = Arc::clone(&function);
    let serve = service_fn(async |event: LambdaEvent<HttpEvent>| {
        let deadline = deadline_of(&event.context);
        // Boxed: with optimisation, the compiler fails on the depth of the whole future.
        let answer = Box::pin(respond(&*function, event.payload, deadline)).await;
        telemetry::flush();
        Ok::<_, std::convert::Infallible>(answer)
    });
    let served = async {
        tokio::spawn(async move {
            // The runtime requests the first invocation before anything else. While that request is in progress, this
            // task opens the connection that the invocation needs.
            for _ in 0..YIELDS_BEFORE_WARM_UP {
                tokio::task::yield_now().await;
            }
            if let Err(fault) = warmed.store().connect().await {
                // The first call connects again and reports a failure.
                tracing::debug!(error = %Chain(&fault), "the warm-up could not connect to the table");
            }
        });
        // `lambda_runtime::run` would add a span to each line. The line `answered` has the request id without it.
        Runtime::new(serve).run().await
    };
    runtime()?.block_on(served).map_err(StartError::Lambda)
}

/// Starts a function that handles events, and serves it until Lambda ends it.
pub fn run_on_events<F: EventFunction>(
    make: impl FnOnce(Settings) -> Result<F, StartError>,
) -> Result<(), StartError> {
    telemetry::start(Settings)?;
    let function = make(Settings)?;
    let serve = service_fn(async |event: LambdaEvent<Value>| {
        let deadline = deadline_of(&event.context);
        let handled = Box::pin(function.handle(event.payload, deadline)).await;
        if handled.is_err() {
            // Not `Failures`, which stops a deployment: the event is retried, and SES may refuse a mail for good reason.
            metrics::counter!("EventsFailed").increment(1);
        }
        telemetry::flush();
        handled.map_err(|error| {
            let (error_type, error_message) =
                (std::any::type_name::<F::Error>().to_owned(), Chain(&error).to_string());
            tracing::error!(request_id = event.context.request_id, error = error_message, "an event failed");
            Diagnostic { error_type, error_message }
        })
    });
    runtime()?.block_on(lambda_runtime::run(serve)).map_err(StartError::Lambda)
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn deadline_of(context: &lambda_runtime::Context) -> Instant {
    let now = Instant::now();
    let left = context.deadline().duration_since(SystemClock.now().into()).unwrap_or_default();
    now.checked_add(left).unwrap_or(now)
}

/// Answers one HTTP event. Every call ends in a response and a log line.
pub async fn respond<F: Function>(
    function: &F,
    event: HttpEvent,
    deadline: Instant,
) -> ApiGatewayV2httpResponse {
    let call = Call::from_event(event, deadline);
    let answer = match read_route::<F>(&call) {
        Ok(route) => function.answer(route, &call, &function.store().until(deadline)).await,
        Err(refused) => Err(refused),
    };
    let answer = answer.unwrap_or_else(Answer::from);
    if answer.status() >= 500 {
        metrics::counter!("Failures").increment(1);
    }
    if let Some(code) = answer.code() {
        metrics::counter!("Refusals", "Code" => code).increment(1);
    }
    // A path segment that is not a workspace id is arbitrary text, which is not logged.
    let workspace_id = call.unchecked_workspace_id().parse::<WorkspaceId>().ok();
    tracing::info!(
        request_id = call.request_id(),
        route = call.route(),
        workspace_id = workspace_id.as_ref().map(tracing::field::display),
        status = answer.status(),
        code = answer.code(),
        "answered"
    );
    answer.into()
}

/// Returns the route of a call. Refuses query parameters of a route that has none.
fn read_route<F: Function>(call: &Call) -> Result<F::Route, Problem> {
    let route = F::Route::of(call.route()).ok_or_else(Problem::not_found)?;
    if !route.has_query() {
        call.check_query()?;
    }
    Ok(route)
}
