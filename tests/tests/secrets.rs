//! Nothing that is secret is kept or said in clear: not in the state database, whichever it is, with what it keeps of rows
//! that are gone, and not in the broker's log, with everything that goes wrong and at its most talkative.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, SERVICE_ID, deployment_of, new_id};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::{OwnBroker, Stack};

/// Whoever has such a word in its name is secret.
const SECRETS: [&str; 4] = ["password", "private_key", "encryption_key", "client_secret"];

#[tokio::test]
async fn no_secret_is_in_the_state_database_or_in_the_log() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let own = OwnBroker::start(&stack).await?;
    let (id, bindings) = (new_id(), [new_id(), new_id(), new_id()]);
    let mut secrets = BTreeSet::new();
    own.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    collect(&own.config, &mut secrets);
    for instance in stack.director.instances(&deployment_of(&id)).await? {
        collect(&simulation::vm(&stack, &instance)?, &mut secrets);
    }
    ensure!(secrets.len() >= 8, "only {} secrets were found", secrets.len());

    // The second one is made with words of its own, and the third one stumbles over its leader first.
    bind(&own, &id, &bindings[0], &json!({}), 201, &mut secrets).await?;
    bind(&own, &id, &bindings[1], &json!({"username": "bob", "schema": "orders"}), 201, &mut secrets).await?;
    go_wrong(&stack, &id, "agent", "lose_answer", json!({"after": 4, "count": 6})).await?;
    let stumbled = own.broker.bind(&id, DB_LEADER_FOLLOWER, &bindings[2]).await?;
    ensure!(stumbled.status == 500, "{stumbled:?}");
    simulation::clear(&stack.director).await?;
    bind(&own, &id, &bindings[2], &json!({}), 201, &mut secrets).await?;
    let change = json!({"parameters": {"workload": "write-heavy"}});
    go_wrong(&stack, &id, "deploy", "fail", json!({"count": 1, "message": "no more quota"})).await?;
    for expected in ["failed", "succeeded"] {
        own.broker.update(&id, &change).await?;
        let end = own.broker.settled(&id).await?;
        ensure!(end["state"] == expected, "the update ended as {end}");
    }

    keeps_quiet(&own, &secrets, &[&id, &bindings[0], "write-heavy"]).await?;
    for binding in &bindings {
        let unbound = own.broker.unbind(&id, DB_LEADER_FOLLOWER, binding).await?;
        ensure!(unbound.status == 200, "{unbound:?}");
    }
    own.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    keeps_quiet(&own, &secrets, &[&id]).await?;
    drop(own);
    stack.shutdown()
}

async fn bind(
    own: &OwnBroker,
    instance: &str,
    binding: &str,
    parameters: &Value,
    expected: u16,
    secrets: &mut BTreeSet<String>,
) -> Result<()> {
    let body = json!({"service_id": SERVICE_ID, "plan_id": DB_LEADER_FOLLOWER, "parameters": parameters});
    let path = format!("/v2/service_instances/{instance}/service_bindings/{binding}");
    let answer = own.broker.call(Method::PUT, &path, Some(&body)).await?;
    ensure!(answer.status == expected, "{answer:?}");
    let before = secrets.len();
    collect(&answer.body, secrets);
    ensure!(secrets.len() == before + 1, "the binding has no password of its own");
    Ok(())
}

async fn go_wrong(stack: &Stack, id: &str, act: &str, kind: &str, more: Value) -> Result<()> {
    simulation::set_faults(&stack.director, &json!([fault(&deployment_of(id), act, kind, more)])).await
}

/// Every secret of a document. Of a private key each line is one: nobody may write them in one.
fn collect(document: &Value, secrets: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| SECRETS.iter().any(|secret| name.contains(secret))) {
                    Some(text) => {
                        secrets.extend(text.lines().filter(|line| !line.starts_with("---")).map(str::to_owned))
                    }
                    None => collect(value, secrets),
                }
            }
        }
        Value::Array(rows) => rows.iter().for_each(|row| collect(row, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The database has these signs and the log has words; neither has a secret, as it is or in hexadecimal digits.
async fn keeps_quiet(own: &OwnBroker, secrets: &BTreeSet<String>, signs: &[&str]) -> Result<()> {
    let (dump, log) = (own.database.dump().await?, own.log()?);
    let dump = String::from_utf8_lossy(&dump);
    for sign in signs {
        ensure!(dump.contains(sign), "{sign} is not in the dump, which so shows nothing");
    }
    ensure!(log.contains("the director works"), "the log says nothing");
    for secret in secrets {
        let digits: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret.as_str(), &digits] {
            let start = secret.get(..4).context("a secret that is too short to be looked for")?;
            ensure!(!dump.contains(form), "the secret {start}... is in the state database");
            let line = log.lines().find(|line| line.contains(form));
            ensure!(line.is_none(), "the secret {start}... is in the log: {}", line.unwrap_or_default());
        }
    }
    Ok(())
}
