//! The director API. Every route stands on this page; the handlers translate, and what takes time is a task.

mod answer;
mod carry_out;
mod configs;
mod deployments;
mod diff;
mod disks;
mod errands;
mod events;
mod info;
mod instances;
mod jobs;
mod links;
mod listings;
mod logs;
mod problems;
mod requester;
mod settings;
mod simulation;
mod tasks;
mod uaa;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use tower_http::timeout::TimeoutLayer;

use crate::director::Director;
pub(crate) use simulation::play;

/// No manifest and no config is larger.
const LARGEST_BODY: usize = 4 << 20;
/// Handlers only read and write the director's memory, so this is generous. It is the client's patience: the request is
/// carried out all the same.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

type App = Arc<Director>;

pub(crate) fn router(director: App) -> Router {
    let named = Router::new()
        .route("/deployments", get(deployments::list).post(deployments::deploy))
        .route("/deployments/{deployment}", get(deployments::get).delete(deployments::delete))
        .route("/deployments/{deployment}/diff", post(diff::deployment))
        .route("/deployments/{deployment}/instances", get(instances::instances))
        .route("/deployments/{deployment}/vms", get(instances::vms))
        .route("/deployments/{deployment}/errands", get(errands::list))
        .route("/deployments/{deployment}/errands/{errand}/runs", post(errands::run))
        .route("/deployments/{deployment}/variables", get(variables::list))
        .route("/deployments/{deployment}/jobs/{group}", put(jobs::change_group))
        .route("/deployments/{deployment}/jobs/{group}/{id}", get(jobs::get).put(jobs::change_instance))
        .route("/deployments/{deployment}/instance_groups/{group}/{id}/actions/{action}", post(jobs::act))
        .route("/deployments/{deployment}/instance_groups/{group}/{id}/ignore", put(jobs::ignore))
        .route("/deployments/{deployment}/jobs/{group}/{id}/logs", get(logs::fetch))
        .route("/deployments/{deployment}/scans", post(problems::scan))
        .route("/deployments/{deployment}/problems", get(problems::list).put(problems::resolve))
        .route("/resources/{id}", get(logs::download))
        .route("/deployments/{deployment}/snapshots", get(listings::snapshots))
        .route("/deployments/{deployment}/ssh", post(listings::refuse_ssh))
        .route("/releases", get(listings::releases))
        .route("/stemcells", get(listings::stemcells))
        .route("/orphaned_vms", get(listings::orphaned_vms))
        .route("/tasks", get(tasks::list))
        .route("/tasks/cancel", post(tasks::cancel_many))
        .route("/tasks/{id}", get(tasks::get))
        .route("/tasks/{id}/output", get(tasks::output))
        .route("/task/{id}", delete(tasks::cancel))
        .route("/vms/{cid}", delete(disks::delete_vm))
        .route("/disks", get(disks::list))
        .route("/orphan_disks", get(disks::list))
        .route("/disks/{cid}", delete(disks::delete))
        .route("/disks/{cid}/attachments", put(disks::attach))
        .route("/cleanup", post(disks::clean_up))
        .route("/cloud_configs", get(configs::list_cloud).post(configs::update_cloud))
        .route("/cloud_configs/diff", post(diff::cloud_config))
        .route("/configs", get(configs::list).post(configs::update).delete(configs::delete))
        .route("/configs/diff", post(diff::config))
        .route("/configs/{id}", get(configs::get).delete(configs::delete_version))
        .route("/events", get(events::list))
        .route("/locks", get(settings::locks))
        .route("/resurrection", get(settings::resurrection).put(settings::set_resurrection))
        .route("/link_providers", get(links::providers))
        .route("/links", get(links::list).post(links::create))
        .route("/links/{id}", delete(links::delete))
        .route("/link_address", get(links::address));
    let named = if director.faults.is_some() { named.merge(simulation::routes()) } else { named };
    let named = named.layer(from_fn_with_state(director.clone(), requester::authenticate));
    Router::new()
        .route("/info", get(info::get))
        .route("/oauth/token", post(uaa::give_token))
        .merge(named)
        .fallback(answer::no_endpoint)
        .method_not_allowed_fallback(answer::no_endpoint)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(director.clone(), carry_out::carry_out))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, LONGEST_REQUEST))
        .layer(from_fn_with_state(director.clone(), simulation::disturb))
        .with_state(director)
}
