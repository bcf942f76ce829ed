//! `PUT`, `GET` and `DELETE` of a binding, however far it and its instance are.

use super::*;

const BINDING: &str = "/v2/service_instances/i/service_bindings/b";

/// A binding as a request leaves it that works on it still, or that has ended.
pub(super) async fn leave(api: &Api, request: &Value, progress: BindingProgress, is_claimed: bool) -> Credentials {
    let key = Key { instance: InstanceId::parse("i").unwrap(), binding: BindingId::parse("b").unwrap() };
    let credentials = Credentials::new("127.0.0.1", 3306, "s", "u", "p");
    let sealed = api.app.sealer.seal(&key.instance, &key.binding, &serde_json::to_vec(&credentials).unwrap()).unwrap();
    let attributes = BindingAttributes::of(&serde_json::from_value(request.clone()).unwrap());
    let until = if is_claimed { Timestamp::now().plus(std::time::Duration::from_secs(60)) } else { Timestamp(2) };
    let lease = Lease { owner: "b-1", until };
    let mut db = api.app.store.connection().await.unwrap();
    bindings::insert(&mut db, &key, &attributes, &sealed, lease, Timestamp(1)).await.unwrap();
    bindings::claim(&mut db, &key, progress, lease).await.unwrap();
    credentials
}

fn request(parameters: Value) -> Value {
    json!({"service_id": SERVICE, "plan_id": SINGLE, "parameters": parameters})
}

async fn ready() -> Api {
    let api = Api::new().await;
    api.put("i", json!({})).await;
    api.finish("i", State::Succeeded).await;
    api
}

impl Api {
    async fn bind(&self, parameters: Value) -> Answer {
        self.call("PUT", BINDING, &request(parameters).to_string()).await
    }

    async fn unbind(&self) -> Answer {
        self.call("DELETE", &format!("{BINDING}?service_id={SERVICE}&plan_id={SINGLE}"), "").await
    }

    async fn show_binding(&self) -> Answer {
        self.call("GET", BINDING, "").await
    }

    async fn poll_binding(&self) -> Answer {
        self.call("GET", &format!("{BINDING}/last_operation"), "").await
    }
}

type Expected = (u16, &'static str);

#[tokio::test]
async fn a_binding_has_one_answer_however_far_it_is() {
    use BindingProgress::*;
    const BUSY: Expected = (422, "ConcurrencyError");
    const AWAY: Expected = (503, "try again later");
    let cases = [
        (Creating, true, "in progress", BUSY, BUSY),
        (Creating, false, "failed", AWAY, AWAY),
        (Created, false, "succeeded", (200, "credentials"), AWAY),
        (Created, true, "succeeded", (200, "credentials"), BUSY),
        (Deleting, true, "in progress", BUSY, BUSY),
        (Deleting, false, "failed", BUSY, AWAY),
    ];
    let checked = cases.map(async |(progress, is_claimed, state, same, removed)| {
        let api = ready().await;
        let credentials = leave(&api, &request(json!({})), progress, is_claimed).await;
        api.poll_binding().await.expect(200, state);
        match progress {
            Created => assert_eq!(api.show_binding().await.body["credentials"], json!(credentials)),
            Creating | Deleting => api.show_binding().await.expect(404, "binding does not exist"),
        }
        api.bind(json!({"read-only": true})).await.expect(409, "other attributes");
        api.bind(json!({})).await.expect(same.0, same.1);
        api.unbind().await.expect(removed.0, removed.1);
        // No server was there that could have dropped the user, so the binding is still known.
        api.poll_binding().await.expect(200, "state");
    });
    futures_util::future::join_all(checked).await;
}

#[tokio::test]
async fn a_binding_has_one_answer_however_far_its_instance_is() {
    let api = ready().await;
    leave(&api, &request(json!({})), BindingProgress::Created, false).await;
    let update = json!({"service_id": SERVICE, "parameters": {"workload": "read-heavy"}}).to_string();
    api.call("PATCH", "/v2/service_instances/i?accepts_incomplete=true", &update).await.expect(202, "operation");
    api.bind(json!({})).await.expect(422, "ConcurrencyError");
    api.unbind().await.expect(422, "ConcurrencyError");
    api.show_binding().await.expect(200, "credentials");
    api.finish("i", State::Succeeded).await;
    api.bind(json!({})).await.expect(200, "credentials");

    api.delete("i").await.expect(202, "operation");

    api.bind(json!({})).await.expect(422, "ConcurrencyError");
    api.unbind().await.expect(422, "ConcurrencyError");
    api.finish("i", State::Failed).await;
    api.bind(json!({})).await.expect(400, "cannot be bound");
    api.unbind().await.expect(503, "try again later");
    api.delete("i").await.expect(202, "operation");
    api.finish("i", State::Succeeded).await;
    api.bind(json!({})).await.expect(404, "instance does not exist");
    api.show_binding().await.expect(404, "instance does not exist");
    api.poll_binding().await.expect(404, "binding does not exist");
    for _ in 0..3 {
        api.unbind().await.expect(410, "{}");
    }
}

#[tokio::test]
async fn a_binding_stays_the_same_when_its_instance_changes_the_plan() {
    const PAIR: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";
    let api = ready().await;
    let credentials = leave(&api, &request(json!({})), BindingProgress::Created, false).await;
    let update = json!({"service_id": SERVICE, "plan_id": PAIR}).to_string();
    api.call("PATCH", "/v2/service_instances/i?accepts_incomplete=true", &update).await.expect(202, "operation");
    api.finish("i", State::Succeeded).await;

    for plan in [SINGLE, PAIR] {
        let body = json!({"service_id": SERVICE, "plan_id": plan});
        let again = api.call("PUT", BINDING, &body.to_string()).await;
        assert_eq!((again.status, again.body), (200, json!({"credentials": credentials})), "{plan}");
        let other = json!({"service_id": SERVICE, "plan_id": plan, "app_guid": "a"});
        api.call("PUT", BINDING, &other.to_string()).await.expect(409, "other attributes");
    }
    let body = json!({"service_id": SERVICE, "plan_id": "nope"}).to_string();
    api.call("PUT", BINDING, &body).await.expect(400, "not a plan of the service offering");
    let body = json!({"service_id": SERVICE, "plan_id": SINGLE}).to_string();
    api.call("PUT", &format!("{BINDING}-2"), &body).await.expect(400, "plan_id is not the one");
}

#[tokio::test]
async fn a_binding_is_refused_where_the_instance_cannot_have_one() {
    let api = Api::new().await;
    let path = "/v2/service_instances/i/service_bindings/b";
    let delete = format!("{path}?service_id={SERVICE}&plan_id={SINGLE}");
    let body = json!({"service_id": SERVICE, "plan_id": SINGLE}).to_string();
    api.call("PUT", path, &body).await.expect(404, "instance does not exist");
    api.call("GET", path, "").await.expect(404, "instance does not exist");
    api.call("DELETE", &delete, "").await.expect(410, "{}");
    api.call("DELETE", path, "").await.expect(400, "`service_id` is missing");
    api.put("i", json!({})).await;
    api.call("PUT", path, &body).await.expect(422, "ConcurrencyError");
    api.finish("i", State::Succeeded).await;
    api.call("PUT", path, "{}").await.expect(400, "`service_id` is missing");
    api.call("PUT", "/v2/service_instances/i/service_bindings/b%2F", &body).await.expect(400, "service binding");
    api.call("GET", path, "").await.expect(404, "binding does not exist");
    api.call("DELETE", &delete, "").await.expect(410, "{}");
    api.call("PUT", path, &body).await.expect(503, "try again later");
    api.call("GET", path, "").await.expect(404, "binding does not exist");
}

#[tokio::test]
async fn a_binding_that_may_have_a_user_is_not_forgotten_when_its_repetition_fails() {
    let api = Api::new().await;
    api.put("i", json!({})).await;
    api.finish("i", State::Succeeded).await;
    let body = json!({"service_id": SERVICE, "plan_id": SINGLE});
    leave(&api, &body, BindingProgress::Creating, false).await;

    api.call("PUT", "/v2/service_instances/i/service_bindings/b", &body.to_string())
        .await
        .expect(503, "try again later");
    let poll = "/v2/service_instances/i/service_bindings/b/last_operation";
    api.call("GET", poll, "").await.expect(200, "bind again, or unbind");

    let key = Key { instance: InstanceId::parse("i").unwrap(), binding: BindingId::parse("b").unwrap() };
    let kept = bindings::find(&mut api.app.store.connection().await.unwrap(), &key, Timestamp::now()).await.unwrap();
    let known = kept.unwrap().known;
    assert_eq!((known.progress, known.is_claimed), (BindingProgress::Creating, false));
}
