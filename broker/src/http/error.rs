//! Every answer that is not a success: a JSON body with a sentence, and a word where the specification has one.

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use broker::osb::{ASYNC_REQUIRED, CONCURRENCY_ERROR, ErrorCode, Problem};

use crate::admission::Denial;
use crate::binding::Trouble;
use crate::store::{self, instances::NameTaken};

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Rejection {
    status: StatusCode,
    problem: Problem,
    /// For the log; the user reads a sentence that leads there.
    cause: Option<String>,
}

/// Rides on the answer to where the request's id is known.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

impl Rejection {
    pub(super) fn bad_request(description: impl Into<String>) -> Rejection {
        Rejection::plain(StatusCode::BAD_REQUEST, description)
    }

    pub(super) fn plain(status: StatusCode, description: impl Into<String>) -> Rejection {
        let problem = Problem { error: None, description: Some(description.into()) };
        Rejection { status, problem, cause: None }
    }

    pub(super) fn not_found(description: &str) -> Rejection {
        Rejection::plain(StatusCode::NOT_FOUND, description)
    }

    /// The answer `{}` that platforms take as "it is gone, as you wished".
    pub(super) fn gone() -> Rejection {
        Rejection { status: StatusCode::GONE, problem: Problem { error: None, description: None }, cause: None }
    }

    pub(super) fn no_such_path() -> Rejection {
        Rejection::not_found("there is nothing at this path; the Open Service Broker API is below /v2")
    }

    pub(super) fn method_not_allowed() -> Rejection {
        Rejection::plain(StatusCode::METHOD_NOT_ALLOWED, "this resource does not know this method")
    }

    fn unprocessable(error: ErrorCode, description: &str) -> Rejection {
        let problem = Problem { error: Some(error), description: Some(description.into()) };
        Rejection { status: StatusCode::UNPROCESSABLE_ENTITY, problem, cause: None }
    }

    fn with_cause(mut self, cause: &anyhow::Error) -> Rejection {
        self.cause = Some(format!("{cause:#}"));
        self
    }
}

impl From<Denial> for Rejection {
    fn from(denial: Denial) -> Rejection {
        match denial {
            Denial::Invalid(why) => Rejection::bad_request(why),
            Denial::AsyncRequired => Rejection::unprocessable(ErrorCode::AsyncRequired, ASYNC_REQUIRED),
            Denial::Concurrency => Rejection::unprocessable(ErrorCode::ConcurrencyError, CONCURRENCY_ERROR),
            Denial::MaintenanceInfoConflict => Rejection::unprocessable(
                ErrorCode::MaintenanceInfoConflict,
                "maintenance_info.version is not the one of this plan in the catalog: fetch the catalog again",
            ),
            // Without a word: none of the specification's fits, and on others Cloud Controller would not say why.
            Denial::Unsupported(why) => Rejection::plain(StatusCode::UNPROCESSABLE_ENTITY, why),
            Denial::NotFound(why) => Rejection::not_found(&why),
            Denial::Conflict(why) => Rejection::plain(StatusCode::CONFLICT, why),
            Denial::Gone => Rejection::gone(),
        }
    }
}

impl From<anyhow::Error> for Rejection {
    fn from(error: anyhow::Error) -> Rejection {
        if error.is::<NameTaken>() {
            return Rejection::plain(StatusCode::CONFLICT, error.to_string());
        }
        if store::is_away(&error) {
            let why = "The service broker cannot use its state database at the moment, please try again later.";
            return Rejection::plain(StatusCode::SERVICE_UNAVAILABLE, why).with_cause(&error);
        }
        Rejection::plain(StatusCode::INTERNAL_SERVER_ERROR, "There was a problem completing your request.")
            .with_cause(&error)
    }
}

impl From<Trouble> for Rejection {
    fn from(trouble: Trouble) -> Rejection {
        match trouble {
            Trouble::Denied(denial) => denial.into(),
            Trouble::NoLeader => Rejection::unprocessable(
                ErrorCode::ConcurrencyError,
                "The service instance has no writable leader at the moment, perhaps because a failover is under way. \
                 Please try again in a few minutes; if it stays so, contact your operations team.",
            ),
            Trouble::NoDirector(error) => Rejection::plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "Currently unable to reach the service instance, please try again later.",
            )
            .with_cause(&error),
            Trouble::Unknown(error) => error.into(),
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"mysql-broker\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
