//! The parameters of bindings in raw JSON.

use super::binding::leave;
use super::*;

const BINDING: &str = "/v2/service_instances/i/service_bindings/b";

async fn bind(api: &Api, parameters: Value) -> Answer {
    let body = json!({"service_id": SERVICE, "plan_id": SINGLE, "parameters": parameters});
    api.call("PUT", BINDING, &body.to_string()).await
}

async fn ready() -> Api {
    let api = Api::new().await;
    api.put("i", json!({})).await;
    api.finish("i", State::Succeeded).await;
    api
}

#[tokio::test]
async fn every_parameter_of_a_binding_that_cannot_be_used_is_named() {
    let api = ready().await;
    let all = json!({"colour": 1, "read-only": "yes", "schema": "a-b", "username": "root"});
    let answer = bind(&api, all).await;
    answer.expect(400, "4 errors occurred:\\n    * the configuration parameter 'colour' is not a valid option\\n");
    for words in ["'read-only' must be true or false", "1 to 64 of the characters A-Z a-z 0-9 _ $", "the user root is"]
    {
        answer.expect(400, words);
    }
    bind(&api, json!([1])).await.expect(400, "must be a JSON object");
    api.call("GET", BINDING, "").await.expect(404, "binding does not exist");
    // Nothing is wrong with these; there is no server that could have the user.
    bind(&api, json!({"read-only": true, "schema": "A$_1", "username": "bob"})).await.expect(503, "try again later");
}

#[tokio::test]
async fn a_binding_is_shown_with_its_parameters_and_its_credentials_stay_the_same() {
    let api = ready().await;
    let asked = json!({"username": "bob", "schema": "orders"});
    let request = json!({"service_id": SERVICE, "plan_id": SINGLE, "parameters": asked});
    let credentials = leave(&api, &request, BindingProgress::Created, false).await;

    let again = bind(&api, asked.clone()).await;
    let shown = api.call("GET", BINDING, "").await;

    assert_eq!((again.status, &again.body), (200, &json!({"credentials": credentials})));
    assert_eq!((shown.status, &shown.body), (200, &json!({"credentials": credentials, "parameters": asked})));
    bind(&api, json!({"username": "bob"})).await.expect(409, "other attributes");
    let poll = format!("{BINDING}/last_operation");
    api.call("GET", &poll, "").await.expect(200, "succeeded");
    api.call("GET", &poll.replace("/b/", "/c/"), "").await.expect(404, "binding does not exist");
}

#[tokio::test]
async fn a_successor_needs_a_predecessor_and_no_ids() {
    let api = ready().await;
    let rotate = async |body: Value| api.call("PUT", BINDING, &body.to_string()).await;
    rotate(json!({"predecessor_binding_id": "old"})).await.expect(400, "is not a binding of this service instance");
    rotate(json!({"predecessor_binding_id": "../old"})).await.expect(400, "is not a binding of this service instance");
    rotate(json!({"predecessor_binding_id": 1})).await.expect(400, "predecessor_binding_id");
    rotate(json!({})).await.expect(400, "`service_id` is missing");
    let unknown = "/v2/service_instances/j/service_bindings/b";
    let body = json!({"predecessor_binding_id": "old"}).to_string();
    api.call("PUT", unknown, &body).await.expect(404, "instance does not exist");
}
