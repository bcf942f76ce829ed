//! How long a writer waits when nobody planned it: from `kill -9` to the first acknowledged write. What is killed is the
//! leader's server, whose agent lives on, or its whole VM; who acts is the pair itself, or an operator at once. The floor is a
//! script beside two bare servers that looks at the follower every millisecond. Each run has a pair of its own, because a pair
//! does not fail over by itself twice in ten minutes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row as _};
use tests::clients::Family;
use tests::mysql::{self, Credentials};
use tests::service::Pair;
use tests::{Service, Stack, Writer, eventually, processes};

use crate::floor::{Floor, Topology};
use crate::plans::{self, LEASE_MS, Mode};
use crate::settings::Settings;
use crate::switchover::{LIMIT, PAUSE, ROWS, failed_writes, lost_rows};
use crate::table::Row;
use crate::words;

/// A dead server whose agent lives.
const SERVER_TARGET: Duration = Duration::from_millis(250);
/// A dead VM: its lease, and then this.
const VM_TARGET: Duration = Duration::from_secs(1);
/// An agent looks on for three leases after its start before it acts by itself.
const FIRST_LOOK: Duration = Duration::from_millis(LEASE_MS * 3 + 1_000);
const NOTICE_PAUSE: Duration = Duration::from_millis(1);

/// What dies, and who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The server dies; its agent starts it again.
    ServerRestarted,
    /// The server dies; the pair acts.
    Server,
    /// The VM dies; an operator runs `failover` at once.
    VmByErrand,
    /// The VM dies; the pair acts.
    Vm,
}

impl Loss {
    const ALL: [Loss; 4] = [Loss::ServerRestarted, Loss::Server, Loss::VmByErrand, Loss::Vm];

    fn mode(self) -> Mode {
        match self {
            Loss::ServerRestarted | Loss::VmByErrand => Mode::Async,
            Loss::Server | Loss::Vm => Mode::SemiSync,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Loss::ServerRestarted => "dead server, failover: manual (it starts again)",
            Loss::Server => "dead server, failover: automatic",
            Loss::VmByErrand => "lost VM, errand failover at once",
            Loss::Vm => "lost VM, failover: automatic",
        }
    }

    /// What an asynchronous leader has acknowledged and not sent yet is gone with its VM, as its plan says. A server that died
    /// alone starts again with everything.
    fn may_lose_rows(self) -> bool {
        self == Loss::VmByErrand
    }

    fn target(self) -> Option<Duration> {
        match self {
            Loss::ServerRestarted => None,
            Loss::Server => Some(SERVER_TARGET),
            Loss::VmByErrand | Loss::Vm => Some(Duration::from_millis(LEASE_MS) + VM_TARGET),
        }
    }
}

/// Every loss, and the floor.
pub(crate) async fn measure(stack: &Stack, floor: &Floor, settings: &Settings, repetitions: u32) -> Result<Vec<Row>> {
    // Nobody brings a dead VM back meanwhile.
    stack.director.set_resurrection(false).await?;
    let (mut bare, mut errors_of_bare) = (Vec::new(), 0);
    for repetition in 1..=repetitions {
        floor.start(Topology::Pair, settings)?;
        let (outage, errors) = by_hand(floor).await?;
        floor.stop()?;
        eprintln!("unplanned by hand {repetition}/{repetitions}: {outage:?}");
        bare.push(outage);
        errors_of_bare += errors;
    }
    let mut rows = Vec::new();
    let (mut errors, mut lost_as_planned) = (0, 0);
    for loss in Loss::ALL {
        let Runs { outages, failed, lost } = runs(stack, floor.family, loss, repetitions).await?;
        errors += failed;
        match loss.may_lose_rows() {
            true => lost_as_planned += lost,
            false => errors += lost,
        }
        rows.push(Row::bound(&format!("{}, {}", floor.family.name(), loss.describe()), &outages, &bare, loss.target()));
    }
    rows.push(Row::count(
        &format!("{}, unplanned: write errors, lost rows", floor.family.name()),
        errors,
        errors_of_bare,
    ));
    rows.push(Row::beside(
        &format!("{}, {}: rows that only the lost VM had", floor.family.name(), Loss::VmByErrand.describe()),
        lost_as_planned.to_string(),
        "-",
        None,
    ));
    stack.director.set_resurrection(true).await?;
    Ok(rows)
}

/// What the runs of one loss came to.
#[derive(Default)]
struct Runs {
    outages: Vec<Duration>,
    failed: u64,
    lost: u64,
}

async fn runs(stack: &Stack, family: Family, loss: Loss, repetitions: u32) -> Result<Runs> {
    let mut services = Vec::new();
    for _ in 0..repetitions {
        services.push(Service::provision(stack, plans::pair(family, loss.mode())).await?);
    }
    let ready = Instant::now() + if loss.mode() == Mode::SemiSync { FIRST_LOOK } else { Duration::ZERO };
    eventually(
        "the agents have looked on for long enough",
        LIMIT,
        async || Ok((Instant::now() >= ready).then_some(())),
    )
    .await?;
    let mut runs = Runs::default();
    for (number, service) in services.into_iter().enumerate() {
        let outage = lose(&service, loss, &mut runs).await.with_context(|| loss.describe())?;
        eprintln!("{}, {} {}/{repetitions}: {outage:?}", family.name(), loss.describe(), number + 1);
        service.delete().await?;
    }
    Ok(runs)
}

async fn lose(service: &Service<'_>, loss: Loss, runs: &mut Runs) -> Result<Duration> {
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let targets = [&pair.leader, &pair.follower].map(|instance| credentials.at(instance.ip()));
    let writer = Writer::start_at(&targets, PAUSE).await?;
    writer.goes_on(ROWS, LIMIT).await?;
    if loss.mode() == Mode::SemiSync {
        eventually("the commits wait for the follower", LIMIT, async || {
            Ok(service.status(&pair.leader).await?.semi_sync.is_some_and(|sync| sync.in_sync).then_some(()))
        })
        .await?;
    }
    let killed = kill(service, &pair, loss)?;
    if loss == Loss::VmByErrand {
        service.errand("failover", &pair.follower).await?.succeeded()?;
    }
    // The follower leads now, unless its leader came back.
    writer.goes_on(ROWS, LIMIT).await?;
    let outage = writer.record().longest_gap_since(killed);
    let leader = leading(&targets).await?;
    let record = writer.finish().await?;
    runs.failed += failed_writes(&record);
    runs.lost += lost_rows(&record, &leader).await?;
    runs.outages.push(outage);
    Ok(outage)
}

fn kill(service: &Service<'_>, pair: &Pair, loss: Loss) -> Result<Instant> {
    let cid = pair.leader.cid.as_deref().context("the leader has a VM")?;
    let mut victims = processes::of_vm(service.stack.directory(), cid);
    victims.retain(|process| match loss {
        Loss::ServerRestarted | Loss::Server => matches!(process.program.as_str(), "mariadbd" | "mysqld"),
        Loss::VmByErrand | Loss::Vm => true,
    });
    ensure!(!victims.is_empty(), "nothing runs on {cid}");
    // Its supervisor first, and what starts servers before the servers.
    victims.sort_by_key(|process| (process.program != "tandem-director", process.program != "mysql-agent"));
    let killed = Instant::now();
    victims.iter().for_each(|process| processes::kill(process.pid));
    Ok(killed)
}

/// Whoever of the two can be written to.
async fn leading(targets: &[Credentials; 2]) -> Result<Credentials> {
    eventually("one of the servers is writable", LIMIT, async || {
        for target in targets {
            let Ok(mut connection) = target.connect().await else { continue };
            if mysql::text(&mut connection, "SELECT CAST(@@GLOBAL.read_only + 0 AS CHAR)").await? == "0" {
                return Ok(Some(target.clone()));
            }
        }
        Ok(None)
    })
    .await
}

/// Notice, apply what was received, stop, open.
async fn by_hand(floor: &Floor) -> Result<(Duration, u64)> {
    let targets = floor.application();
    let mut follower = floor.administrator(1).await?;
    let writer = Writer::start_at(&targets, PAUSE).await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let killed = Instant::now();
    processes::kill(floor.pid(0)?);
    loop {
        let status = replica_status(&mut follower).await?;
        if column(&status, &["Slave_IO_Running", "Replica_IO_Running"])? != "Yes" {
            break;
        }
        ensure!(killed.elapsed() < LIMIT, "the bare follower does not notice that its leader is dead");
        tokio::time::sleep(NOTICE_PAUSE).await;
    }
    let status = replica_status(&mut follower).await?;
    let received = column(&status, &["Gtid_IO_Pos", "Retrieved_Gtid_Set"])?;
    words::wait_for(floor.family, &mut follower, &received).await?;
    mysql::execute(&mut follower, "STOP REPLICA; SET GLOBAL read_only = OFF").await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let record = writer.finish().await?;
    // Nothing waits for the follower here: what is lost is not an error of the hands.
    let mut connection = targets[1].connect().await?;
    mysql::execute(&mut connection, "DROP TABLE numbered_rows").await?;
    Ok((record.longest_gap_since(killed), record.errors.values().sum()))
}

async fn replica_status(server: &mut MySqlConnection) -> Result<MySqlRow> {
    let status = server.fetch_one(sqlx::raw_sql(AssertSqlSafe("SHOW REPLICA STATUS".to_owned()))).await;
    status.context("ask the bare follower how it replicates")
}

/// The families have other names.
fn column(status: &MySqlRow, names: &[&str]) -> Result<String> {
    let found = names.iter().find_map(|name| status.try_get_unchecked::<String, _>(*name).ok());
    found.with_context(|| format!("find {names:?} in the status of the bare follower"))
}
