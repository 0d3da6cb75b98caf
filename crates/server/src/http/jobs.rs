//! Jobs: submitting, cancelling, showing.

use super::extract::{JobPath, StrictJson, StrictQuery};
use super::{App, PAGE_MAX};
use crate::driver::Ask;
use crate::fault::Fault;
use crate::token::{parse_hex, random_u128};
use crate::views;
use axum::Json;
use axum::extract::State;
use lindos_api::user::{
    ApiError, Done, DryRun, JobDetail, JobSummary, SubmitRequest, Submitted, Why,
};
use lindos_core::effect::Reply;
use lindos_model::RequestId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::IntoParams;

const USER_MAX: usize = 128;

pub(super) fn new_request() -> Result<RequestId, Fault> {
    random_u128()
        .map(RequestId)
        .map_err(|error| Fault::unavailable("no_randomness", format!("no random numbers: {error}")))
}

/// The id that whoever asks has chosen, so that asking again changes nothing more.
pub(super) fn given_or_new(request: Option<&str>) -> Result<RequestId, Fault> {
    let Some(text) = request else { return new_request() };
    parse_hex(text).map(RequestId).ok_or_else(|| {
        let message = format!("request: `{text}` is not 32 hexadecimal digits");
        Fault::bad_request("invalid_request_id", message)
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Only jobs with a number above this.
    after: Option<u64>,
    /// At most so many; 10,000 at most, and when not given.
    limit: Option<usize>,
}

/// A body that says nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Submits a job. The answer comes once it is on disk.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "submit_job", request_body = SubmitRequest,
    responses((status = OK, body = Submitted),
        (status = 422, description = "`invalid_job`, `unknown_key`, `invalid_body`", body = ApiError),
        (status = 503, description = "`disk_full`, `busy`: nothing was submitted", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn submit(
    State(app): State<App>,
    StrictJson(body): StrictJson<SubmitRequest>,
) -> Result<Json<Submitted>, Fault> {
    let request = given_or_new(body.request.as_deref())?;
    let user = body.user.unwrap_or_default();
    if user.len() > USER_MAX {
        let message = format!("user: a name has at most {USER_MAX} bytes");
        return Err(Fault::bad_request("invalid_user", message));
    }
    body.spec
        .validate_at_edge()
        .map_err(|invalid| Fault::invalid_job(invalid.key, &invalid.message))?;
    let spec = Arc::new(body.spec);
    match app.driver.ask(request, Ask::Submit { user, spec: Arc::clone(&spec) }).await {
        Ok(Reply::Submitted { job }) => Ok(Json(Submitted { job: job.0 })),
        Ok(other) => unreachable!("the core answered a submission with {other:?}"),
        Err(fault) if fault.error.code == "invalid_job" => {
            match app.driver.read(move |world| views::meant(&world.view(), &spec)).await? {
                Some(hint) => Err(fault.hint(hint)),
                None => Err(fault),
            }
        }
        Err(fault) => Err(fault),
    }
}

/// Says what would become of a job: whether it would start now and where, or what it would wait
/// for. The body is that of a submission, and what a submission refuses, this does; nothing is
/// submitted.
#[utoipa::path(post, path = "/v1/jobs/dry-run", operation_id = "dry_run_job",
    request_body = SubmitRequest,
    responses((status = OK, body = DryRun),
        (status = 422, description = "`invalid_job`, `unknown_key`, `invalid_body`", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn dry_run(
    State(app): State<App>,
    StrictJson(body): StrictJson<SubmitRequest>,
) -> Result<Json<DryRun>, Fault> {
    let spec = body.spec;
    spec.validate_at_edge().map_err(|invalid| Fault::invalid_job(invalid.key, &invalid.message))?;
    app.driver.read(move |world| views::dry_run(&world.view(), &spec)).await?.map(Json)
}

/// Lists the jobs that are remembered, by number.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", params(PageQuery),
    responses((status = OK, body = Vec<JobSummary>), (status = "default", body = ApiError)))]
pub(super) async fn list(
    State(app): State<App>,
    StrictQuery(page): StrictQuery<PageQuery>,
) -> Result<Json<Vec<JobSummary>>, Fault> {
    let limit = page.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let after = page.after.unwrap_or(0);
    app.driver.read(move |world| Json(views::jobs(&world.view(), after, limit))).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Show at most so many ranks; 65,536 when not given.
    ranks_max: Option<usize>,
}

/// Shows one job.
#[utoipa::path(get, path = "/v1/jobs/{id}", operation_id = "show_job",
    params(("id" = u64, Path, description = "The job's number"), ShowQuery),
    responses((status = OK, body = JobDetail), (status = "default", body = ApiError)))]
pub(super) async fn show(
    State(app): State<App>,
    JobPath(job): JobPath,
    StrictQuery(query): StrictQuery<ShowQuery>,
) -> Result<Json<JobDetail>, Fault> {
    let ranks_max = query.ranks_max.unwrap_or(views::RANKS_MAX);
    let found = app.driver.read(move |world| views::job_with_ranks(&world.view(), job, ranks_max));
    found.await?.map(Json).ok_or_else(|| Fault::no_such_job(job))
}

/// Cancels a job: its processes are stopped, and it is not tried again.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", operation_id = "cancel_job",
    params(("id" = u64, Path, description = "The job's number")),
    responses((status = OK, body = Done),
        (status = 409, description = "`job_is_over`", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn cancel(
    State(app): State<App>,
    JobPath(job): JobPath,
    StrictJson(Nothing {}): StrictJson<Nothing>,
) -> Result<Json<Done>, Fault> {
    app.driver.ask(new_request()?, Ask::Cancel { job }).await?;
    Ok(Json(Done { ok: true }))
}

/// Tells why a job is where it is, and what would help.
#[utoipa::path(get, path = "/v1/jobs/{id}/why", operation_id = "why_job",
    params(("id" = u64, Path, description = "The job's number")),
    responses((status = OK, body = Why), (status = "default", body = ApiError)))]
pub(super) async fn why(State(app): State<App>, JobPath(job): JobPath) -> Result<Json<Why>, Fault> {
    let found = app.driver.read(move |world| views::why(&world.view(), job));
    found.await?.map(Json).ok_or_else(|| Fault::no_such_job(job))
}
