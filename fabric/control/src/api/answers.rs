//! How answers and refusals look in HTTP.

use crate::{
    change::{Answer, Base},
    refusal::{Gate, Refusal},
};
use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

/// What every refusal looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The refusal.
    pub(crate) error: Refusal,
    /// The same, as a sentence.
    pub(crate) text: String,
}

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Failed(pub(super) Refusal);

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.http_status());
        let text = self.0.to_string();
        let body = Json(ErrorBody { error: self.0, text });
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
    }
}

impl IntoResponse for Answer {
    /// 202 says that it was not done but asked.
    fn into_response(self) -> Response {
        let status = match self {
            Self::Requested { .. } => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        };
        (status, Json(self)).into_response()
    }
}

/// A body of JSON; what is wrong with it is a refusal like any other.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Failed(bad_json(&rejection))),
        }
    }
}

fn bad_json(rejection: &JsonRejection) -> Refusal {
    let problem = rejection.body_text().replace(char::is_control, " ");
    let remedy = "send JSON, with `Content-Type: application/json`, as /v1/openapi.json says";
    Refusal::new(Gate::Text, "the body", problem, remedy)
}

/// What the headers say that a change is based on.
pub(super) fn base(headers: &HeaderMap) -> Result<Base, Refusal> {
    if let Some(value) = headers.get(header::IF_NONE_MATCH) {
        return match value.as_bytes() {
            b"*" => Ok(Base::Absent),
            _ => Err(bad_header("If-None-Match", "only `*` is known", "send `*`, or leave it out")),
        };
    }
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(Base::Any) };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    text.parse().map(Base::Version).map_err(|_| {
        let remedy = "send the object's version, as its ETag has it";
        bad_header("If-Match", "is no version", remedy)
    })
}

fn bad_header(header: &str, problem: &str, remedy: &str) -> Refusal {
    Refusal::new(Gate::Text, format!("header {header}"), problem, remedy)
}

/// What is asked for is nowhere.
pub(super) async fn no_such_path(uri: Uri) -> Failed {
    let shown: String = uri.path().chars().take(100).collect();
    let remedy = "/v1/openapi.json has all paths";
    Failed(Refusal::new(Gate::Missing, format!("path {shown:?}"), "does not exist", remedy))
}
