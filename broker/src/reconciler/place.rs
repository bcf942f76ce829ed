//! Where the servers of a manifest go. An update that makes one server of a pair keeps the leader: a director deletes
//! whatever stands in a zone that the manifest does not name. That nobody else becomes the leader meanwhile is the
//! witness's part, and a server that did not lead at the end does not open (`fence.rs` of the agent).

use crate::app::App;
use crate::bosh;
use crate::catalog::Deployment;
use crate::lifecycle::{Answer, Seat, zone_of_leader};
use crate::manifest::{MYSQL_GROUP, deployment_name};
use crate::store::operations::{Kind, Operation};

/// Where they go.
pub(super) enum Place {
    /// In the zones of the plan.
    Anywhere,
    /// In the zone of a pair's leader, which is the one that stays.
    WithLeader(String),
}

/// The place of the servers; or why it is not known yet, as the user may read it.
pub(super) async fn find(
    app: &App,
    operation: &Operation,
    plan: &Deployment,
) -> Result<Result<Place, String>, bosh::Error> {
    if operation.kind != Kind::Update || plan.topology.is_pair() {
        return Ok(Ok(Place::Anywhere));
    }
    let deployment = deployment_name(operation.instance.as_str());
    let mut instances = app.director.instances(&deployment).await?;
    // Beside what is known as a single server (the catalog may have forgotten that it was a pair) whatever has an address
    // counts; what has none, as an operator's dry run leaves it, never was a server.
    instances.retain(|instance| instance.group == MYSQL_GROUP && (operation.keeps_leader || !instance.ips.is_empty()));
    if instances.len() < 2 {
        return Ok(Ok(Place::Anywhere));
    }
    let mut answers = app.agents.ask(&deployment, &instances).await;
    let seats: Vec<Seat> = instances
        .into_iter()
        .map(|instance| {
            let asked = |answer: &Answer| instance.ips.first() == Some(&answer.address);
            let answer = answers.iter().position(asked).map(|at| answers.swap_remove(at));
            Seat { zone: instance.az, answer }
        })
        .collect();
    Ok(zone_of_leader(&seats).map(Place::WithLeader))
}
