//! Answers as HTTP has them.

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use tokio::task::JoinError;

use crate::page::PAGE;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, JoinError>>;

/// What can be had later.
pub(super) fn too_busy(sentence: &str) -> Answer {
    refusal(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

/// What is there for other methods.
pub(super) fn other_methods(methods: &[&str]) -> Answer {
    let mut methods = methods.join(", ");
    let sentence = format!("only {methods} is allowed here");
    if methods.contains("GET") {
        methods += ", HEAD";
    }
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, &sentence);
    if let Ok(value) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// An error: a sentence in a JSON document.
pub(super) fn refusal(status: StatusCode, sentence: &str) -> Answer {
    let body = serde_json::json!({ "error": sentence });
    json(status, &body.to_string())
}

/// A document in one piece.
pub(super) fn json(status: StatusCode, document: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{document}\n")));
    let body = UnsyncBoxBody::new(body.map_err(|never| match never {}));
    with(status, "application/json", body)
}

/// The status page, and what browsers may do with it.
pub(super) fn page() -> Answer {
    let body = Full::new(Bytes::from_static(PAGE.html.as_bytes()));
    let body = UnsyncBoxBody::new(body.map_err(|never| match never {}));
    let mut answer = with(StatusCode::OK, "text/html; charset=utf-8", body);
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&PAGE.policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    let no_referrer = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, no_referrer);
    answer
}

/// An answer of this kind.
pub(super) fn with(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, JoinError>,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // What browsers must not do with it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniffing = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, no_sniffing);
    response
}
