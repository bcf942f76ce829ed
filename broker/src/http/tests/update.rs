//! `PATCH` of a service instance, and what others see meanwhile.

use super::*;

const PAIR: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";

impl Api {
    async fn ready(&self, id: &str) {
        self.put(id, json!({})).await.expect(202, "operation");
        self.finish(id, State::Succeeded).await;
    }

    async fn patch(&self, id: &str, changes: Value) -> Answer {
        let mut body = json!({"service_id": SERVICE});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
        self.call("PATCH", &path, &body.to_string()).await
    }

    async fn show(&self, id: &str) -> Answer {
        self.call("GET", &format!("/v2/service_instances/{id}"), "").await
    }

    async fn context(&self, id: &str) -> Value {
        let mut db = self.app.store.connection().await.unwrap();
        let text: String = sqlx::query_scalar("SELECT context FROM service_instances WHERE id = $1")
            .bind(id)
            .fetch_one(&mut db)
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn a_new_name_is_kept_at_once_and_nothing_else_happens() {
    let api = Api::new().await;
    api.ready("i").await;
    let renamed = json!({"context": {"platform": "cloudfoundry", "instance_name": "new"}});

    let alone = api.patch("i", renamed.clone()).await;
    let path = "/v2/service_instances/i";
    let body = json!({"service_id": SERVICE, "context": {"instance_name": "newer"}}).to_string();
    let synchronous = api.call("PATCH", path, &body).await;

    assert_eq!((alone.status, alone.body), (200, json!({})));
    assert_eq!((synchronous.status, synchronous.body), (200, json!({})));
    assert_eq!(api.context("i").await, json!({"instance_name": "newer"}));
    api.poll("i", "").await.expect(200, "succeeded");
}

#[tokio::test]
async fn an_update_is_one_operation_however_often_it_is_sent_and_counts_when_it_has_succeeded() {
    let api = Api::new().await;
    api.ready("i").await;
    let change = json!({"plan_id": PAIR, "parameters": {"replication_mode": "semi-sync"}});

    let first = api.patch("i", change.clone()).await;

    first.expect(202, "operation");
    assert_eq!(api.patch("i", change.clone()).await.body, first.body);
    api.patch("i", json!({"plan_id": PAIR})).await.expect(422, "ConcurrencyError");
    api.put("i", json!({})).await.expect(422, "ConcurrencyError");
    api.delete("i").await.expect(422, "ConcurrencyError");
    api.show("i").await.expect(422, "ConcurrencyError");
    api.poll("i", "").await.expect(200, "update in progress");
    let bind = json!({"service_id": SERVICE, "plan_id": SINGLE}).to_string();
    api.call("PUT", "/v2/service_instances/i/service_bindings/b", &bind).await.expect(422, "ConcurrencyError");

    api.finish("i", State::Succeeded).await;

    let mut expected = change.clone();
    (expected["service_id"], expected["maintenance_info"]) = (SERVICE.into(), json!({"version": "1.0.0"}));
    assert_eq!(api.show("i").await.body, expected);
    let again = api.patch("i", change).await;
    assert_eq!((again.status, again.body), (200, json!({})));
    api.put("i", json!({})).await.expect(409, "other attributes");
}

#[tokio::test]
async fn a_failed_update_leaves_the_record_as_it_was_and_may_be_repeated() {
    let api = Api::new().await;
    api.ready("i").await;
    api.patch("i", json!({"plan_id": PAIR})).await.expect(202, "operation");

    api.finish("i", State::Failed).await;

    let end = api.poll("i", "").await;
    assert_eq!((&end.body["state"], &end.body["update_repeatable"]), (&json!("failed"), &json!(true)));
    api.show("i").await.expect(200, SINGLE);
    api.put("i", json!({})).await.expect(200, "{}");
    api.patch("i", json!({"plan_id": PAIR})).await.expect(202, "operation");
    api.finish("i", State::Failed).await;
    api.delete("i").await.expect(202, "operation");
}

#[tokio::test]
async fn a_refused_update_changes_nothing() {
    let api = Api::new().await;
    api.patch("i", json!({})).await.expect(404, "does not exist");
    api.ready("i").await;
    let context = json!({"instance_name": "new"});
    for (changes, status, words) in [
        (json!({"plan_id": "nope"}), 400, "not a plan of the service offering"),
        (json!({"service_id": "nope"}), 400, "service_id is not the one"),
        (json!({"parameters": {"x": 1}}), 400, "'x' is not a valid option"),
        (json!({"parameters": [1]}), 400, "`parameters` must be"),
        (json!({"maintenance_info": {"version": "9.9.9"}}), 422, "MaintenanceInfoConflict"),
    ] {
        let mut changes = changes;
        changes["context"] = context.clone();
        api.patch("i", changes).await.expect(status, words);
    }
    let path = "/v2/service_instances/i";
    let body = json!({"service_id": SERVICE, "plan_id": PAIR, "context": context}).to_string();
    api.call("PATCH", path, &body).await.expect(422, "AsyncRequired");
    api.call("PATCH", path, "{}").await.expect(400, "service_id");
    assert_eq!(api.context("i").await, json!({}));
    api.poll("i", "").await.expect(200, "succeeded");
}

#[tokio::test]
async fn what_a_request_does_not_name_stays() {
    let api = Api::new().await;
    api.put("i", json!({"parameters": {"workload": "read-heavy"}})).await.expect(202, "operation");
    api.finish("i", State::Succeeded).await;
    let unused = json!({"plan_id": "nope", "service_id": null, "organization_id": 7, "maintenance_info": null});
    for (changes, plan, parameters) in [
        (json!({"plan_id": PAIR}), PAIR, json!({"workload": "read-heavy"})),
        (
            json!({"parameters": {"replication_mode": "semi-sync"}}),
            PAIR,
            json!({"workload": "read-heavy", "replication_mode": "semi-sync"}),
        ),
        (json!({"parameters": {"workload": null}}), PAIR, json!({"replication_mode": "semi-sync"})),
        (json!({"plan_id": SINGLE, "parameters": {}}), SINGLE, json!({})),
    ] {
        let mut changes = changes;
        changes["previous_values"] = unused.clone();
        api.patch("i", changes.clone()).await.expect(202, "operation");
        api.finish("i", State::Succeeded).await;
        let shown = api.show("i").await.body;
        assert_eq!((&shown["plan_id"], &shown["parameters"]), (&json!(plan), &parameters), "{changes}");
        // What Cloud Controller says with everything else.
        let nothing = json!({"plan_id": plan, "parameters": {}, "maintenance_info": null, "previous_values": unused});
        let again = api.patch("i", nothing).await;
        assert_eq!((again.status, again.body), (200, json!({})), "{changes}");
    }
}

#[tokio::test]
async fn a_parameter_that_cannot_be_changed_so_is_refused_by_name_and_a_good_one_is_taken() {
    let api = Api::new().await;
    api.ready("i").await;
    let parameters = |given: Value| api.patch("i", json!({"parameters": given}));
    for (given, words) in [
        (
            json!({"colour": "red"}),
            "1 error occurred:\n    * the configuration parameter 'colour' is not a valid option",
        ),
        (json!({"colour": null}), "the configuration parameter 'colour' is not a valid option"),
        (json!({"replication_mode": "async"}), "the configuration parameter 'replication_mode' is not a valid option"),
        (json!({"workload": 1}), "'workload' must be \"mixed\", \"read-heavy\" or \"write-heavy\""),
        (json!({"optimize_for_short_words": "true"}), "'optimize_for_short_words' must be true or false"),
        (json!({"default-charset": "klingon"}), "'default-charset' must be one of armscii8, "),
        (
            json!({"enable_lower_case_table_names": true}),
            "'enable_lower_case_table_names' holds for the life of a service instance; it is false here",
        ),
        (json!({"colour": 1, "workload": "idle"}), "2 errors occurred:\n    * the configuration parameter 'colour'"),
    ] {
        let answer = parameters(given.clone()).await;
        let description = answer.body["description"].as_str().unwrap_or_default();
        assert!(answer.status == 400 && description.contains(words), "{given}: {}", answer.body);
        assert_eq!(answer.body.get("error"), None);
    }
    assert_eq!(api.show("i").await.body["parameters"], json!({}));
    api.poll("i", "").await.expect(200, "succeeded");

    let good = json!({"workload": "write-heavy", "optimize_for_short_words": true, "default-collation": "utf8mb4_bin"});
    parameters(good.clone()).await.expect(202, "operation");

    api.finish("i", State::Succeeded).await;
    assert_eq!(api.show("i").await.body["parameters"], good);
}

#[tokio::test]
async fn a_failed_update_is_repaired_by_a_later_one() {
    let api = Api::new().await;
    api.ready("i").await;
    api.patch("i", json!({"plan_id": PAIR})).await.expect(202, "operation");
    api.finish("i", State::Failed).await;

    // Back to what is recorded is work as well, since the servers may be something else.
    for plan in [SINGLE, PAIR] {
        api.patch("i", json!({"plan_id": plan, "parameters": {}})).await.expect(202, "operation");
        api.finish("i", State::Succeeded).await;
        api.show("i").await.expect(200, plan);
        api.poll("i", "").await.expect(200, "succeeded");
    }
}

#[tokio::test]
async fn an_instance_that_cannot_be_updated_says_so_without_a_word_of_its_own() {
    let api = Api::new().await;
    api.put("i", json!({})).await.expect(202, "operation");
    for body in [json!({"plan_id": PAIR}), json!({"context": {}})] {
        api.patch("i", body).await.expect(422, "ConcurrencyError");
    }
    api.finish("i", State::Failed).await;
    let refused = api.patch("i", json!({"plan_id": PAIR})).await;
    refused.expect(422, "creation or deletion of this service instance failed");
    assert_eq!(refused.body.get("error"), None);
    api.delete("i").await.expect(202, "operation");
    api.patch("i", json!({"plan_id": PAIR})).await.expect(422, "ConcurrencyError");
}
