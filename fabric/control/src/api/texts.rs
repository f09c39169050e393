//! Each host's text, with a long poll: whoever has it already waits until it is another.

use super::{
    Shared,
    answers::Failed,
    blocking,
    who::{Anyone, identify},
};
use crate::{
    refusal::{Gate, Refusal},
    store::Revision,
};
use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use wireonce_desired::{Kind, render};
use wireonce_member::Text;

/// Longest wait, seconds.
const WAIT_S_MAX: u64 = 60;

/// How long to wait.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait while the text is the one that `If-None-Match` names; at most 60.
    #[serde(default)]
    wait_s: u64,
}

/// The tables that a host is sent, as they stand below its own. The ETag is the SHA-256 of the
/// text; who names it in `If-None-Match` gets 304 while it is the same, after `wait_s`.
#[utoipa::path(get, path = "/v1/hosts/{host}/text", params(("host" = String, Path), Wait),
    responses((status = 200, body = String), (status = 304), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn host_text(
    State(shared): State<Shared>,
    Anyone(caller, peer): Anyone,
    Path(host): Path<String>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    caller.may_look_at_host(&host)?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let known = known.map(|tag| tag.trim_matches('"').to_owned());
    let end = Instant::now() + Duration::from_secs(wait.wait_s.min(WAIT_S_MAX));
    let mut revision = shared.revision.clone();
    let (mut place, mut made) = (None, None);
    loop {
        // What changes from here on wakes.
        revision.mark_unchanged();
        let before = made.take();
        let (_, text) = made.insert(text_of(&shared, &host, before).await?);
        let tag = [(header::ETAG, format!("\"{}\"", text.tag()))];
        if known.as_deref() != Some(text.tag()) {
            if place.is_some() {
                // It may have been revoked while it waited.
                identify(&shared, &peer).await?;
            }
            let kind = [(header::CONTENT_TYPE, "application/toml")];
            return Ok((tag, kind, text.text().to_owned()).into_response());
        }
        if end <= Instant::now() {
            return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
        }
        if place.is_none() {
            place = Some(Arc::clone(&shared.waiters).try_acquire_owned().map_err(|_| too_many())?);
        }
        // Time over or the controller ends: it is looked at once more.
        if !matches!(timeout_at(end, revision.changed()).await, Ok(Ok(()))) {
            return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
        }
    }
}

/// A text, and the revision of the objects that it was made of.
type Made = (Revision, Text);

/// The text of now: `before`, if no object has changed since. Few are made at a time: a change wakes all
/// hosts, and people's requests need the threads, too.
async fn text_of(shared: &Shared, host: &str, before: Option<Made>) -> Result<Made, Refusal> {
    let place = Arc::clone(&shared.renders).acquire_owned().await;
    let (controller, host) = (shared.controller.clone(), host.to_owned());
    let text = blocking(move || {
        let state = controller.state()?;
        let changed = state.changed();
        if let Some(before) = before.filter(|(of, _)| *of == changed) {
            return Ok(before);
        }
        match render(&state.house, &host) {
            Some(text) => Ok((changed, Text::new(text))),
            None => Err(state.find(Kind::Server, &host).err().unwrap_or_else(|| {
                Refusal::new(Gate::Missing, "the host", "does not exist", "name another")
            })),
        }
    });
    let text = text.await;
    drop(place);
    text
}

fn too_many() -> Refusal {
    Refusal::new(Gate::Conflict, "the wait", "too many wait", "ask again later")
}
