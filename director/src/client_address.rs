//! The stable client addresses that this director serves: one endpoint for each deployment that has one, brought in line
//! with what is remembered after every deploy and delete.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tokio::sync::{Mutex, watch};

use crate::endpoint::{Endpoint, Health};
use crate::model::{ClientAddress, Deployment};
use crate::store::Store;

#[derive(Default)]
pub(crate) struct ClientAddresses {
    served: Mutex<BTreeMap<String, Served>>,
    is_unserved: bool,
}

struct Served {
    address: ClientAddress,
    targets: watch::Sender<Vec<Ipv4Addr>>,
    endpoint: Endpoint,
}

impl ClientAddresses {
    /// The addresses are given, and nobody listens there: simulated servers take no connection.
    pub(crate) fn unserved() -> Self {
        Self { is_unserved: true, ..Self::default() }
    }

    /// Serve exactly the addresses that are remembered; why some cannot be served, by deployment. What is remembered is
    /// read when it is this caller's turn: an older state would undo what a newer caller did.
    pub(crate) async fn follow(&self, store: &Store) -> BTreeMap<String, anyhow::Error> {
        if self.is_unserved {
            return BTreeMap::new();
        }
        let mut served = self.served.lock().await;
        let model = store.read();
        let wanted = |name: &str| model.deployments.get(name).and_then(|deployment| deployment.client_address.as_ref());
        for (_, retired) in served.extract_if(.., |name, entry| wanted(name) != Some(&entry.address)) {
            retired.endpoint.stop().await;
        }
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
    Ok(Served { address: address.clone(), targets, endpoint })
}

fn targets(deployment: &Deployment, address: &ClientAddress) -> Vec<Ipv4Addr> {
    let group = deployment.instances.iter().filter(|instance| instance.group == address.group);
    group.map(|instance| instance.address).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn remember(store: &Store, name: &str, address: Option<ClientAddress>) {
        let deployment = Deployment { name: name.to_owned(), client_address: address, ..Deployment::default() };
        let change = |model: &mut crate::store::Model| {
            model.deployments.insert(name.to_owned(), deployment.into());
            Ok(())
        };
        store.write(change).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_changes_hands_is_served_at_once_and_a_forgotten_one_is_free() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let addresses = ClientAddresses::default();
        let [.., high, low] = std::process::id().to_be_bytes();
        let (address, port) = (Ipv4Addr::new(127, 32 | high & 0x1f, low, 110), 28212);
        let (health_path, group) = ("/v1/leader".to_owned(), "mysql".to_owned());
        let wanted = ClientAddress { address, port, health_port: 28210, health_path, group };

        for round in 0..20 {
            let (new, old) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
            remember(&store, old, None).await;
            remember(&store, new, Some(wanted.clone())).await;
            let failures = addresses.follow(&store).await;
            assert!(failures.is_empty(), "{failures:?}");
        }

        remember(&store, "b", None).await;
        addresses.follow(&store).await;
        TcpListener::bind((address, port)).unwrap();
    }
}
