//! The client, against a director and a UAA that it has never met.

use std::error::Error as _;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::fixture::{CLIENT_SECRET, Foreign, TOKEN};
use super::*;

const LIMIT: Duration = Duration::from_secs(30);
const MANIFEST: &str = "name: d";
const NO_SCOPE: &str = r#"{"code":600000,"description":"Require one of the scopes: bosh.admin"}"#;

/// An error with its causes, which must not say what nobody may read.
fn told(error: Error) -> String {
    let debug = format!("{error:?}");
    let text = format!("{debug} {:#}", anyhow::Error::new(error));
    for secret in [CLIENT_SECRET, TOKEN] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

#[tokio::test]
async fn a_director_with_users_of_its_own_gets_name_and_secret() {
    let foreign = Foreign::start().await;

    foreign.client().tasks_of("c").await.unwrap();

    assert_eq!(foreign.world().requests, ["GET /info", "GET /tasks"]);
}

#[tokio::test]
async fn wrong_credentials_are_not_sent_again_and_the_kind_of_authentication_is_asked_for_once() {
    let foreign = Foreign::start().await;
    foreign.world().client_secret = "another";
    let client = foreign.client();

    for _ in 0..2 {
        let error = client.tasks_of("c").await.unwrap_err();
        assert!(error.is_certain() && !error.is_final(), "{error:?}");
        assert!(told(error).contains("Not authorized: '/tasks'"));
    }

    assert_eq!(foreign.world().requests[..3], ["GET /info", "GET /tasks", "GET /info"]);
    assert_eq!(foreign.count("GET /tasks"), 2);
}

#[tokio::test]
async fn one_token_is_for_all_requests_also_for_those_that_come_at_once() {
    let foreign = Foreign::with_uaa().await;
    let client = foreign.client();

    let answers = join_all((0..20).map(|_| client.tasks_of("c"))).await;
    client.deploy_first(MANIFEST.into(), "c").await.unwrap();

    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let world = foreign.world();
    assert_eq!((world.granted, world.unknown), (1, 0));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let foreign = Foreign::with_uaa().await;
    foreign.world().token_seconds = 10;
    let client = foreign.client();

    let started = Instant::now();
    while foreign.world().granted < 2 {
        client.tasks_of("c").await.unwrap();
        assert!(started.elapsed() < LIMIT, "the token is never replaced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert!(foreign.count("GET /tasks") > 2, "a token for each request");
    assert_eq!(foreign.world().unknown, 0);
}

#[tokio::test]
async fn a_token_that_the_director_does_not_take_is_replaced_and_the_request_sent_again() {
    let foreign = Foreign::with_uaa().await;
    let client = foreign.client();
    client.tasks_of("c").await.unwrap();

    foreign.world().is_revoked = true;
    let answers = join_all((0..20).map(|_| client.tasks_of("c"))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(foreign.world().granted, 2);

    // This client has replaced none yet.
    let client = foreign.client();
    client.tasks_of("c").await.unwrap();
    foreign.world().is_revoked = true;
    let task = client.deploy_first(MANIFEST.into(), "c").await.unwrap();
    assert_eq!((task, foreign.count("POST /deployments"), foreign.world().granted), (TaskId(7), 2, 4));
}

#[tokio::test]
async fn a_uaa_that_the_director_does_not_believe_is_not_asked_again_and_again() {
    let foreign = Foreign::with_uaa().await;
    let client = foreign.client();
    foreign.world().denies = Some((401, "Not authorized: '/tasks'\n"));

    let started = Instant::now();
    for _ in 0..20 {
        let error = client.tasks_of("c").await.unwrap_err();
        assert!(error.is_certain() && !error.is_final(), "{error:?}");
        assert!(told(error).contains("Not authorized"));
    }

    let most = 2 + started.elapsed().as_secs() / 2;
    assert!(foreign.world().granted as u64 <= most, "{} tokens", foreign.world().granted);
}

#[tokio::test]
async fn what_the_client_may_not_do_costs_no_other_token() {
    let foreign = Foreign::with_uaa().await;
    let client = foreign.client();
    foreign.world().denies = Some((401, NO_SCOPE));

    for _ in 0..3 {
        let error = client.deploy_first(MANIFEST.into(), "c").await.unwrap_err();
        assert!(error.is_certain() && !error.is_final(), "{error:?}");
        assert!(told(error).contains("code 600000"));
    }

    assert_eq!((foreign.count("POST /deployments"), foreign.world().granted), (3, 1));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_everybody_hears_why() {
    let refused = r#"{"error":"invalid_client","error_description":"Bad credentials: s3cret-of-the-client"}"#;
    for (status, body, words) in [
        (503, "<html>s3cret-of-the-client</html>", "answers 503 Service Unavailable"),
        (401, refused, "answers 401 Unauthorized invalid_client"),
        (200, r#"{"access_token":{"t0ken":1}}"#, "it holds no token"),
    ] {
        let foreign = Foreign::with_uaa().await;
        let client = foreign.client();
        // For each of them, although one asks for all: where the machine stands still for a while, another one asks again.
        foreign.world().uaa_answers.extend([(status, body); 20]);

        let started = Instant::now();
        let answers = join_all((0..20).map(|_| client.deploy_first(MANIFEST.into(), "c"))).await;

        for answer in answers {
            let error = answer.unwrap_err();
            assert!(error.is_certain() && !error.is_final(), "{error:?}");
            let text = told(error);
            assert!(text.contains(words), "{text}");
        }
        let (asked, most) = (foreign.count("POST /oauth/token") as u64, 1 + started.elapsed().as_secs() / 2);
        assert!(asked <= most, "{asked} requests for a token, not {most}");
        assert_eq!(foreign.count("POST /deployments"), 0);
        foreign.world().uaa_answers.clear();
        until("the UAA is asked again", async || client.tasks_of("c").await.is_ok()).await;
    }
}

#[tokio::test]
async fn what_makes_a_task_is_sent_once_with_its_context_and_its_redirect_is_not_followed() {
    let foreign = Foreign::start().await;
    let client = foreign.client();

    client.deploy_first(MANIFEST.into(), "c1").await.unwrap();
    client.deploy(MANIFEST.into(), "c2").await.unwrap();
    client.deploy_and_fix(MANIFEST.into(), "c3").await.unwrap();
    client.run_errand("d", "e", &[], "c4").await.unwrap();

    // A director answers 404 to a manifest of any other type.
    let deploy = "POST /deployments text/yaml";
    let errand = "POST /deployments/d/errands/e/runs application/json c4".to_owned();
    let expected = [format!("{deploy} c1"), format!("{deploy} c2"), format!("{deploy} c3"), errand];
    assert_eq!(foreign.world().sent, expected);
    assert_eq!(foreign.count("GET /tasks/7"), 0);
}

#[tokio::test]
async fn another_uaa_is_asked_where_the_first_one_is_away() {
    let foreign = Foreign::with_uaa().await;
    foreign.world().uaa_urls = vec!["https://127.0.0.1:1".into(), foreign.url.clone()];
    foreign.client().tasks_of("c").await.unwrap();

    foreign.world().uaa_urls = vec!["https://127.0.0.1:1".into()];
    let error = foreign.client().tasks_of("c").await.unwrap_err();
    assert!(error.is_certain(), "{error:?}");
    assert!(told(error).contains("the UAA https://127.0.0.1:1 cannot be reached"));
}

#[tokio::test]
async fn the_certificate_of_the_uaa_may_have_an_authority_of_its_own() {
    let (foreign, uaa) = (Foreign::start().await, Foreign::with_uaa().await);
    foreign.world().uaa_urls = vec![uaa.url.clone()];
    foreign.world().granted = 1;

    let error = foreign.client().tasks_of("c").await.unwrap_err();
    assert!(told(error).contains("cannot be reached"));
    assert_eq!(uaa.world().requests.len(), 0);

    foreign.client_with(json!(uaa.ca)).tasks_of("c").await.unwrap();
    assert_eq!(uaa.world().granted, 1);
}

#[tokio::test]
async fn a_director_that_gets_a_uaa_is_followed() {
    let foreign = Foreign::start().await;
    let client = foreign.client();
    client.tasks_of("c").await.unwrap();

    foreign.world().uaa_urls = vec![foreign.url.clone()];

    client.tasks_of("c").await.unwrap();
    assert_eq!(foreign.world().granted, 1);
}

#[tokio::test]
async fn a_director_that_cannot_be_reached_has_done_nothing() {
    let foreign = Foreign::start().await;
    let config = json!({"url": "https://127.0.0.1:1", "ca": foreign.ca, "client": "c", "client_secret": CLIENT_SECRET});
    let client = Director::new(&serde_json::from_value(config).unwrap()).unwrap();

    let error = client.deploy_first(MANIFEST.into(), "c").await.unwrap_err();

    assert!(error.is_certain() && !error.is_final() && error.source().is_some(), "{error:?}");
    assert!(told(error).contains("the director cannot be reached"));
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
