//! What the operations on an instance are answered with, while they run and ever after.

use super::*;

const PAIR: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";

#[tokio::test]
async fn an_id_that_is_taken_is_the_same_instance_or_a_conflict() {
    let api = Api::new().await;
    let asked = json!({"plan_id": PAIR, "parameters": {"workload": "mixed", "replication_mode": "async"}});
    let first = api.put("i", asked.clone()).await;
    first.expect(202, "operation");
    let same = [
        json!({"context": {"platform": "x", "instance_name": "new"}}),
        json!({"maintenance_info": {"version": "1.0.0", "description": 7}}),
        json!({"parameters": {"replication_mode": "async", "workload": "mixed"}}),
    ];
    let others = [
        json!({"plan_id": SINGLE, "parameters": {"workload": "mixed"}}),
        json!({"organization_guid": "p"}),
        json!({"space_guid": "t"}),
        json!({"parameters": {"workload": "mixed"}}),
        json!({"parameters": {"workload": "mixed", "replication_mode": "semi-sync"}}),
        json!({"parameters": null}),
    ];
    let with = |changes: &Value| {
        let mut body = asked.clone();
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };

    for changes in &same {
        let again = api.put("i", with(changes)).await;
        assert_eq!((again.status, &again.body), (202, &first.body), "{changes}");
    }
    for changes in &others {
        api.put("i", with(changes)).await.expect(409, "other attributes");
    }
    api.finish("i", State::Succeeded).await;
    for changes in &same {
        let again = api.put("i", with(changes)).await;
        assert_eq!((again.status, again.body), (200, json!({})), "{changes}");
    }
    for changes in &others {
        api.put("i", with(changes)).await.expect(409, "other attributes");
    }
}

#[tokio::test]
async fn every_operation_keeps_its_answer_and_the_newest_is_the_one_that_is_meant() {
    let api = Api::new().await;
    let operation = |answer: Answer| answer.body["operation"].as_str().unwrap().to_owned();
    let creation = operation(api.put("i", json!({})).await);
    api.finish("i", State::Succeeded).await;
    let change = json!({"service_id": SERVICE, "plan_id": PAIR}).to_string();
    let update = operation(api.call("PATCH", "/v2/service_instances/i?accepts_incomplete=true", &change).await);
    let hints = [SINGLE, PAIR, "", "nope"].map(|plan| format!("service_id={SERVICE}&plan_id={plan}"));
    for hint in &hints {
        api.poll("i", &format!("?{hint}")).await.expect(200, "in progress");
        api.poll("i", &format!("?operation={update}&{hint}")).await.expect(200, "in progress");
        api.poll("i", &format!("?operation={creation}&{hint}")).await.expect(200, "succeeded");
    }
    api.finish("i", State::Succeeded).await;
    let body = json!({"service_id": SERVICE, "plan_id": PAIR});
    let query = format!("accepts_incomplete=true&service_id={SERVICE}&plan_id={PAIR}");
    let deletion = operation(api.call("DELETE", &format!("/v2/service_instances/i?{query}"), &body.to_string()).await);
    api.finish("i", State::Succeeded).await;

    for _ in 0..3 {
        for known in [&creation, &update, &deletion] {
            let answer = api.poll("i", &format!("?operation={known}")).await;
            answer.expect(200, "succeeded");
            assert!(answer.body["description"].as_str().is_some_and(|text| !text.is_empty()));
        }
        for newest in ["", "?operation=", "?operation=nope", "?operation=%00"] {
            assert_eq!(api.poll("i", newest).await.status, 410, "{newest}");
        }
    }
    assert_eq!(api.poll("j", &format!("?operation={creation}")).await.status, 404, "another instance");
    api.put("i", json!({})).await.expect(202, "operation");
    api.poll("i", "").await.expect(200, "in progress");
    api.poll("i", &format!("?operation={deletion}")).await.expect(200, "succeeded");
}

#[tokio::test]
async fn a_deletion_that_may_not_outlast_its_answer_is_refused_and_the_instance_stays() {
    let api = Api::new().await;
    api.put("i", json!({})).await;
    api.finish("i", State::Succeeded).await;
    for words in ["", "accepts_incomplete=false&"] {
        for id in ["i", "unknown"] {
            let path = format!("/v2/service_instances/{id}?{words}service_id={SERVICE}&plan_id={SINGLE}");
            api.call("DELETE", &path, "").await.expect(422, "AsyncRequired");
        }
    }
    api.call("GET", "/v2/service_instances/i", "").await.expect(200, SINGLE);
    api.poll("i", "").await.expect(200, "succeeded");
}

#[tokio::test]
async fn a_deletion_of_what_there_never_was_is_done_however_often_it_is_sent() {
    let api = Api::new().await;
    for _ in 0..3 {
        api.delete("i").await.expect(410, "{}");
        assert_eq!(api.poll("i", "").await.status, 404);
        assert_eq!(api.call("GET", "/v2/service_instances/i", "").await.status, 404);
    }
    api.put("i", json!({})).await.expect(202, "operation");
}
