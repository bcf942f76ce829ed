//! Bindings where the director does not say where the servers are: nothing is made, and the next attempt makes it once.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::Stack;
use tests::broker::{DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, fault};
use tests::stack::Wiring;

use crate::ending::{ROWS, answer, page, times};
use crate::faults;

const PROVIDERS: &str = "GET /link_providers";
const LINKS: &str = "POST /links";
const ADDRESS: &str = "GET /link_address";

fn cases() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let not_shared = r#"{"code":810009,"description":"Link provider is not shared: '1'"}"#;
    let bad_az = r#"{"code":810008,"description":"Invalid az: 'z9'"}"#;
    // As often as a look is repeated.
    let away = json!({"count": 4, "status": 503});
    vec![
        ("F8.4 the servers'", LINKS, "answer", answer(1, 403, not_shared)),
        ("F8.4 none is offered", PROVIDERS, "answer", answer(1, 200, "[]")),
        ("F8.5 of an address", ADDRESS, "answer", answer(1, 400, bad_az)),
        ("F1.1 the answer of a link is lost", LINKS, "lose_answer", times(1)),
        ("F1.1 a link is lost", LINKS, "lose_request", times(1)),
        ("F3.1 503 to looks at the instances", ROWS, "answer", away),
        ("F9.1 half of the instances", ROWS, "truncate", times(1)),
        ("F9.1 half of the providers", PROVIDERS, "truncate", times(1)),
        ("F9.2 instead of the providers", PROVIDERS, "answer", page(1)),
        ("F9.2 instead of a link", LINKS, "answer", page(1)),
        ("F9.2 instead of an address", ADDRESS, "answer", page(1)),
    ]
}

#[tokio::test]
async fn a_binding_whose_address_is_not_known_is_not_made_and_the_next_attempt_makes_it_once() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let (broker, director, id) = (&stack.broker, &stack.director, new_id());
    let deployment = deployment_of(&id);
    broker.provisioned(&id, DB_SINGLE).await?;
    let server = director.instances(&deployment).await?.remove(0);

    for (name, act, kind, more) in cases() {
        let binding = new_id();
        ensure!(faults::are_known(name), "{name}: there is no such fault");
        simulation::set_faults(director, &json!([fault("", act, kind, more)])).await?;
        let refused = broker.bind(&id, DB_SINGLE, &binding).await?;
        let shown = broker.get(&format!("/v2/service_instances/{id}/service_bindings/{binding}")).await?;
        let users = simulation::users(&stack, &server)?;
        simulation::clear(director).await?;
        let bound = broker.bind(&id, DB_SINGLE, &binding).await?;
        let unbound = broker.unbind(&id, DB_SINGLE, &binding).await?;

        let told = refused.body["description"].as_str().unwrap_or_default();
        ensure!(refused.status == 503 && told.contains("Currently unable to reach"), "{name}: {refused:?}");
        ensure!(shown.status == 404 && users.is_empty(), "{name}: {shown:?} {users:?}");
        ensure!((bound.status, unbound.status) == (201, 200), "{name}: {bound:?} {unbound:?}");
    }

    let links = director.get(&format!("/links?deployment={deployment}")).await?;
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
    broker.deprovisioned(&id, DB_SINGLE).await?;
    stack.shutdown()
}
