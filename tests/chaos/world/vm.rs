//! A VM: a network namespace, a directory, a disk of a limited size, and the built agent, which starts the server. What a
//! director does for it (start its job again, make it anew on the same disk) is done by whoever holds it.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::Client;
use agent::config::Tls;
use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tests::wait::until;
use tests::{mysql, processes};

use super::mount_memory;
use super::wall_clock::WallClock;
use crate::cell::{Jump, Part};

pub(crate) const ADMIN_PASSWORD: &str = "admin-of-the-chaos";
/// The size of the persistent disk.
const DISK_MB: u64 = 700;
const LIMIT: Duration = Duration::from_secs(30);
/// Far more than any lease.
const CLOCK_AHEAD: Duration = Duration::from_secs(3600);
pub(super) const SERVERS: [&str; 2] = ["mariadbd", "mysqld"];

/// Where MySQL is, if it is on this machine.
pub(crate) fn mysql_package() -> Result<PathBuf> {
    Ok(tests::stack::programs()?.with_file_name("mysql"))
}

/// What a VM is made of.
pub(crate) struct Plan {
    pub(crate) root: PathBuf,
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
    /// `config.json`.
    pub(crate) config: Value,
    pub(crate) deployment: String,
    pub(crate) tls: Tls,
}

/// A VM.
pub(crate) struct Vm {
    pub(crate) client: Client,
    root: PathBuf,
    namespace: String,
    mark: String,
    agent: Option<Child>,
    /// How far ahead its monotonic clock is.
    clock_ahead: Duration,
    /// One that can jump; the machine's otherwise.
    wall_clock: Option<WallClock>,
}

impl Vm {
    /// Make it; nothing runs yet.
    pub(crate) fn make(plan: Plan, cache: &Path) -> Result<Vm> {
        let Plan { root, namespace, address, config, deployment, tls } = plan;
        mount_memory(&root.join("disk"), DISK_MB)?;
        for made in ["jobs/mysql-agent", "data", "sys/run", "sys/log/mysql-agent", "packages"] {
            std::fs::create_dir_all(root.join(made)).with_context(|| format!("make {made}"))?;
        }
        symlink(root.join("disk"), root.join("store")).context("attach the disk")?;
        std::fs::create_dir_all(cache).context("make the cache")?;
        symlink(cache, root.join("packages/cache")).context("attach the cache")?;
        symlink(mysql_package()?, root.join("packages/mysql")).context("attach the package of MySQL")?;
        std::fs::write(root.join("jobs/mysql-agent/config.json"), config.to_string()).context("write config.json")?;
        let client = Client::new(address.into(), &deployment, &tls)?;
        let mark = format!("chaos-{namespace}");
        Ok(Vm { client, root, namespace, mark, agent: None, clock_ahead: Duration::ZERO, wall_clock: None })
    }

    /// Start the agent, unless it runs.
    pub(crate) fn start(&mut self) -> Result<()> {
        if let Some(agent) = &mut self.agent
            && agent.try_wait().context("look after the agent")?.is_none()
        {
            return Ok(());
        }
        let program = tests::stack::programs()?.join("mysql-agent");
        let log =
            std::fs::File::options().create(true).append(true).open(self.log()).context("open the agent's log")?;
        let mut command = Command::new("unshare");
        let ahead = self.clock_ahead.as_secs().to_string();
        command.args(["--time", "--monotonic", &ahead, "--boottime", &ahead, "--", "nsenter"]);
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command.arg("--config").arg(self.root.join("jobs/mysql-agent/config.json")).current_dir(&self.root);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TANDEM_VM_CID", &self.mark);
        if let Some(clock) = &self.wall_clock {
            command.envs(clock.environment());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().context("open the agent's log twice")?).stderr(log);
        self.agent = Some(command.spawn().context("start the agent")?);
        Ok(())
    }

    /// From its next start on, the VM's monotonic clock counts from another moment. Only a reboot does that.
    pub(crate) fn turn_clock(&mut self) {
        self.clock_ahead = if self.clock_ahead.is_zero() { CLOCK_AHEAD } else { Duration::ZERO };
    }

    pub(crate) fn has_wall_clock(&self) -> bool {
        self.wall_clock.is_some()
    }

    /// From its next start on, the VM has a wall clock of its own.
    pub(crate) fn give_wall_clock(&mut self) -> Result<()> {
        self.wall_clock = Some(WallClock::make(&self.root)?);
        Ok(())
    }

    /// Let the wall clock jump, or come back.
    pub(crate) fn set_wall_clock(&self, jump: Option<Jump>) -> Result<()> {
        self.wall_clock.as_ref().context("the VM has no wall clock of its own")?.set(jump)
    }

    /// The agent's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("sys/log/mysql-agent/stdout.log")
    }

    /// The server's.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.root.join("sys/log/mysql/mysqld.log")
    }

    /// The persistent disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    /// Where a replaced leader saves what only it has.
    pub(crate) fn saved(&self) -> PathBuf {
        self.disk().join("mysql/saved")
    }

    /// End a part without a farewell. The agent, or who does its work for it, may start a server again meanwhile.
    pub(crate) async fn kill(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Server | Part::Agent => {
                self.pids(part).into_iter().for_each(processes::kill);
                if part == Part::Agent {
                    self.collect();
                }
                Ok(())
            }
            Part::Whole => {
                until("the VM is dead", LIMIT, || {
                    let left = self.pids(Part::Whole);
                    left.iter().copied().for_each(processes::kill);
                    left.is_empty()
                })
                .await?;
                self.collect();
                // In memory on a VM: a new or rebooted one has none of it.
                let run = self.root.join("sys/run");
                std::fs::remove_dir_all(&run).and_then(|()| std::fs::create_dir_all(&run)).context("empty sys/run")
            }
        }
    }

    /// Ask a part to end; the agent is waited for.
    pub(crate) async fn terminate(&mut self, part: Part) -> Result<()> {
        self.pids(part).into_iter().for_each(processes::terminate);
        let Some(agent) = self.agent.as_mut().filter(|_| part != Part::Server) else { return Ok(()) };
        until("the agent ends", LIMIT, || !matches!(agent.try_wait(), Ok(None))).await
    }

    /// Stop the time of a part. Clients are at the server's sockets, so the server stops first and goes on first: the
    /// hardest order for whoever watches over it.
    pub(crate) fn freeze(&self, part: Part) {
        self.pids(part).into_iter().for_each(processes::pause);
    }

    /// Let everything go on.
    pub(crate) fn thaw(&self) {
        self.pids(Part::Whole).into_iter().for_each(processes::resume);
    }

    /// The processes of a part, the server's first. They are known by their environment; a dead one has none.
    pub(crate) fn pids(&self, part: Part) -> Vec<i32> {
        let agent = self.agent.as_ref().and_then(|agent| i32::try_from(agent.id()).ok());
        if part == Part::Agent {
            return agent.into_iter().filter(|pid| processes::is_alive(*pid)).collect();
        }
        let mark = format!("TANDEM_VM_CID={}", self.mark);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut found: Vec<(bool, i32)> = pids
            .filter(|pid| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            })
            .map(|pid| (!is_server(pid), pid))
            .filter(|(is_other, _)| part == Part::Whole || !is_other)
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, pid)| pid).collect()
    }

    /// A session of the agent's own account.
    pub(crate) async fn admin(&self) -> Result<MySqlConnection> {
        let socket = self.root.join("sys/run/mysql/mysqld.sock");
        let options = MySqlConnectOptions::new().socket(socket).username("admin").password(ADMIN_PASSWORD);
        let connecting = tokio::time::timeout(LIMIT, options.connect()).await;
        connecting.context("the server does not answer on its socket")?.context("connect to the server's socket")
    }

    /// What the server takes for the time, since 1970.
    pub(crate) async fn server_time(&self) -> Result<Duration> {
        let seconds = mysql::text(&mut self.admin().await?, "SELECT CAST(UNIX_TIMESTAMP() AS CHAR)").await?;
        Ok(Duration::from_secs(seconds.parse().context("read the server's time")?))
    }

    fn collect(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn is_server(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    SERVERS.contains(&name.trim())
}
