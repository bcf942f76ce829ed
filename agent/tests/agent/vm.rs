//! A VM for a test: a directory, an address, and the real agent with a real server, gone when the test ends in any way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use agent::Client;
use agent::api::{Status, User};
use agent::config::Tls;
use serde_json::json;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tempfile::TempDir;

use crate::authority::authority;
use crate::family;
pub(crate) use crate::session::{connect, signal, user};
use crate::witness::Witness;

pub(crate) const DEPLOYMENT: &str = "service-instance_test";
pub(crate) const NAME: &str = "service-instance-test";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Short, since every failover of a test waits for it; long enough for the pauses of a busy machine.
const LEASE_MS: u64 = 3_000;

/// One VM.
pub(crate) struct Vm {
    pub(crate) address: String,
    pub(crate) cid: String,
    pub(crate) client: Client,
    /// A pair's third voter.
    pub(crate) witness: Option<Arc<Witness>>,
    root: PathBuf,
    directory: TempDir,
    agent: Option<Child>,
    /// How long the log was when the agent was started.
    log_before_start: usize,
}

/// The VMs of a deployment; none is started yet.
pub(crate) fn deployment(size: u32) -> Vec<Vm> {
    deployment_with(size, &json!({}))
}

/// As [`deployment`], with properties of the plan.
pub(crate) fn deployment_with(size: u32, properties: &serde_json::Value) -> Vec<Vm> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let net = std::process::id() % 250;
    let addresses: Vec<String> =
        (0..size).map(|_| format!("127.83.{net}.{}", NEXT.fetch_add(1, Ordering::Relaxed))).collect();
    let instances: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| json!({"name": "mysql", "id": format!("id-{index}"), "index": index, "az": "z1", "address": address, "bootstrap": index == 0}))
        .collect();
    let tls = authority().issue(NAME);
    let third = || format!("127.83.{net}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let witness = (size == 2).then(|| Arc::new(Witness::start(&third())));
    let vm = |index: usize| Vm::new(index, &addresses[index], &json!(instances), &tls, witness.clone());
    let vms: Vec<Vm> = (0..addresses.len()).map(vm).collect();
    vms.iter().for_each(|vm| vm.set_properties(properties));
    vms
}

impl Vm {
    fn new(index: usize, address: &str, instances: &serde_json::Value, tls: &Tls, witness: Option<Arc<Witness>>) -> Vm {
        let directory = tempfile::Builder::new().prefix("agent").tempdir().unwrap();
        let root = directory.path();
        for made in ["jobs/mysql-agent", "disk", "data", "sys/run", "sys/log/mysql-agent", "packages"] {
            std::fs::create_dir_all(root.join(made)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("disk"), root.join("store")).unwrap();
        // Kept between the runs of the tests, as it is between the VMs of a director.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(cache, root.join("packages/cache")).unwrap();
        if *family::IS_MYSQL {
            std::os::unix::fs::symlink(family::mysql_package(), root.join("packages/mysql")).unwrap();
        }
        let is_pair = instances.as_array().unwrap().len() == 2;
        let mut config = json!({
            "spec": {"deployment": DEPLOYMENT, "name": "mysql", "id": format!("id-{index}"), "index": index, "az": "z1",
                     "ip": address, "address": address, "bootstrap": index == 0, "root": root, "persistent_disk": 5120,
                     "vm_resources": {"cpu": 1, "ram": 256}},
            "links": {"mysql": {"instances": instances}},
            "properties": {"topology": if is_pair { "leader-follower" } else { "single-node" }, "admin_password": r#"ad'm"i\n"#, "tls": tls, "server": family::name()},
        });
        if is_pair {
            config["properties"]["replication_password"] = json!("re'pl\\");
            config["properties"]["lease_ttl_in_ms"] = json!(LEASE_MS);
        }
        if let Some(witness) = &witness {
            config["properties"]["witness"] = json!({"host": witness.address});
        }
        std::fs::write(root.join("jobs/mysql-agent/config.json"), config.to_string()).unwrap();
        let client = Client::new(address.parse().unwrap(), DEPLOYMENT, tls).unwrap();
        let cid = format!("vm-{}-{address}", std::process::id());
        Vm {
            address: address.into(),
            cid,
            client,
            witness,
            root: directory.path().into(),
            directory,
            agent: None,
            log_before_start: 0,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root().join("jobs/mysql-agent/config.json")
    }

    fn set_properties(&self, properties: &serde_json::Value) {
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap();
        for (name, value) in properties.as_object().unwrap() {
            config["properties"][name] = value.clone();
        }
        std::fs::write(self.config(), config.to_string()).unwrap();
    }

    /// Put everything into a deeper directory.
    pub(crate) fn move_down(&mut self, path: &str) {
        let old = self.root.clone();
        let deep = self.directory.path().join(path);
        std::fs::create_dir_all(&deep).unwrap();
        for entry in ["jobs", "disk", "data", "sys", "packages"] {
            std::fs::rename(old.join(entry), deep.join(entry)).unwrap();
        }
        std::os::unix::fs::symlink(deep.join("disk"), deep.join("store")).unwrap();
        self.root = deep;
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap();
        config["spec"]["root"] = json!(self.root);
        std::fs::write(self.config(), config.to_string()).unwrap();
    }

    /// Run the agent until it ends by itself.
    pub(crate) fn run_to_the_end(&self) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mysql-agent"));
        command.arg("--config").arg(self.config()).env("TANDEM_VM_CID", &self.cid).output().unwrap()
    }

    /// Start the agent.
    pub(crate) fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.agent_log()).unwrap();
        self.log_before_start = log.metadata().unwrap().len() as usize;
        let mut command = Command::new(env!("CARGO_BIN_EXE_mysql-agent"));
        command.arg("--config").arg(self.config()).current_dir(self.root());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TANDEM_VM_CID", &self.cid);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
    }

    pub(crate) fn agent_log(&self) -> PathBuf {
        self.root().join("sys/log/mysql-agent/stdout.log")
    }

    /// Ask the agent to end, as a director does, and wait until it has.
    pub(crate) fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        signal(agent.id(), "-TERM");
        let begun = Instant::now();
        let exit = loop {
            match agent.try_wait().unwrap() {
                Some(exit) => break exit,
                None if begun.elapsed() > PATIENCE => {
                    self.agent = Some(agent);
                    panic!("the agent did not end: {}", std::fs::read_to_string(self.agent_log()).unwrap_or_default());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(exit.success(), "{exit}");
    }

    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub(crate) fn kill_server(&self) {
        signal(self.server_pid().unwrap(), "-KILL");
    }

    /// End every process, as a crash of the VM does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // A child of a dead agent is gone when /proc says so, and its sockets a moment later.
        let begun = Instant::now();
        let listens = || std::net::TcpStream::connect((self.address.as_str(), 3306)).is_ok();
        loop {
            let left = self.processes();
            if left.is_empty() && !listens() {
                return;
            }
            if begun.elapsed() > PATIENCE {
                // A second panic would end all tests, without a word about the first.
                assert!(std::thread::panicking(), "{left:?} of {} cannot be killed", self.cid);
                return;
            }
            left.into_iter().for_each(|pid| signal(pid, "-KILL"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Make the VM anew, with nothing but its disk.
    pub(crate) fn recreate(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.root().join("sys/run")).unwrap();
        std::fs::create_dir_all(self.root().join("sys/run")).unwrap();
        self.start();
    }

    pub(crate) fn replace_disk(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.root().join("disk")).unwrap();
        std::fs::create_dir_all(self.root().join("disk")).unwrap();
    }

    pub(crate) fn server_pid(&self) -> Option<u32> {
        let is_server = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            ["mariadbd", "mysqld"].contains(&name.trim())
        };
        self.processes().into_iter().find(is_server)
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// The processes of this VM, known by their environment; a zombie has none.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("TANDEM_VM_CID={}", self.cid);
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        self.client.status().await.ok()
    }

    /// Wait until the status is as it should be.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Status) -> bool) -> Status {
        let begun = Instant::now();
        loop {
            match self.client.status().await {
                Ok(status) if is_so(&status) => return status,
                status if begun.elapsed() > PATIENCE => {
                    let log = std::fs::read_to_string(self.agent_log()).unwrap_or_default();
                    panic!("{what} did not come: {status:?}\n{log}");
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub(crate) async fn until_up(&self) -> Status {
        self.until("an answer", |_| true).await
    }

    /// Wait until the agent says something in its log.
    pub(crate) async fn until_logged(&self, said: &str) {
        let begun = Instant::now();
        while !self.log_since_start().contains(said) {
            assert!(begun.elapsed() < PATIENCE, "{said:?} is not logged:\n{}", self.log_since_start());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log_since_start(&self) -> String {
        let log = std::fs::read(self.agent_log()).unwrap_or_default();
        String::from_utf8_lossy(&log[self.log_before_start.min(log.len())..]).into_owned()
    }

    /// Wait until the agent has looked at both servers after its start and has left this one read-only.
    pub(crate) async fn until_left_read_only(&self) -> Status {
        self.until_logged("the server stays read-only").await;
        self.until_up().await
    }

    /// A session of the agent's own account.
    pub(crate) async fn admin(&self) -> MySqlConnection {
        self.admin_if_up().await.unwrap()
    }

    pub(crate) async fn admin_if_up(&self) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new().socket(self.root().join("sys/run/mysql/mysqld.sock"));
        MySqlConnection::connect_with(&options.username("admin").password(r#"ad'm"i\n"#)).await
    }

    pub(crate) async fn sql(&self, statement: &str) {
        let statement = AssertSqlSafe(family::in_its_words(statement));
        self.admin().await.execute(sqlx::raw_sql(statement)).await.unwrap();
    }

    /// Write on a read-only server.
    pub(crate) async fn write_anyway(&self, statement: &str) {
        match *family::IS_MYSQL {
            true => self.sql(&format!("SET GLOBAL super_read_only=0; {statement}; SET GLOBAL super_read_only=1")).await,
            false => self.sql(statement).await,
        }
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.row(query).await.get(0)
    }

    pub(crate) async fn text(&self, query: &str) -> String {
        self.row(query).await.get(0)
    }

    pub(crate) async fn row(&self, query: &str) -> MySqlRow {
        self.admin().await.fetch_one(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await.unwrap()
    }

    pub(crate) async fn until_number(&self, query: &str, wanted: i64) {
        let begun = Instant::now();
        while self.number(query).await != wanted {
            assert!(begun.elapsed() < PATIENCE, "{query} is not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A session of a binding's user over the network.
    pub(crate) async fn connect(&self, name: &str, user: &User) -> Result<MySqlConnection, sqlx::Error> {
        connect(&self.address, name, user).await
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}
