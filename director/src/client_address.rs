//! The stable client addresses that this director serves: one endpoint for each deployment that has one, brought in line
//! with what is remembered after every deploy and delete.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tokio::sync::{Mutex, watch};

use crate::endpoint::{Endpoint, Health};
use crate::model::{ClientAddress, Deployment};
use crate::store::Model;

#[derive(Default)]
pub(crate) struct ClientAddresses {
    served: Mutex<BTreeMap<String, Served>>,
}

struct Served {
    address: ClientAddress,
    targets: watch::Sender<Vec<Ipv4Addr>>,
    /// Serves until it is dropped.
    _endpoint: Endpoint,
}

impl ClientAddresses {
    /// Serve exactly the addresses of the model; why some cannot be served, by deployment.
    pub(crate) async fn follow(&self, model: &Model) -> BTreeMap<String, anyhow::Error> {
        let mut served = self.served.lock().await;
        let wanted = |name: &str| model.deployments.get(name).and_then(|deployment| deployment.client_address.as_ref());
        served.retain(|name, entry| wanted(name) == Some(&entry.address));
        let mut failures = BTreeMap::new();
        for (name, deployment) in &model.deployments {
            let Some(address) = &deployment.client_address else { continue };
            let targets = targets(deployment, address);
            match served.get(name) {
                Some(entry) => {
                    entry.targets.send_if_modified(|now| std::mem::replace(now, targets.clone()) != targets);
                }
                None => match serve(address, targets).await {
                    Ok(entry) => drop(served.insert(name.clone(), entry)),
                    Err(error) => drop(failures.insert(name.clone(), error)),
                },
            }
        }
        failures
    }
}

async fn serve(address: &ClientAddress, targets: Vec<Ipv4Addr>) -> anyhow::Result<Served> {
    let health = Health { port: address.health_port, path: address.health_path.clone() };
    let (targets, receiver) = watch::channel(targets);
    let endpoint = Endpoint::start(address.address, address.port, health, receiver).await?;
    Ok(Served { address: address.clone(), targets, _endpoint: endpoint })
}

fn targets(deployment: &Deployment, address: &ClientAddress) -> Vec<Ipv4Addr> {
    let group = deployment.instances.iter().filter(|instance| instance.group == address.group);
    group.map(|instance| instance.address).collect()
}
