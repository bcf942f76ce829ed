//! One service instance of a test: provisioned through the broker, looked at through director and agents.

use agent::api::{Role, Status};
use agent::config::Tls;
use anyhow::{Context, Result, ensure};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

use crate::broker::{self, DB_LEADER_FOLLOWER};
use crate::director::{ErrandRun, Instance};
use crate::mysql::Credentials;
use crate::stack::Stack;

/// A service instance on a stack.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Where it runs.
    pub stack: &'a Stack,
    id: uuid::Uuid,
    plan: &'static str,
}

/// A binding of a service instance.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its id.
    pub id: String,
    /// Its credentials.
    pub credentials: Credentials,
}

/// Who is who in a pair.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The one that can be written to.
    pub leader: Instance,
    /// The other one.
    pub follower: Instance,
}

impl<'a> Service<'a> {
    /// Provision an instance and wait for it.
    ///
    /// # Errors
    /// The provision fails.
    pub async fn provision(stack: &'a Stack, plan: &'static str) -> Result<Service<'a>> {
        let service = Service { stack, id: uuid::Uuid::new_v4(), plan };
        stack.broker.provisioned(&service.id(), plan).await?;
        Ok(service)
    }

    /// One that is there already.
    ///
    /// # Errors
    /// The id is none.
    pub fn of(stack: &'a Stack, id: &str, plan: &'static str) -> Result<Service<'a>> {
        Ok(Service { stack, id: id.parse().context("read the service instance's id")?, plan })
    }

    /// Provision a leader and a follower.
    ///
    /// # Errors
    /// The provision fails.
    pub async fn pair_on(stack: &'a Stack) -> Result<Service<'a>> {
        Service::provision(stack, DB_LEADER_FOLLOWER).await
    }

    /// Change the instance and wait for it. `plan` is the one that it has then.
    ///
    /// # Errors
    /// The update fails.
    pub async fn updated(self, plan: &'static str, changes: &serde_json::Value) -> Result<Service<'a>> {
        let answer = self.stack.broker.update(&self.id(), changes).await?;
        ensure!(answer.status == 202, "the update was answered with {}: {}", answer.status, answer.body);
        let end = self.stack.broker.settled(&self.id()).await?;
        ensure!(end["state"] == "succeeded", "the update ended as {end}");
        Ok(Service { plan, ..self })
    }

    /// The service instance's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// Its deployment.
    #[must_use]
    pub fn deployment(&self) -> String {
        broker::deployment_of(&self.id())
    }

    /// Bind.
    ///
    /// # Errors
    /// The broker does not answer with 201 and credentials.
    pub async fn bind(&self) -> Result<Binding> {
        let id = broker::new_id();
        let answer = self.stack.broker.bind(&self.id(), self.plan, &id).await?;
        ensure!(answer.status == 201, "bind was answered with {}: {}", answer.status, answer.body);
        Ok(Binding { id, credentials: Credentials::from_answer(&answer.body)? })
    }

    /// Unbind.
    ///
    /// # Errors
    /// The broker does not answer with 200.
    pub async fn unbind(&self, binding: &Binding) -> Result<()> {
        let answer = self.stack.broker.unbind(&self.id(), self.plan, &binding.id).await?;
        ensure!(
            answer.status == 200 && answer.body == serde_json::json!({}),
            "unbind was answered with {}: {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// Deprovision and wait for it.
    ///
    /// # Errors
    /// The deprovision fails.
    pub async fn delete(self) -> Result<()> {
        self.stack.broker.deprovisioned(&self.id(), self.plan).await
    }

    /// The instances of the deployment, by index.
    ///
    /// # Errors
    /// The director does not answer.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        self.stack.director.instances(&self.deployment()).await
    }

    /// A client of an instance's agent, with the keys of the deployment.
    ///
    /// # Errors
    /// The instance has no VM.
    pub fn agent(&self, instance: &Instance) -> Result<agent::Client> {
        let mut config = self.stack.director.instance_config(instance, "mysql-agent")?;
        let tls: Tls = serde_json::from_value(config["properties"]["tls"].take()).context("read the agent's keys")?;
        let address = instance.ip().parse().context("read the instance's address")?;
        agent::Client::new(address, &self.deployment(), &tls).context("make a client of the agent")
    }

    /// What an instance's agent says.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, instance: &Instance) -> Result<Status> {
        self.agent(instance)?.status().await.with_context(|| format!("ask the agent of {}", instance.slug()))
    }

    /// The administrator's way into an instance's server, through its socket, as on the VM itself.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn administrator(&self, instance: &Instance) -> Result<MySqlConnection> {
        let config = self.stack.director.instance_config(instance, "mysql-agent")?;
        let password = config["properties"]["admin_password"].as_str().context("read the administrator's password")?;
        let socket = self.stack.director.vm_root(instance)?.join("sys/run/mysql/mysqld.sock");
        let options = MySqlConnectOptions::new().socket(socket).username("admin").password(password);
        options.connect().await.with_context(|| format!("connect to {} as its administrator", instance.slug()))
    }

    /// Who is who.
    ///
    /// # Errors
    /// There is not exactly one leader and one follower.
    pub async fn pair(&self) -> Result<Pair> {
        let (mut leader, mut follower, mut others) = (None, None, Vec::new());
        for instance in self.instances().await? {
            let status = self.status(&instance).await?;
            match status.role {
                Role::Leader if leader.is_none() => leader = Some(instance),
                Role::Follower if follower.is_none() => follower = Some(instance),
                Role::Leader | Role::Follower | Role::Unknown => others.push(status),
            }
        }
        let pair = leader.zip(follower).filter(|_| others.is_empty());
        let (leader, follower) = pair.with_context(|| format!("not a leader and a follower; besides: {others:?}"))?;
        Ok(Pair { leader, follower })
    }

    /// Run an errand on one instance.
    ///
    /// # Errors
    /// The task fails. An exit code other than 0 is not an error here.
    pub async fn errand(&self, name: &str, on: &Instance) -> Result<ErrandRun> {
        self.stack.director.errand_on(&self.deployment(), name, on).await
    }

    /// `stop`, `start`, `restart` or `recreate` one instance.
    ///
    /// # Errors
    /// The task fails.
    pub async fn act(&self, action: &str, on: &Instance) -> Result<()> {
        self.stack.director.act(&self.deployment(), action, on).await
    }
}

impl ErrandRun {
    /// The run of an errand that exits with 0.
    ///
    /// # Errors
    /// It exits with another code.
    pub fn succeeded(self) -> Result<ErrandRun> {
        ensure!(self.exit_code == 0, "exit code {}:\n{}{}", self.exit_code, self.stdout, self.stderr);
        Ok(self)
    }

    /// What an errand that exits with another code than 0 printed.
    ///
    /// # Errors
    /// It exits with 0.
    pub fn refused(self) -> Result<String> {
        ensure!(self.exit_code != 0, "the errand succeeded:\n{}", self.stdout);
        Ok(format!("{}{}", self.stdout, self.stderr))
    }
}
