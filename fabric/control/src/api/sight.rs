//! What is going on now, what is out of balance, and why a vNIC gets no more. For everybody with a
//! role: both teams read the same.

use super::{Shared, answers::Failed, blocking, now_us, who::Who};
use crate::{
    change::State as House,
    refusal::{Gate, Refusal},
    store::Revision,
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;
use wireonce_desired::{Kind, render};
use wireonce_ledger::report::HostReports;
use wireonce_member::Text;
use wireonce_sight::{AdviceLine, Explanation, Now, Numbered, Sight, View};

/// Longest interval of an explanation, in seconds. Who asks has to wait for longer than that.
pub const EXPLAIN_S_MAX: u64 = 60;
/// Reports come a moment after their hour: so much longer is waited for them.
const GRACE: Duration = Duration::from_millis(300);

/// The tags of hosts' texts, made once for each change of an object, of those hosts that name theirs.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags(Arc<Mutex<(Revision, BTreeMap<String, String>)>>);

impl Tags {
    fn of(
        &self,
        house: &House,
        reports: &BTreeMap<String, HostReports>,
    ) -> BTreeMap<String, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != house.changed() {
            *known = (house.changed(), BTreeMap::new());
        }
        for (host, said) in reports {
            if said.newest.report.tag.is_some()
                && !known.1.contains_key(host)
                && let Some(text) = render(&house.house, host)
            {
                known.1.insert(host.clone(), Text::new(text).tag().to_owned());
            }
        }
        known.1.clone()
    }
}

/// Has `ask` look at the house with what is heard now.
fn look<T>(
    shared: &Shared,
    ask: impl FnOnce(&View<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let state = shared.controller.state()?;
    let reports = shared.controller.reports().all();
    let tags = shared.tags.of(&state, &reports);
    ask(&View { house: &state.house, reports: &reports, tags: &tags, now_us: now_us() })
}

/// Servers, uplinks, vNICs and pools as they are now; what is old is marked.
#[utoipa::path(get, path = "/v1/now", responses((status = 200, body = Value)))]
pub(super) async fn now(State(shared): State<Shared>, Who(_): Who) -> Result<Json<Now>, Failed> {
    let done = move || look(&shared, |view| Ok(wireonce_sight::now(view)));
    Ok(Json(blocking(done).await?))
}

/// What is out of balance, each with its evidence and, if one helps, the command.
#[utoipa::path(get, path = "/v1/advice", responses((status = 200, body = Value)))]
pub(super) async fn advice(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<Json<Vec<AdviceLine>>, Failed> {
    let done = move || {
        look(&shared, |view| {
            let sight = Sight::of(view);
            Ok(wireonce_sight::advice(view, &sight, &Numbered::of(view.house, &sight).house))
        })
    };
    Ok(Json(blocking(done).await?))
}

/// The interval of an explanation.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct For {
    /// So many seconds from now, at most 60; 0 or left out: between the two newest reports.
    #[serde(default)]
    for_s: u64,
}

/// The way of a vNIC's frames, station by station, and what holds them up.
#[utoipa::path(get, path = "/v1/vnics/{name}/explanation", params(("name" = String, Path), For),
    responses((status = 200, body = Value), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn explanation(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(name): Path<String>,
    Query(For { for_s }): Query<For>,
) -> Result<Json<Explanation>, Failed> {
    if for_s > EXPLAIN_S_MAX {
        let remedy = format!("ask for at most {EXPLAIN_S_MAX}, several times if need be");
        let problem = format!("{for_s} seconds is longer than an answer may take");
        return Err(Refusal::new(Gate::Text, "for_s", problem, remedy).into());
    }
    let begin = shared.clone();
    let named = name.clone();
    let first = blocking(move || {
        begin.controller.state()?.find(Kind::Vnic, &named)?;
        Ok((for_s > 0).then(|| begin.controller.reports().all()))
    });
    let earlier = first.await?;
    if for_s > 0 {
        sleep(Duration::from_secs(for_s) + GRACE).await;
    }
    let done = move || {
        look(&shared, |view| {
            let explained = wireonce_sight::explain(view, earlier.as_ref(), &name);
            explained.ok_or_else(|| {
                let remedy = "`wireonce vnic list` shows what there is";
                Refusal::new(Gate::Missing, Kind::Vnic.title(&name), "is gone", remedy)
            })
        })
    };
    Ok(Json(blocking(done).await?))
}
