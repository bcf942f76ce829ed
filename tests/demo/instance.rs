//! The life of one service instance over the Open Service Broker API.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{self, DB_LEADER_FOLLOWER, SERVICE_ID};
use tests::mysql::{self, Credentials};
use tests::{Stack, Writer, director, eventually};

use crate::scene::{Curl, Scene};

/// Time between two rows of the writer.
const WRITER_PAUSE: Duration = Duration::from_millis(2);

/// The service instance of the demo.
pub(crate) struct Instance {
    pub(crate) id: String,
    /// Its deployment.
    pub(crate) deployment: String,
    curl: Curl,
}

/// Its binding, in use.
pub(crate) struct Binding {
    pub(crate) id: String,
    pub(crate) credentials: Credentials,
    pub(crate) writer: Writer,
}

/// One leader and one follower.
pub(crate) struct Pair {
    pub(crate) leader: director::Instance,
    pub(crate) follower: director::Instance,
}

impl Instance {
    /// `cf create-service p.mysql db-leader-follower`, as the platform sends it.
    pub(crate) async fn create(scene: &mut Scene, stack: &Stack) -> Result<Instance> {
        scene.step("Provision a service instance of plan db-leader-follower over the Open Service Broker API");
        let id = broker::new_id();
        let curl = Curl::new(stack.directory(), &stack.broker)?;
        let instance = Instance { deployment: broker::deployment_of(&id), id, curl };
        let body = broker::provision_body(DB_LEADER_FOLLOWER).to_string();
        let path = format!("/v2/service_instances/{}?accepts_incomplete=true", instance.id);
        let (status, _) = scene.curl(&instance.curl, &["-X", "PUT", "-d", &body], &path).await?;
        ensure!(status == 202, "a provision is accepted with 202");
        instance.poll(scene, stack).await?;
        scene.director(&stack.director, &["-d", &instance.deployment, "instances"]).await?;
        let instances = stack.director.instances(&instance.deployment).await?;
        ensure!(instances.len() == 2 && instances[0].az != instances[1].az, "two VMs in two AZs");
        Ok(instance)
    }

    /// `cf bind-service`, and an application that begins to write.
    pub(crate) async fn bind(&self, scene: &mut Scene, stack: &Stack) -> Result<Binding> {
        scene.step("Bind, and let a writer commit numbered rows through the binding's address from here to the end");
        let id = broker::new_id();
        let body = json!({"service_id": SERVICE_ID, "plan_id": DB_LEADER_FOLLOWER}).to_string();
        let path = format!("/v2/service_instances/{}/service_bindings/{id}", self.id);
        let (status, body) = scene.curl(&self.curl, &["-X", "PUT", "-d", &body], &path).await?;
        ensure!(status == 201, "a binding is made with 201");
        let credentials = Credentials::from_answer(&body)?;
        let writer = Writer::start(&credentials, WRITER_PAUSE).await?;
        writer.goes_on(100, Duration::from_secs(20)).await?;
        scene.say(&format!("the writer has {} rows acknowledged at {}", writer.count(), credentials.hostname));
        scene.director(&stack.director, &["-d", &self.deployment, "link-address"]).await?;
        Ok(Binding { id, credentials, writer })
    }

    /// The operator's first look.
    pub(crate) async fn inspect(&self, scene: &mut Scene, stack: &Stack) -> Result<Pair> {
        scene.step("Inspect: one leader, one follower");
        self.show(scene, stack).await
    }

    /// `inspect`, and who is who, as an operator reads it.
    pub(crate) async fn show(&self, scene: &Scene, stack: &Stack) -> Result<Pair> {
        let printed = scene.director(&stack.director, &["-d", &self.deployment, "run-errand", "inspect"]).await?;
        let instances = stack.director.instances(&self.deployment).await?;
        let with = |role: &str| {
            let mut blocks = printed.split("Instance   ").skip(1);
            let block = blocks.find(|block| block.contains(&format!("Role: {role}")))?;
            instances.iter().find(|instance| block.starts_with(&instance.slug())).cloned()
        };
        let pair = with("leader").zip(with("follower")).context("inspect must show one leader and one follower")?;
        Ok(Pair { leader: pair.0, follower: pair.1 })
    }

    /// `cf unbind-service`: the open session of the application is cut.
    pub(crate) async fn unbind(&self, scene: &mut Scene, stack: &Stack, user: &Credentials, id: &str) -> Result<()> {
        scene.step("Unbind: the user is dropped and its open session is cut");
        let mut session = user.connect().await?;
        let answer = mysql::text(&mut session, "SELECT CONNECTION_ID()").await?;
        scene.say(&format!("session {answer} of the binding's user is open"));
        let path = format!(
            "/v2/service_instances/{}/service_bindings/{id}?service_id={SERVICE_ID}&plan_id={DB_LEADER_FOLLOWER}",
            self.id
        );
        let (status, _) = scene.curl(&self.curl, &["-X", "DELETE"], &path).await?;
        ensure!(status == 200, "an unbind is answered with 200");
        let cut = mysql::text(&mut session, "SELECT 1").await.err().context("the session must be cut")?;
        scene.say(&format!("the session: {}", cut.root_cause()));
        let refused = user.connect().await.err().context("the user must be gone")?;
        scene.say(&format!("a new one: {}", refused.root_cause()));
        ensure!(stack.broker.get(&path).await?.status == 404, "the binding must be gone");
        Ok(())
    }

    /// `cf delete-service`.
    pub(crate) async fn delete(&self, scene: &mut Scene, stack: &Stack) -> Result<()> {
        scene.step("Deprovision");
        let path = format!(
            "/v2/service_instances/{}?accepts_incomplete=true&service_id={SERVICE_ID}&plan_id={DB_LEADER_FOLLOWER}",
            self.id
        );
        let (status, _) = scene.curl(&self.curl, &["-X", "DELETE"], &path).await?;
        ensure!(status == 202, "a deprovision is accepted with 202");
        self.poll(scene, stack).await
    }

    /// Poll `last_operation` as a platform does, and show each answer that says something new.
    async fn poll(&self, scene: &Scene, stack: &Stack) -> Result<()> {
        let path = format!("/v2/service_instances/{}/last_operation", self.id);
        scene.say(&format!("polling {path}"));
        let mut shown = String::new();
        let poll = eventually("the operation ends", Duration::from_secs(180), async || {
            let answer = stack.broker.get(&path).await?;
            let text = format!("HTTP {} {}", answer.status, answer.body);
            if text != shown {
                println!("     {text}");
            }
            shown = text;
            let over = answer.status == 410 || answer.body["state"] != "in progress";
            Ok(over.then_some(answer))
        });
        let end = scene.patiently("the operation goes on", poll).await?;
        ensure!(end.status == 410 || end.body["state"] == "succeeded", "the operation must succeed");
        Ok(())
    }
}
