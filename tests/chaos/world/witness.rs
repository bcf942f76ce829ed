//! The witness of a pair: the built broker in a network namespace of its own. It knows the pair as a service instance that
//! was asked for; there is no director that could make it, so that stays a wish.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::api::BROKER_NAME;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{self, Broker};
use tests::wait::until;
use tests::{eventually, processes, stack};

use super::network::{Network, Node};
use tests::Authority;

const LIMIT: Duration = Duration::from_secs(60);
/// The wish is given up after this long, which no run takes; the plan lets platforms poll for longer.
const OPERATION_MINUTES: u32 = 119;

/// The witness.
pub(crate) struct Witness {
    root: PathBuf,
    namespace: String,
    broker: Broker,
    process: Option<Child>,
}

impl Witness {
    /// Start it and tell it of the pair.
    pub(crate) async fn start_for(
        instance: &str,
        root: PathBuf,
        network: Network,
        authority: &Authority,
    ) -> Result<Witness> {
        let address = network.address(Node::Witness).to_string();
        for made in ["store/mysql-broker", "data", "sys/run", "sys/log", "packages", "jobs"] {
            std::fs::create_dir_all(root.join(made)).with_context(|| format!("make {made}"))?;
        }
        let tls = authority.issue(BROKER_NAME)?;
        let config = json!({
            "spec": {"deployment": "mysql-broker", "name": "mysql-broker", "id": "broker", "index": 0, "az": "z3",
                     "ip": address, "root": root},
            "properties": {
                "port": 8080, "username": "broker", "password": "broker-of-the-chaos",
                "encryption_key": "0123456789abcdef", "documents": stack::documents(), "agent_tls": tls,
                "operation_timeout_minutes": OPERATION_MINUTES,
                "director": {"url": "https://127.0.0.1:25555", "ca": tls.ca, "client": "nobody", "client_secret": "none"},
            },
        });
        std::fs::write(root.join("config.json"), config.to_string()).context("write the broker's config.json")?;
        let broker = Broker {
            url: format!("http://{address}:8080"),
            username: "broker".to_owned(),
            password: "broker-of-the-chaos".to_owned(),
        };
        let mut witness = Witness { root, namespace: network.namespace(Node::Witness), broker, process: None };
        witness.start()?;
        witness.until_up().await?;
        let answer = witness.broker.provision(instance, broker::DB_LEADER_FOLLOWER).await?;
        ensure!(answer.status == 202, "the broker answered the provision with {}: {}", answer.status, answer.body);
        Ok(witness)
    }

    /// Start it, unless it runs.
    pub(crate) fn start(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && process.try_wait().context("look after the broker")?.is_none()
        {
            return Ok(());
        }
        let log =
            std::fs::File::options().create(true).append(true).open(self.log()).context("open the broker's log")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--");
        command.arg(stack::programs()?.join("mysql-broker")).arg("--config").arg(self.root.join("config.json"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(&self.root);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("open the broker's log twice")?).stderr(log);
        self.process = Some(command.spawn().context("start the broker")?);
        Ok(())
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("sys/log/broker.log")
    }

    /// End it without a farewell.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stop its time.
    pub(crate) fn freeze(&self) {
        self.pid().into_iter().for_each(processes::pause);
    }

    /// Let it go on.
    pub(crate) fn thaw(&self) {
        self.pid().into_iter().for_each(processes::resume);
    }

    /// Ask it to end, and start it again.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.pid().into_iter().for_each(processes::terminate);
        if let Some(process) = &mut self.process {
            until("the broker ends", LIMIT, || !matches!(process.try_wait(), Ok(None))).await?;
        }
        self.start()
    }

    async fn until_up(&self) -> Result<()> {
        eventually("the broker serves its catalog", LIMIT, async || {
            Ok((self.broker.get("/v2/catalog").await?.status == 200).then_some(()))
        })
        .await
    }

    fn pid(&self) -> Option<i32> {
        self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok())
    }
}
