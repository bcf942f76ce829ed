//! The broker dies at every step of everything that it can be asked for, on simulated servers, and with either state database
//! (`tests/with-postgres.sh` gives PostgreSQL). The steps are the requests to the director and to the agents that an
//! undisturbed life shows. After each death the same request comes again, as from a platform that got no answer; the act must
//! end well, and there must be exactly what it makes: at the director, on the servers, and in the database.
//! `broker_killed.rs` has the core of it on real servers.

mod act;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tests::broker::{Answer, Broker, deployment_of};
use tests::proxy::{Hold, Side};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::steps::{Step, hold, kills_of};
use tests::{OwnBroker, Stack, eventually};

use act::{Act, After, LIFE, Names};

const LIMIT: Duration = Duration::from_secs(60);
/// Lives at the same time: a broker that has lost an answer waits for it more than it works.
const LANES: usize = 7;
/// More questions to agents than this are the same one again.
const QUESTIONS: u64 = 4;

/// Where the broker dies.
#[derive(Clone, PartialEq, Eq)]
enum Point {
    Director(Step, Side),
    /// At so many questions to agents after the first.
    Agent(u64, Side),
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Director(step, side) => write!(f, "{side:?} {step:?}"),
            Point::Agent(question, side) => write!(f, "{side:?} question {question} to an agent"),
        }
    }
}

/// One service instance with its binding.
struct Life<'a> {
    stack: &'a Stack,
    own: &'a mut OwnBroker,
    names: Names,
    /// The platform takes a binding back whose making was not answered, instead of asking again.
    takes_back: bool,
}

impl Life<'_> {
    fn broker(&self) -> &Broker {
        &self.own.broker
    }

    /// Do it undisturbed; the answer is where a broker can die meanwhile.
    async fn watch(&mut self, act: Act) -> Result<Vec<Point>> {
        let start = self.own.proxy.seen().len();
        self.slow_agent("delay", u64::from(u32::MAX)).await?;
        let answer = self.names.ask(self.broker(), act).await?;
        ensure!(answer.status == act.answers().0, "{act:?}: {answer:?}");
        self.settle(act).await?;
        let asked = simulation::seen(&self.stack.director).await?.first().copied().unwrap_or_default();
        let mut points: Vec<Point> = kills_of(&self.own.proxy.seen()[start..])
            .into_iter()
            .map(|(step, side)| Point::Director(step, side))
            .collect();
        for question in 0..asked.min(QUESTIONS) {
            points.push(Point::Agent(question, Side::Before));
            // Only these change something on a server.
            points.extend(act.is_synchronous().then_some(Point::Agent(question, Side::After)));
        }
        Ok(points)
    }

    /// Do it, and kill the broker there. False where it does not come by.
    async fn disturb(&mut self, act: Act, point: &Point) -> Result<bool> {
        let hold = self.hold(point).await?;
        let (names, broker) = (self.names.clone(), self.broker().clone());
        let asked = tokio::spawn(async move { names.ask(&broker, act).await });
        let is_reached = eventually("the step is held or the act ends", LIMIT, async || {
            if self.is_reached(hold.as_ref()).await? {
                return Ok(Some(true));
            }
            let has_ended = asked.is_finished() && (act.is_synchronous() || !self.is_in_progress().await?);
            Ok(has_ended.then_some(false))
        })
        .await?;
        if is_reached {
            self.own.kill()?;
        }
        drop(hold);
        let first = asked.await.context("await the request")?;
        if !is_reached {
            let status = first?.status;
            ensure!(status == act.answers().0, "the answer was {status}");
            return self.settle(act).await.map(|()| false);
        }
        self.own.start_again().await?;
        self.ask_again(act, first.ok().as_ref()).await?;
        self.settle(act).await?;
        Ok(true)
    }

    async fn ask_again(&self, act: Act, first: Option<&Answer>) -> Result<()> {
        if act == Act::Bind && self.takes_back {
            let taken_back = self.names.ask(self.broker(), Act::Unbind).await?;
            ensure!(matches!(taken_back.status, 200 | 410), "the binding was taken back: {taken_back:?}");
            self.holds(After { bindings: 0, ..LIFE[0].1 }).await.context("the binding was taken back")?;
        }
        let again = self.names.ask(self.broker(), act).await?;
        ensure!(act.answers().1.contains(&again.status), "asked again: {again:?}");
        let operation = first.map_or(&Value::Null, |first| &first.body["operation"]);
        let is_other = again.status == 202 && !operation.is_null() && again.body["operation"] != *operation;
        ensure!(!is_other, "asked again, another operation: {again:?} after {first:?}");
        Ok(())
    }

    async fn is_in_progress(&self) -> Result<bool> {
        Ok(self.broker().last_operation(&self.names.instance).await?.body["state"] == "in progress")
    }

    async fn hold(&self, point: &Point) -> Result<Option<Hold>> {
        match point {
            Point::Director(step, side) => Ok(Some(hold(&self.own.proxy, step, *side))),
            Point::Agent(question, side) => {
                let kind = if *side == Side::Before { "delay" } else { "delay_answer" };
                self.slow_agent(kind, *question).await.map(|()| None)
            }
        }
    }

    /// The one fault: after so many questions the agents need longer than the test.
    async fn slow_agent(&self, kind: &str, after: u64) -> Result<()> {
        let slow = json!({"after": after, "count": 1, "latency_ms": LIMIT.as_millis() as u64});
        let slow = fault(&deployment_of(&self.names.instance), "agent", kind, slow);
        simulation::set_faults(&self.stack.director, &json!([slow])).await
    }

    async fn is_reached(&self, hold: Option<&Hold>) -> Result<bool> {
        let Some(hold) = hold else {
            let shown = self.stack.director.get("/simulation").await?["faults"][0].take();
            return Ok(shown["seen"].as_u64() > shown["fault"]["after"].as_u64().or(Some(0)));
        };
        Ok(hold.is_reached())
    }

    /// The operation ends, and there is exactly what is to be.
    async fn settle(&self, act: Act) -> Result<()> {
        let end = self.broker().settled(&self.names.instance).await?;
        ensure!(end["state"] == "succeeded" || (act == Act::Delete && end["state"] == "gone"), "it ended as {end}");
        let after = LIFE.iter().find(|(other, _)| *other == act).context("find the act")?.1;
        self.holds(after).await
    }

    async fn holds(&self, after: After) -> Result<()> {
        let director = &self.stack.director;
        let deployment = deployment_of(&self.names.instance);
        let (mut expected, mut instances) = (vec!["mysql-broker".to_owned()], vec![]);
        if after.servers > 0 {
            expected.push(deployment.clone());
            instances = director.instances(&deployment).await?;
        }
        let mut deployments = director.deployments().await?;
        deployments.sort();
        ensure!(deployments == expected, "the deployments are {deployments:?}");
        ensure!(instances.len() == after.servers, "the instances are {instances:?}");
        let vms = director.get("/simulation").await?["vms"].take();
        ensure!(vms == json!({"all": after.servers, "running": after.servers}), "the VMs are {vms}");
        let users: Vec<Vec<String>> =
            instances.iter().map(|instance| simulation::users(self.stack, instance)).collect::<Result<_>>()?;
        let wanted = self.username(after).await?;
        ensure!(users.concat() == wanted, "the users are {users:?} and not {wanted:?}");
        for (what, count) in [
            ("create deployment", after.deployed),
            ("run errand configure-leader-follower", after.configured),
            ("delete deployment", usize::from(after.servers == 0)),
        ] {
            let tasks = director.get(&format!("/tasks?deployment={deployment}&limit=100&verbose=1")).await?;
            let of = |task: &&Value| task["description"].as_str().is_some_and(|text| text.starts_with(what));
            let tasks: Vec<&Value> = tasks.as_array().into_iter().flatten().filter(of).collect();
            let is_done = tasks.iter().all(|task| task["state"] == "done");
            ensure!(is_done && tasks.len() == count, "{what}: {} tasks and not {count}: {tasks:?}", tasks.len());
        }
        self.rows(after).await
    }

    /// The name of the user that there has to be.
    async fn username(&self, after: After) -> Result<Vec<String>> {
        let Names { instance, binding, .. } = &self.names;
        if after.bindings == 0 {
            return Ok(vec![]);
        }
        let path = format!("/v2/service_instances/{instance}/service_bindings/{binding}");
        let fetched = self.broker().call(Method::GET, &path, None).await?;
        let username = fetched.body["credentials"]["username"].as_str();
        Ok(vec![username.with_context(|| format!("fetch the binding: {fetched:?}"))?.to_owned()])
    }

    async fn rows(&self, after: After) -> Result<()> {
        let id = &self.names.instance;
        let living = i64::from(after.servers > 0);
        let bindings = i64::try_from(after.bindings)?;
        for (rows, expected) in [
            ("service_instances WHERE deleted_at IS NULL".to_owned(), living),
            (format!("service_instances WHERE id = '{id}'"), 1),
            (format!("operations WHERE instance_id = '{id}'"), after.operations),
            ("operations WHERE state <> 'succeeded'".to_owned(), 0),
            ("service_bindings".to_owned(), bindings),
            ("service_bindings WHERE state = 'created'".to_owned(), bindings),
            ("witness_records".to_owned(), 0),
        ] {
            let count = self.own.database.count(&rows).await?;
            ensure!(count == expected, "there are {count} rows of {rows}, and not {expected}");
        }
        // A worker lets go after its operation has ended.
        eventually("nothing is claimed", LIMIT, async || {
            let instances = self.own.database.count("service_instances WHERE claimed_by IS NOT NULL").await?;
            let bindings = self.own.database.count("service_bindings WHERE claimed_by IS NOT NULL").await?;
            Ok((instances + bindings == 0).then_some(()))
        })
        .await
    }

    /// There is something to upgrade to.
    async fn prepare(&self, act: Act) -> Result<()> {
        if act != Act::Upgrade {
            return Ok(());
        }
        let catalog = self.own.catalog()?;
        let (before, rest) = catalog.split_once("maintenance_info: {version: ").context("find the version")?;
        let (old, _) = rest.split_once(',').context("find the version")?;
        ensure!(!before.is_empty(), "the catalog begins with a version");
        self.own
            .offer(
                &catalog.replace(&format!("version: {old},"), &format!("version: {},", self.names.version)),
                &self.names.version,
            )
            .await
    }
}

/// The lives of one lane, on a stack of its own; how often the broker was killed in each act.
async fn lives(points: &[Vec<Point>], numbers: impl Iterator<Item = usize>) -> Result<[usize; LIFE.len()]> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let mut own = OwnBroker::start(&stack).await?;
    let mut kills = [0; LIFE.len()];
    for number in numbers {
        let names = Names::new(number);
        let mut life = Life { stack: &stack, own: &mut own, names, takes_back: number % 2 == 1 };
        for (at, (act, _)) in LIFE.into_iter().enumerate() {
            life.prepare(act).await?;
            match points[at].get(number) {
                Some(point) => {
                    let killed = life.disturb(act, point).await;
                    let killed = killed.with_context(|| format!("life {number}: {act:?}, killed {point:?}"))?;
                    kills[at] += usize::from(killed);
                }
                None => drop(life.watch(act).await.with_context(|| format!("life {number}: {act:?}"))?),
            }
        }
    }
    drop(own);
    stack.shutdown()?;
    Ok(kills)
}

/// What an undisturbed life shows: where the broker can die in each act.
async fn undisturbed() -> Result<Vec<Vec<Point>>> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let mut own = OwnBroker::start(&stack).await?;
    let mut points = Vec::new();
    let mut life = Life { stack: &stack, own: &mut own, names: Names::new(0), takes_back: false };
    for (act, _) in LIFE {
        life.prepare(act).await?;
        points.push(life.watch(act).await.with_context(|| format!("{act:?}, undisturbed"))?);
    }
    drop(own);
    stack.shutdown()?;
    Ok(points)
}

#[tokio::test]
async fn a_broker_killed_at_any_step_of_any_act_leaves_exactly_what_was_asked_for() -> Result<()> {
    let points = undisturbed().await?;
    let count = points.iter().map(Vec::len).max().unwrap_or_default();

    let lanes = (0..LANES).map(|lane| lives(&points, (lane..count).step_by(LANES)));
    let kills = try_join_all(lanes).await?;

    for (at, (act, _)) in LIFE.into_iter().enumerate() {
        let (kills, found): (usize, usize) = (kills.iter().map(|lane| lane[at]).sum(), points[at].len());
        eprintln!("{act:?}: killed {kills} times at {found} points");
        ensure!(kills >= 5 && kills + 3 >= found, "{act:?}: killed {kills} times only, at {:?}", points[at]);
    }
    Ok(())
}
