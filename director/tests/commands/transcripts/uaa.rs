//! `env` and others against a director with a UAA, with client credentials; the CLI's calls, and our own client.

use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::begin;
use crate::api::{Answer, Api, Body, keys};
use crate::lab::Lab;

const CONFIG: &str = "authentication: uaa
token_lifetime_in_seconds: LIFETIME
users: [{name: admin, password: secret}, {name: reader, password: look, scopes: [bosh.read]}]";
const GRANT: &str = "grant_type=client_credentials";

fn json_of(answer: &Answer, status: u16) -> Value {
    assert_eq!((answer.status, answer.header(CONTENT_TYPE)), (status, "application/json"), "{}", answer.text());
    serde_json::from_slice(&answer.bytes).unwrap()
}

/// What the CLI sends to `user_authentication.options.url`.
async fn token(lab: &Lab, basic: &str) -> String {
    let answer = Api::anonymous(lab).with(basic).form("/oauth/token", GRANT).await;
    let token = json_of(&answer, 200);
    assert_eq!(keys(&token), ["access_token", "expires_in", "jti", "scope", "token_type"]);
    assert_eq!(token["token_type"], "bearer");
    token["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_gets_a_token_and_does_with_it_what_its_scopes_allow() {
    let lab = Lab::configured(&CONFIG.replace("LIFETIME", "3600"));
    let authentication = begin(&lab).await["user_authentication"].clone();
    assert_eq!(authentication, json!({"type": "uaa", "options": {"url": lab.url, "urls": [lab.url]}}));

    let admin = Api::anonymous(&lab).with(&format!("bearer {}", token(&lab, "Basic YWRtaW46c2VjcmV0").await));
    let reader = Api::anonymous(&lab).with(&format!("Bearer {}", token(&lab, "Basic cmVhZGVyOmxvb2s=").await));

    assert_eq!(admin.get("/info").await.json(200)["user"], "admin");
    assert_eq!(admin.get("/deployments?exclude_configs=true").await.json(200), json!([]));
    assert_eq!(reader.get("/deployments?exclude_configs=true").await.json(200), json!([]));
    let refusal = reader.post("/cleanup", Body::Json(json!({}))).await.refusal(401, 600_000);
    assert!(refusal.starts_with("Require one of the scopes: bosh.admin, bosh."), "{refusal}");
    let task = admin.wait(admin.post("/cleanup", Body::Json(json!({}))).await).await.done();
    assert_eq!(task.record["user"], "admin");
    let debug = format!("/tasks/{}/output?type=debug", task.id);
    assert_eq!((reader.get(&debug).await.status, admin.get(&debug).await.status), (401, 200));
}

#[tokio::test]
async fn wrong_credentials_get_no_token_and_no_answer() {
    let lab = Lab::configured(&CONFIG.replace("LIFETIME", "3600"));
    let nobody = Api::anonymous(&lab);
    let form = "grant_type=client_credentials&client_id=reader&client_secret=look";
    assert_eq!(json_of(&nobody.form("/oauth/token", form).await, 200)["scope"], "bosh.read");
    let table = [
        (form.replace("look", "wrong"), 401, "unauthorized"),
        (GRANT.to_owned(), 401, "unauthorized"),
        ("grant_type=password&username=admin&password=secret".to_owned(), 400, "unsupported_grant_type"),
        (String::new(), 400, "unsupported_grant_type"),
    ];
    for (form, status, error) in table {
        assert_eq!(json_of(&nobody.form("/oauth/token", &form).await, status)["error"], error, "{form}");
    }

    let good = token(&lab, "Basic YWRtaW46c2VjcmV0").await;
    for wrong in ["Basic YWRtaW46c2VjcmV0".to_owned(), "bearer x.y.z".to_owned(), format!("bearer {good}x")] {
        let stranger = Api::anonymous(&lab).with(&wrong);
        let refusal = stranger.get("/deployments").await;
        assert_eq!((refusal.status, refusal.text()), (401, "Not authorized: '/deployments'\n"), "{wrong}");
        assert_eq!(stranger.get("/info").await.json(200)["user"], Value::Null);
    }
}

#[tokio::test]
async fn a_token_is_good_until_it_expires() {
    let lab = Lab::configured(&CONFIG.replace("LIFETIME", "2"));
    let api = Api::anonymous(&lab).with(&format!("bearer {}", token(&lab, "Basic YWRtaW46c2VjcmV0").await));
    assert_eq!(api.get("/deployments").await.status, 200);

    let deadline = Instant::now() + Duration::from_secs(20);
    while api.get("/deployments").await.status == 200 {
        assert!(Instant::now() < deadline, "it is good for ever");
    }

    let refusal = api.get("/deployments").await;
    assert_eq!((refusal.status, refusal.text()), (401, "Not authorized: '/deployments'\n"));
    let another = Api::anonymous(&lab).with(&format!("bearer {}", token(&lab, "Basic YWRtaW46c2VjcmV0").await));
    assert_eq!(another.get("/deployments").await.status, 200);
}

/// The client subcommands: `env` shows whose token it is, and a task is followed for longer than a token lasts.
#[tokio::test]
async fn our_own_client_asks_for_a_token_and_for_the_next_one() {
    let lab = Lab::configured(&CONFIG.replace("LIFETIME", "2"));
    assert!(lab.run("env").lines().any(|line| line.starts_with("User") && line.contains("admin")));
    lab.run("update-cloud-config cloud.yml");
    lab.run("deploy manifest.yml -v given=5");
    let mut errand = lab.command("run-errand slow --instance=mysql/0");
    let errand = errand.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_slow = |line: &&str| line.contains("processing") && line.contains("run errand slow");
    let tasks = lab.until("tasks", |tasks| tasks.lines().any(|line| is_slow(&line)));
    let id = tasks.lines().find(is_slow).unwrap().split(' ').next().unwrap();
    let younger = Api::anonymous(&lab).with(&format!("bearer {}", token(&lab, "Basic YWRtaW46c2VjcmV0").await));

    let deadline = Instant::now() + Duration::from_secs(20);
    while younger.get("/deployments").await.status == 200 {
        assert!(Instant::now() < deadline, "it is good for ever");
    }
    lab.run(&format!("cancel-task {id}"));

    let ended = errand.wait_with_output().unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.contains("Exit Code  143\n"), "{text}{}", String::from_utf8_lossy(&ended.stderr));
    let stranger = lab.fail("deployments --client nobody");
    assert!(stranger.contains("the UAA does not know this client"), "{stranger}");
}

#[tokio::test]
async fn a_director_without_a_uaa_gives_no_tokens() {
    let lab = Lab::start();
    let answer = Api::anonymous(&lab).form("/oauth/token", GRANT).await;
    assert_eq!((answer.status, answer.text()), (404, "Endpoint '/oauth/token' not found."));
}
