//! The judge is tested on a pair that deserves it: two bare servers with asynchronous replication and nobody who fences.
//! What they do wrong must be found; what a careful operator does with them must pass.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use tests::clients::{self, Clients, Family, Way, holdings};
use tests::history::{History, Side};
use tests::judge::{Broken, Ending, Holdings, Loss, judge, lost};
use tests::mysql::Credentials;
use tests::stack::guard::Guard;
use tests::wait::until;
use tests::{mysql, processes};

const LIMIT: Duration = Duration::from_secs(60);
/// What the two servers need to know to be a pair.
const SETTINGS: &str = "[mysqld]\nskip_slave_start=ON\ngtid_strict_mode=ON\nlog_slave_updates=ON\nbinlog_format=ROW\n\
    skip_name_resolve=ON\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=16M\nrelay_log=mysql-relay\n";

/// The term is a row, written by hand with each promotion.
const WAY: Way = Way { family: Family::Mariadb, term: "(SELECT MAX(term) FROM terms)" };

/// Two bare servers, the first one leads.
struct Bare {
    directory: PathBuf,
    servers: [Credentials; 2],
    guard: Option<Guard>,
}

impl Bare {
    fn start() -> Result<Bare> {
        let directory = tempfile::Builder::new().prefix("tandem-bare-").tempdir().context("make a directory")?.keep();
        let guard = Guard::start(&tests::stack::programs()?, &directory)?;
        let servers = [2, 3].map(|host| application(&format!("127.{}.200.{host}", guard.block)));
        let bare = Bare { directory, servers, guard: Some(guard) };
        std::fs::write(bare.settings(), SETTINGS).context("write the settings")?;
        let settings = bare.settings().display().to_string();
        bare.script(&["template"], &[&settings])?;
        bare.script(&["pair"], &[&settings, &bare.servers[0].hostname, &bare.servers[1].hostname])?;
        Ok(bare)
    }

    fn settings(&self) -> PathBuf {
        self.directory.join("my.cnf")
    }

    fn script(&self, mode: &[&str], arguments: &[&str]) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/floor.sh");
        let output = Command::new(script).args(mode).arg(&self.directory).args(arguments).output()?;
        ensure!(output.status.success(), "floor.sh {mode:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn name(side: Side) -> &'static str {
        match side {
            Side::A => "leader",
            Side::B => "follower",
        }
    }

    fn pid(&self, side: Side) -> Result<i32> {
        let path = self.directory.join(Bare::name(side)).join("process");
        std::fs::read_to_string(path)?.trim().parse().context("read the number of a server's process")
    }

    async fn admin(&self, side: Side, sql: &str) -> Result<()> {
        let socket = self.directory.join(Bare::name(side)).join("socket");
        let mut session = MySqlConnectOptions::new().socket(socket).username("root").connect().await?;
        mysql::execute(&mut session, sql).await.map(drop)
    }

    async fn text(&self, side: Side, sql: &str) -> Result<String> {
        mysql::text(&mut self.servers[side.index()].connect().await?, sql).await
    }

    async fn clients(&self) -> Result<Clients> {
        clients::make_table(&self.servers[0]).await?;
        let terms = "CREATE TABLE terms (term BIGINT UNSIGNED PRIMARY KEY); INSERT INTO terms VALUES (1)";
        mysql::execute(&mut self.servers[0].connect().await?, terms).await?;
        let clients = Clients::start(WAY, &self.servers, None);
        acknowledges(&clients, Side::A, 50).await?;
        Ok(clients)
    }

    async fn holdings(&self, patience: Duration) -> Result<[Holdings; 2]> {
        holdings::settled(Family::Mariadb, &self.servers, patience).await
    }

    async fn promote(&self, side: Side, term: u32) -> Result<()> {
        let number = format!("INSERT INTO service_instance_db.terms VALUES ({term})");
        self.admin(side, &format!("STOP SLAVE; RESET SLAVE ALL; {number}; SET GLOBAL read_only = OFF")).await
    }

    fn remove(mut self) -> Result<()> {
        self.guard.take().map_or(Ok(()), Guard::finish)
    }
}

fn application(address: &str) -> Credentials {
    Credentials {
        hostname: address.to_owned(),
        port: 3306,
        name: "service_instance_db".to_owned(),
        username: "application".to_owned(),
        password: "application".to_owned(),
        uri: String::new(),
        jdbc_url: String::new(),
    }
}

/// Wait until the server has acknowledged `count` attempts that begin from now on.
async fn acknowledges(clients: &Clients, server: Side, count: usize) -> Result<()> {
    let now = clients.now();
    until("the server acknowledges", LIMIT, || clients.acknowledged_by(server, now) >= count).await
}

fn ending(holdings: [Holdings; 2]) -> Ending {
    Ending { leader: Side::B, holdings, loss: Loss::Forbidden }
}

fn stale(broken: &[Broken]) -> Vec<(Side, usize)> {
    let stale = broken.iter().filter_map(|broken| match broken {
        Broken::StaleAcknowledgement { server, count, .. } => Some((*server, *count)),
        _ => None,
    });
    stale.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_that_nobody_fenced_is_found_out() -> Result<()> {
    let bare = Bare::start()?;
    let clients = bare.clients().await?;

    processes::pause(bare.pid(Side::A)?);
    bare.promote(Side::B, 2).await?;
    acknowledges(&clients, Side::B, 50).await?;
    processes::resume(bare.pid(Side::A)?);
    acknowledges(&clients, Side::A, 50).await?;
    let history = clients.finish().await?;
    let holdings = bare.holdings(Duration::ZERO).await?;

    let broken = judge(&history, &ending(holdings.clone()));
    let [(Side::A, count)] = stale(&broken)[..] else { panic!("no stale acknowledgement: {broken:?}") };
    assert!(count >= 50, "{broken:?}");
    assert!(broken.iter().any(|broken| matches!(broken, Broken::BothWritable { .. })), "{broken:?}");
    assert!(broken.iter().any(|broken| matches!(broken, Broken::Lost(rows) if rows.len() >= count)), "{broken:?}");
    assert!(broken.iter().any(|broken| matches!(broken, Broken::Different { .. })), "{broken:?}");
    said_so_in_full(&history, &holdings);
    bare.remove()
}

/// A pair that admits its whole loss has still had two leaders, and one that hides a row of it is found out.
fn said_so_in_full(history: &History, holdings: &[Holdings; 2]) {
    let all = lost(history, &holdings[1]);
    let hidden = all.iter().skip(1).copied().collect();
    let under = |reported| judge(history, &Ending { loss: Loss::Reported(reported), ..ending(holdings.clone()) });

    let broken = under(all);
    assert!(!broken.iter().any(|broken| matches!(broken, Broken::Unreported(_) | Broken::Lost(_))), "{broken:?}");
    assert!(!stale(&broken).is_empty());
    let broken = under(hidden);
    assert!(broken.iter().any(|broken| matches!(broken, Broken::Unreported(rows) if rows.len() == 1)), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_promoted_without_its_relay_log_is_found_out() -> Result<()> {
    let bare = Bare::start()?;
    let clients = bare.clients().await?;

    bare.admin(Side::B, "STOP SLAVE SQL_THREAD").await?;
    acknowledges(&clients, Side::A, 50).await?;
    bare.admin(Side::A, "SET GLOBAL read_only = ON").await?;
    bare.promote(Side::B, 2).await?;
    acknowledges(&clients, Side::B, 50).await?;
    let history = clients.finish().await?;
    let broken = judge(&history, &ending(bare.holdings(Duration::ZERO).await?));

    assert!(stale(&broken).is_empty(), "one after the other, they led: {broken:?}");
    assert!(broken.iter().any(|broken| matches!(broken, Broken::Lost(rows) if rows.len() >= 50)), "{broken:?}");
    bare.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn careful_switches_there_and_back_keep_every_promise() -> Result<()> {
    let bare = Bare::start()?;
    let clients = bare.clients().await?;

    let make_user = "SET SESSION sql_log_bin = 0; CREATE USER replication@'%' IDENTIFIED BY 'replication'; \
        GRANT REPLICATION SLAVE ON *.* TO replication@'%'";
    bare.admin(Side::B, make_user).await?;
    for (old, term) in [(Side::A, 2), (Side::B, 3), (Side::A, 4)] {
        bare.admin(old, "SET GLOBAL read_only = ON").await?;
        let position = bare.text(old, "SELECT @@gtid_binlog_pos").await?;
        bare.admin(old.other(), &format!("SELECT MASTER_GTID_WAIT('{position}', 30)")).await?;
        bare.promote(old.other(), term).await?;
        let follow = format!(
            "SET GLOBAL gtid_slave_pos = '{position}'; CHANGE MASTER TO MASTER_HOST = '{}', MASTER_USER = 'replication', \
             MASTER_PASSWORD = 'replication', MASTER_USE_GTID = slave_pos; START SLAVE",
            bare.servers[old.other().index()].hostname
        );
        bare.admin(old, &follow).await?;
        acknowledges(&clients, old.other(), 50).await?;
    }
    let history = clients.finish().await?;
    let broken = judge(&history, &ending(bare.holdings(LIMIT).await?));

    assert_eq!(broken.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert!(history.samples.len() > 100, "the looks at both servers went on");
    bare.remove()
}
