//! Quotas, asked for by many at once.

use super::*;
use crate::catalog::Catalog;
use crate::documents::Documents;
use crate::manifest::{Manifests, Pairs};

const PAIR: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";

fn limited() -> Documents {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let text = std::fs::read_to_string(directory.join("catalog.yml")).unwrap();
    let text = text.replace("    free: true", "    free: true\n    quotas: {service_instance_limit: 1}");
    let catalog = Catalog::parse(&format!("global_quotas: {{service_instance_limit: 2}}\n{text}")).unwrap();
    let pairs = Pairs { witness_host: "w".into(), witness_port: 8009, lease_ttl_in_ms: 10_000 };
    let manifests = Manifests::read(&directory, &catalog, pairs).unwrap();
    Documents { catalog, manifests }
}

#[tokio::test]
async fn of_many_requests_for_the_last_place_exactly_one_gets_it() {
    let api = Api::new().await;
    api.app.replace(limited());
    let ids: Vec<String> = (0..20).map(|number| format!("i{number}")).collect();

    let answers = futures_util::future::join_all(ids.iter().map(|id| api.put(id, json!({})))).await;

    let winners: Vec<usize> = (0..20).filter(|at| answers[*at].status == 202).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    for (at, answer) in answers.iter().enumerate().filter(|(at, _)| !winners.contains(at)) {
        answer.expect(400, "plan instance limit exceeded for service ID");
        assert_eq!(api.poll(&ids[at], "").await.status, 404);
    }
    let winner = &ids[winners[0]];
    api.put(winner, json!({})).await.expect(202, "operation");
    api.put("pair", json!({"plan_id": PAIR})).await.expect(202, "operation");
    // Both places of both plans are taken; a deletion frees one when it has come to its end.
    api.finish(winner, State::Succeeded).await;
    let body = json!({"service_id": SERVICE, "plan_id": PAIR}).to_string();
    let path = format!("/v2/service_instances/{winner}?accepts_incomplete=true");
    api.call("PATCH", &path, &body).await.expect(400, "plan instance limit exceeded");
    api.delete(winner).await.expect(202, "operation");
    api.put("next", json!({})).await.expect(400, "global instance limit exceeded");
    api.finish(winner, State::Succeeded).await;
    api.put("next", json!({})).await.expect(202, "operation");
}
