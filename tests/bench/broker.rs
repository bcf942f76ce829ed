//! The broker itself, on simulated VMs: how fast it answers, what an answer costs, what it asks of the director while nobody
//! asks it, and how large it is. No MySQL runs. The figures beside it are those of a peer, measured on another day on a
//! machine of the same size: compare processor time per request, not requests per second.

mod bare;
mod client;
mod finished;
mod start;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{DB_SINGLE, deployment_of, new_id, provision_body};
use tests::simulation::{self, count, fault, sum};
use tests::stack::Wiring;
use tests::{Stack, eventually, processes};

use crate::table::Row;
use bare::Bare;
use client::{Load, Platform};

/// Enough for the processor clock of a process, which ticks every hundredth of a second.
const CATALOGS: usize = 20_000;
const POLLS: usize = 10_000;
const PROVISIONS: usize = 200;
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const IN_FLIGHT: usize = 100;
/// Until a broker that has just started is idle.
const SETTLING: Duration = Duration::from_secs(1);
/// How long nobody asks the broker anything.
const QUIET: Duration = Duration::from_secs(10);
/// Longer than all that is done with operations in flight.
const LONG_MS: u64 = 600_000;
const FINISHED: u32 = 10_000;
const STARTS: usize = 7;
const LIMIT: Duration = Duration::from_secs(120);

/// What every measurement works with.
struct Bench {
    stack: Stack,
    platform: Platform,
    /// The broker's process.
    pid: i32,
    rows: Vec<Row>,
}

/// All of it, on a stack of its own.
pub(crate) async fn measure(rows: &mut Vec<Row>) -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let platform = Platform::of(&stack.broker)?;
    let programs = processes::of_stack(stack.directory());
    let pid = programs.iter().find(|process| process.program == "mysql-broker").context("find the broker")?.pid;
    let mut bench = Bench { stack, platform, pid, rows: Vec::new() };
    let measured = bench.all().await;
    // What was measured before an error counts, too.
    rows.append(&mut bench.rows);
    bench.stack.shutdown()?;
    measured
}

impl Bench {
    async fn all(&mut self) -> Result<()> {
        tokio::time::sleep(SETTLING).await;
        self.memory("idle", "18-19 MB", Some(15.0))?;
        let polled = new_id();
        self.stack.broker.provisioned(&polled, DB_SINGLE).await?;
        self.woken().await?;
        self.answers(&polled, "").await?;
        self.provisions("").await?;
        self.memory("after load", "25-32 MB", None)?;
        self.in_flight("").await?;
        self.refused_body().await?;
        start::measure(&self.stack, STARTS, "empty", &mut self.rows).await?;
        let database = finished::database(&self.stack)?;
        finished::multiply(&database, &polled, FINISHED).await?;
        let many = format!(", {FINISHED} finished");
        self.answers(&polled, &many).await?;
        self.provisions(&many).await?;
        self.in_flight(&many).await?;
        self.memory(&format!("at the end{many}"), "-", None)
    }

    /// What one connection costs whatever answers.
    async fn woken(&mut self) -> Result<()> {
        let bare = Bare::start(self.stack.broker.get("/v2/catalog").await?.body.to_string().len())?;
        let (platform, request) = (self.platform.at(bare.address), self.platform.request("GET", "/v2/catalog", None));
        let mut load = client::load(&platform, 1, CATALOGS, |_| request.clone()).await?;
        load.cpu = bare.cpu()?;
        let measured = format!("{:.3} ms CPU, {}", load.cpu_ms(), load.pace());
        self.rows.push(Row::beside("a bare read and write of a catalog's size, 1 connections", measured, "-", None));
        Ok(())
    }

    /// The catalog and the polls of one instance.
    async fn answers(&mut self, polled: &str, when: &str) -> Result<()> {
        let catalog = self.platform.request("GET", "/v2/catalog", None);
        let path = format!("/v2/service_instances/{polled}/last_operation");
        let poll = self.platform.request("GET", &path, None);
        let peers = [("0.18-0.26", "1.9-2.1"), ("0.14-0.17", "1.4-1.7"), ("0.14-0.19", "1.3-1.6")];
        for (connections, (catalog_peer, poll_peer)) in CONNECTIONS.into_iter().zip(peers) {
            let load = self.load(connections, CATALOGS, |_| catalog.clone()).await?;
            self.cost(&format!("catalog, {connections} connections{when}"), &load, 200, catalog_peer, 0.03)?;
            let load = self.load(connections, POLLS, |_| poll.clone()).await?;
            self.cost(&format!("last_operation, {connections} connections{when}"), &load, 200, poll_peer, 0.06)?;
        }
        Ok(())
    }

    /// New instances, whatever the director does meanwhile.
    async fn provisions(&mut self, when: &str) -> Result<()> {
        for (latency_ms, peers) in
            [(0, ["26-29 ms, 32-37/s", "214-266 ms, 30-37/s"]), (50, ["277-284 ms, 3.5/s", "2.2 s, 3.5/s"])]
        {
            let slow = fault("*", "request", "delay", json!({"latency_ms": latency_ms}));
            simulation::set_faults(&self.stack.director, &json!([slow])).await?;
            for (connections, peer) in [1, 8].into_iter().zip(peers) {
                let ids: Vec<String> = (0..PROVISIONS).map(|_| new_id()).collect();
                let body = provision_body(DB_SINGLE).to_string();
                let request = |at: usize| {
                    let path = format!("/v2/service_instances/{}?accepts_incomplete=true", ids[at]);
                    self.platform.request("PUT", &path, Some(&body))
                };
                let load = self.load(connections, PROVISIONS, request).await?;
                let what = format!("provision accepted, {connections} connections, director {latency_ms} ms{when}");
                self.speed(&what, &load, peer)?;
                simulation::set_faults(&self.stack.director, &json!([])).await?;
                self.all_ended(&ids).await?;
                simulation::set_faults(&self.stack.director, &json!([slow])).await?;
            }
        }
        simulation::clear(&self.stack.director).await
    }

    /// What the broker does about operations that take long, while nobody asks it.
    async fn in_flight(&mut self, when: &str) -> Result<()> {
        let director = &self.stack.director;
        simulation::set_faults(director, &json!([fault("*", "deploy", "delay", json!({"latency_ms": LONG_MS}))]))
            .await?;
        let ids: Vec<String> = (0..IN_FLIGHT).map(|_| new_id()).collect();
        for id in &ids {
            self.stack.broker.provision(id, DB_SINGLE).await?;
        }
        eventually("the director has every request", LIMIT, async || {
            let mut sent = true;
            for id in &ids {
                let requests = simulation::requests(director, Some(&deployment_of(id))).await?;
                sent &= count(&requests, "POST /deployments") == 1;
            }
            Ok(sent.then_some(()))
        })
        .await?;
        for age in ["at first", "later"] {
            let (before, begun, started) =
                (self.usage()?, sum(&simulation::requests(director, None).await?), Instant::now());
            eprintln!("{IN_FLIGHT} operations in flight{when}, {age}: watching for {} s", QUIET.as_secs());
            tokio::time::sleep(QUIET).await;
            let elapsed = started.elapsed().as_secs_f64();
            let cpu = (self.usage()?.cpu.saturating_sub(before.cpu)).as_secs_f64() / elapsed * 100.0;
            let rate = (sum(&simulation::requests(director, None).await?) - begun) as f64 / elapsed;
            self.rows.push(Row::beside(
                &format!("{IN_FLIGHT} operations in flight, no client, {age}{when}"),
                format!("{rate:.1} director requests/s, {cpu:.1} % CPU"),
                "325-390/s, 37-46 %",
                Some(("<= 20/s".to_owned(), rate <= 20.0)),
            ));
        }
        self.memory(&format!("{IN_FLIGHT} operations in flight{when}"), "24 MB", None)?;
        for id in &ids {
            self.stack.broker.deprovision(id, DB_SINGLE).await?;
        }
        simulation::clear(&self.stack.director).await?;
        self.all_ended(&ids).await
    }

    async fn refused_body(&mut self) -> Result<()> {
        let body = format!(r#"{{"filler":"{}"}}"#, "x".repeat(20 << 20));
        let path = format!("/v2/service_instances/{}?accepts_incomplete=true", new_id());
        let request = self.platform.request("PUT", &path, Some(&body));
        // A server that refuses early may close before everything is written.
        let answered = self.platform.send_once(&request).await;
        ensure!(answered.as_ref().ok().is_none_or(|status| *status == 413), "20 MB were answered with {answered:?}");
        self.memory("after a refused body of 20 MB", "175 MB", None)
    }

    /// Wait until no operation of these instances is in progress.
    async fn all_ended(&self, ids: &[String]) -> Result<()> {
        for id in ids {
            self.stack.broker.settled(id).await?;
        }
        Ok(())
    }

    async fn load(&self, connections: usize, times: usize, request: impl Fn(usize) -> Vec<u8>) -> Result<Load> {
        let before = self.usage()?.cpu;
        let mut load = client::load(&self.platform, connections, times, request).await?;
        load.cpu = self.usage()?.cpu.saturating_sub(before);
        Ok(load)
    }

    fn usage(&self) -> Result<processes::Usage> {
        processes::usage(self.pid).context("the broker ended while it was measured")
    }

    fn cost(&mut self, what: &str, load: &Load, status: u16, peer: &str, target: f64) -> Result<()> {
        load.all_are(status)?;
        let cpu = load.cpu_ms();
        let peer = format!("{peer} ms CPU");
        let target = Some((format!("<= {target} ms CPU"), cpu <= target));
        self.rows.push(Row::beside(what, format!("{cpu:.3} ms CPU, {}", load.pace()), &peer, target));
        Ok(())
    }

    fn speed(&mut self, what: &str, load: &Load, peer: &str) -> Result<()> {
        load.all_are(202)?;
        let is_met = load.percentile(50) <= Duration::from_millis(5) && load.per_second() >= 500.0;
        let target = Some(("p50 <= 5 ms, >= 500/s".to_owned(), is_met));
        self.rows.push(Row::beside(what, format!("{}, {:.2} ms CPU", load.pace(), load.cpu_ms()), peer, target));
        Ok(())
    }

    fn memory(&mut self, when: &str, peer: &str, target_mb: Option<f64>) -> Result<()> {
        let resident = self.usage()?.resident_kb as f64 / 1024.0;
        let target = target_mb.map(|most| (format!("< {most} MB"), resident < most));
        self.rows.push(Row::beside(&format!("resident memory, {when}"), format!("{resident:.1} MB"), peer, target));
        Ok(())
    }
}
