//! `/deployments/D/instances` and `/deployments/D/vms`: plain at once, `format=full` as a task that asks the VMs.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::Value;

use super::App;
use super::answer::{self, Answer, Query};
use super::requester::Requester;
use crate::task::record::Kind;
use crate::vitals::{self, Lines};

#[derive(Deserialize)]
pub(super) struct FormatQuery {
    format: Option<String>,
}

type Format = Query<FormatQuery>;

pub(super) async fn instances(app: State<App>, who: Requester, name: Path<String>, format: Format) -> Answer {
    answer(&app, &who, &name, &format.0, Lines::Instances).await
}

pub(super) async fn vms(app: State<App>, who: Requester, name: Path<String>, format: Format) -> Answer {
    answer(&app, &who, &name, &format.0, Lines::Vms).await
}

async fn answer(app: &App, who: &Requester, name: &str, format: &FormatQuery, lines: Lines) -> Answer {
    let deployment = app.store.deployment(name)?;
    if format.format.as_deref() == Some("full") {
        let order = who.order(Kind::Vms, "retrieve vm-stats", Some(name));
        let (director, name) = (app.clone(), name.to_owned());
        let id = app.tasks.submit(order, move |task| vitals::retrieve(director, task, name, lines)).await?;
        return answer::see_task(&who.host, id);
    }
    let chosen = deployment.instances.iter().filter(|instance| lines == Lines::Instances || instance.vm.is_some());
    let rows: Vec<Value> = chosen.map(|instance| vitals::row(instance, lines)).collect();
    answer::json(&rows)
}
