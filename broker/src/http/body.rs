//! The body of a request is here in full before anybody works on it, within one limit of size and one of time. What is not
//! wanted is read and thrown away, so far as is reasonable: a client that still writes while its connection is closed
//! would never see the answer.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::error::Rejection;

/// The longest request body.
pub(super) const LIMIT: usize = 1024 * 1024;
/// How much is thrown away, and in which time.
const DISCARD_LIMIT: usize = 32 * LIMIT;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Why there is no body.
#[derive(Debug)]
pub(super) enum Unread {
    TooLong,
    TooSlow(Duration),
    Broken,
}

/// The whole body.
pub(super) async fn read(headers: &HeaderMap, body: Body, time: Duration) -> Result<Vec<u8>, Unread> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut pieces = body.into_data_stream();
    if announced > LIMIT {
        discard(headers, pieces).await;
        return Err(Unread::TooLong);
    }
    let whole = tokio::time::timeout(time, gather(&mut pieces)).await.unwrap_or(Err(Unread::TooSlow(time)));
    if let Err(Unread::TooLong) = whole {
        discard(headers, pieces).await;
    }
    whole
}

/// Nobody wants it.
pub(super) async fn throw_away(headers: &HeaderMap, body: Body) {
    discard(headers, body.into_data_stream()).await;
}

async fn gather(pieces: &mut BodyDataStream) -> Result<Vec<u8>, Unread> {
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::Broken)?;
        if whole.len() + piece.len() > LIMIT {
            return Err(Unread::TooLong);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

async fn discard(headers: &HeaderMap, mut pieces: BodyDataStream) {
    // Such a client writes nothing before it is told to go on.
    if headers.contains_key(EXPECT) {
        return;
    }
    let read = async {
        let mut length = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            length += piece.len();
            if length > DISCARD_LIMIT {
                return;
            }
        }
    };
    // Either way the answer is next.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        let rejection = match self {
            Unread::TooLong => Rejection::plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request body is longer than {LIMIT} bytes"),
            ),
            Unread::TooSlow(time) => Rejection::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!("the request body did not arrive within {} seconds", time.as_secs()),
            ),
            Unread::Broken => Rejection::bad_request("the request body did not arrive in full"),
        };
        let mut response = rejection.into_response();
        // What is left of it must not be taken for the next request.
        response.headers_mut().insert(CONNECTION, axum::http::HeaderValue::from_static("close"));
        response
    }
}
