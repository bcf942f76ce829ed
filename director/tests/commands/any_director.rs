//! One scenario for every director: the calls of the `bosh` CLI as they were recorded, through the whole life of one
//! deployment. It demands only what a real director is known to do, and sees any director only by its address. Ours is always
//! asked, with both kinds of authentication; a real one where the environment names it (see the README).
//!
//! The deployment has a name of its own and is deleted at the end, also of a scenario that fails. Nothing else of the
//! director is changed.

mod deploying;
mod end;
mod given;
mod instances;
mod introduction;
mod manifest;
mod tasks;

use std::io::Write;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::{Answer, Api, Body, column, task_of};
use crate::lab::Lab;
use given::{Given, VARIABLES};
use manifest::Manifest;

const SKIPPED: &str = "NOT TESTED: a real director; set TANDEM_BOSH_ENVIRONMENT, TANDEM_BOSH_CLIENT, \
    TANDEM_BOSH_CLIENT_SECRET, TANDEM_BOSH_CA_CERT and TANDEM_BOSH_MANIFEST";

/// A deployment of its own, and the director that has it.
struct Check {
    director: Api,
    /// The same director, asked without credentials.
    stranger: Api,
    client: String,
    deployment: String,
    manifest: Manifest,
    errand: Option<String>,
}

impl Check {
    async fn of(given: &Given) -> Self {
        let deployment = format!("tandem-check-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        Self {
            director: given.director().await,
            stranger: given.stranger(),
            client: given.client.clone(),
            manifest: Manifest::named(&given.manifest, &deployment),
            errand: given.errand.clone(),
            deployment,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/deployments/{}{rest}", self.deployment)
    }

    async fn get(&self, rest: &str) -> Answer {
        self.director.get(&self.path(rest)).await
    }

    /// Of one instance of the group that is moved about.
    fn instance(&self, id: &str, action: &str) -> String {
        self.path(&format!("/instance_groups/{}/{id}/{action}", self.manifest.group()))
    }

    /// `bosh instances --details`, the lowest index of each group first.
    async fn instances(&self) -> Vec<Value> {
        let task = self.director.wait(self.get("/instances?format=full").await).await.done();
        assert_eq!(task.record["description"], "retrieve vm-stats");
        let mut rows: Vec<Value> = task.result.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| (row["job_name"].to_string(), row["index"].as_u64()));
        rows
    }

    /// The first instance of the group that is moved about.
    async fn first(&self) -> Value {
        let group = json!(self.manifest.group());
        self.instances().await.into_iter().find(|row| row["job_name"] == group).expect("an instance of the group")
    }
}

/// What is left of the deployment goes, however the work ends.
async fn cleanly<F: Future<Output = ()> + Send + 'static>(check: Check, work: impl FnOnce(Arc<Check>) -> F) {
    let check = Arc::new(check);
    let worked = tokio::spawn(work(check.clone())).await;
    end::clean_up(&check).await;
    if let Err(failed) = worked {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// The deployment's life.
async fn walk(check: Arc<Check>) {
    let check = &check;
    introduction::knows_who_asks(check).await;
    introduction::shows_its_configs(check).await;
    introduction::knows_no_such_deployment(check).await;
    deploying::keeps_a_deployment_whose_first_deploy_fails(check).await;
    deploying::deploys(check).await;
    deploying::shows_what_it_deployed(check).await;
    instances::lists_them(check).await;
    deploying::changes_nothing_for_the_same_or_a_wrong_manifest(check).await;
    instances::moves_one(check).await;
    instances::leaves_an_ignored_one_alone(check).await;
    instances::finds_no_problems(check).await;
    instances::runs_errands(check).await;
    tasks::has_one_writer_at_a_time(check).await;
    tasks::lists_them(check).await;
    tasks::tells_of_them_in_the_events(check).await;
    end::deletes(check).await;
}

#[tokio::test]
async fn our_director_with_users_of_its_own() {
    let lab = Lab::start();
    lab.run("update-cloud-config cloud.yml");

    cleanly(Check::of(&Given::of(&lab)).await, walk).await;

    has_nothing_left(&Api::of(&lab)).await;
}

#[tokio::test]
async fn a_scenario_that_fails_leaves_nothing_behind() {
    let lab = Lab::start();
    lab.run("update-cloud-config cloud.yml");
    let check = Check::of(&Given::of(&lab)).await;
    let fails = async |check: Arc<Check>| {
        deploying::deploys(&check).await;
        let ignored = Body::Json(json!({"ignore": true}));
        check.director.put(&check.instance("0", "ignore"), ignored).await.is_empty_with(200);
        let everywhere = Body::Json(json!({"instances": []}));
        task_of(&check.director.post(&check.path("/errands/slow/runs"), everywhere).await);
        panic!("somewhere in the middle");
    };

    let failed = tokio::spawn(cleanly(check, fails)).await.unwrap_err().into_panic();

    assert_eq!(failed.downcast_ref(), Some(&"somewhere in the middle"));
    has_nothing_left(&Api::of(&lab)).await;
}

async fn has_nothing_left(director: &Api) {
    for path in ["/deployments", "/disks", "/locks"] {
        assert_eq!(director.get(path).await.json(200), json!([]), "{path}");
    }
}

/// A real director, usually.
#[tokio::test]
async fn the_director_of_the_environment() {
    match Given::by(|name| std::env::var(name).ok()) {
        Ok(Some(given)) => cleanly(Check::of(&given).await, walk).await,
        // Not `eprintln`: nobody sees that of a test that passes.
        Ok(None) => std::io::stderr().write_all(format!("{SKIPPED}\n").as_bytes()).unwrap(),
        Err(what) => panic!("{what}"),
    }
}

/// The test of that name, in a process with this environment.
fn with_environment(environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["any_director::the_director_of_the_environment", "--exact"]);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

/// Ours as a stranger: its address and all else come from the environment, as a real one's. It is its own UAA, and its tokens
/// are good for two seconds.
#[tokio::test]
async fn our_director_with_a_uaa_as_a_stranger() {
    let lab =
        Lab::configured("authentication: uaa\ntoken_lifetime_in_seconds: 2\nusers: [{name: admin, password: secret}]");
    lab.run("update-cloud-config cloud.yml");
    let manifest = lab.directory().join("given.yml");
    std::fs::write(&manifest, lab.manifest()).unwrap();
    let ca = lab.directory().join("state/tls/ca.pem");

    let output = with_environment(&[
        ("TANDEM_BOSH_ENVIRONMENT", &lab.address(250)),
        ("TANDEM_BOSH_CLIENT", "admin"),
        ("TANDEM_BOSH_CLIENT_SECRET", "secret"),
        ("TANDEM_BOSH_CA_CERT", ca.to_str().unwrap()),
        ("TANDEM_BOSH_MANIFEST", manifest.to_str().unwrap()),
        ("TANDEM_BOSH_ERRAND", "hello"),
    ]);

    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    assert!(!stderr.contains("NOT TESTED"), "{stderr}");
    let director = Given::of(&lab).director().await;
    let tasks = director.get("/tasks?limit=1000").await.json(200);
    let errand = "run errand hello from deployment tandem-check-";
    assert!(column(&tasks, "description").iter().any(|description| description.starts_with(errand)), "{tasks}");
    has_nothing_left(&director).await;
}

#[test]
fn a_director_that_is_not_tested_is_told_to_everybody() {
    let skipped = with_environment(&[]);
    let half = with_environment(&[("TANDEM_BOSH_ENVIRONMENT", "10.0.0.6"), ("TANDEM_BOSH_CLIENT", "admin")]);

    assert!(skipped.status.success() && String::from_utf8_lossy(&skipped.stderr).contains(SKIPPED), "{skipped:?}");
    let text = String::from_utf8_lossy(&half.stdout).into_owned() + &String::from_utf8_lossy(&half.stderr);
    let missing = "not TANDEM_BOSH_CLIENT_SECRET, TANDEM_BOSH_CA_CERT, TANDEM_BOSH_MANIFEST";
    assert!(!half.status.success() && text.contains(missing), "{text}");
}
