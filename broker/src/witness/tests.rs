//! The witness over real TLS and a real state database.

mod kept;
mod several;

use std::time::Duration;

use agent::VoterClient;
use agent::api::{BROKER_NAME, certificate_name};
use agent::client::Error;
use agent::config::Tls;
use agent::quorum::{Answer, Ballot, Record, Release, Renewal};
use axum_server::Handle;
use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::task::JoinHandle;

use super::*;
use crate::admission::Attributes;
use crate::app::App;
use crate::app::fixture::{app, app_at};
use crate::clock::Timestamp;
use crate::ids::InstanceId;
use crate::manifest::deployment_name;
use crate::store::instances;

const LEASE_MS: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp(1);

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str]) -> Tls {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Tls { ca: self.pem.clone(), certificate: certificate.pem(), private_key: key.serialize_pem() }
    }
}

/// A witness that listens, until it is dropped.
struct Running {
    app: Arc<App>,
    port: u16,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(app: App, tls: &Tls) -> Running {
        let app = Arc::new(app);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), tls).unwrap();
        let port = listener.address().port();
        let serving = tokio::spawn(serve(router(app.clone()), listener, Handle::new()));
        Running { app, port, serving }
    }

    fn client(&self, tls: &Tls) -> VoterClient {
        VoterClient::witness("localhost", self.port, tls).unwrap()
    }

    /// End as a process does that is killed.
    async fn stop(self) {
        self.serving.abort();
        self.app.store.close().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn name(instance: &str) -> String {
    certificate_name(&deployment_name(instance))
}

async fn insert(app: &App, instance: &str) {
    let attributes = Attributes {
        service_id: "s".into(),
        plan_id: "p".into(),
        organization_guid: "o".into(),
        space_guid: "g".into(),
        parameters: serde_json::Map::default(),
    };
    let mut db = app.store.connection().await.unwrap();
    instances::insert(&mut db, &InstanceId::parse(instance).unwrap(), &attributes, None, "{}", NOW).await.unwrap();
}

/// What the reconciler does when the deployment is gone.
async fn delete(app: &App, instance: &str) {
    let mut db = app.store.connection().await.unwrap();
    let id = InstanceId::parse(instance).unwrap();
    witness_records::delete(&mut db, &id).await.unwrap();
    instances::bury(&mut db, &id, NOW).await.unwrap();
    drop(db);
    app.witness.look_again(&name(instance)).await;
}

async fn written(app: &App, instance: &str) -> Record {
    let mut db = app.store.connection().await.unwrap();
    witness_records::find(&mut db, &name(instance)).await.unwrap().unwrap().1
}

fn renewal(epoch: u64, leader: &str) -> Renewal {
    Renewal { epoch, leader: leader.into(), lease_ms: LEASE_MS, in_sync: false, withdrawals: 0 }
}

fn ballot(epoch: u64, leader: &str) -> Ballot {
    Ballot { epoch, leader: leader.into(), is_canvass: false }
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Granted(_) => "granted",
        Answer::Leased { .. } => "leased",
        Answer::Refused(_) => "refused",
    }
}

/// The kind of problem.
fn problem<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Problem(problem)) => problem.error,
        other => panic!("not a problem: {other:?}"),
    }
}

#[tokio::test]
async fn a_pair_is_answered_by_the_rules_and_what_was_agreed_to_is_written_first() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "A_1").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));
    let client = witness.client(&authority.issue(&[&name("A_1")]));

    assert_eq!(word(&client.renew(&renewal(3, "a"), LIMIT).await.unwrap()), "granted");
    assert_eq!(written(&witness.app, "A_1").await.epoch, 3);
    assert_eq!(word(&client.vote(&ballot(4, "b"), LIMIT).await.unwrap()), "leased");
    client.release(&Release { epoch: 3, leader: "a".into() }, LIMIT).await.unwrap();
    assert!(written(&witness.app, "A_1").await.is_vacant);
    assert_eq!(word(&client.vote(&ballot(4, "b"), LIMIT).await.unwrap()), "granted");
    assert_eq!(written(&witness.app, "A_1").await.leader.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_renewal_that_changes_nothing_writes_nothing() {
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let renew = async || app.witness.ask(&name("i"), |voter, now| voter.renew(&renewal(3, "a"), now)).await.unwrap();
    renew().await;
    let mut db = app.store.connection().await.unwrap();
    witness_records::delete(&mut db, &InstanceId::parse("i").unwrap()).await.unwrap();
    drop(db);

    assert!(matches!(renew().await, Outcome::Answered(Answer::Granted(_))));

    // Where other brokers may have spoken meanwhile it was looked for, missed, and made anew.
    let expected = if app.store.is_shared() { renewal(3, "a").record() } else { Record::default() };
    assert_eq!(written(&app, "i").await, expected);
}

#[tokio::test]
async fn who_asks_is_known_by_the_certificate_and_touches_its_own_record_only() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (app, _directory) = app().await;
    insert(&app, "a").await;
    insert(&app, "b").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));

    let ask = async |tls: &Tls| witness.client(tls).vote(&ballot(1, "x"), LIMIT).await;
    assert!(ask(&authority.issue(&[&name("b")])).await.is_ok());
    for (names, expected) in [
        (vec![name("c")], "NotFound"),
        (vec![BROKER_NAME.to_owned()], "NotFound"),
        (vec![name("a"), name("b")], "NotAllowed"),
    ] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(problem(ask(&authority.issue(&names)).await), expected, "{names:?}");
    }
    // Signed by another authority, which the client takes for the right one.
    let forged = Tls { ca: authority.pem.clone(), ..stranger.issue(&[&name("a")]) };
    assert!(matches!(ask(&forged).await, Err(Error::Unreachable { .. })));

    assert_eq!((written(&witness.app, "a").await.epoch, written(&witness.app, "b").await.epoch), (0, 1));
}

#[tokio::test]
async fn an_agent_talks_to_nobody_but_its_broker_and_a_client_needs_a_certificate() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "a").await;
    let tls = authority.issue(&[&name("a")]);
    let impostor = Running::start(app, &authority.issue(&[&name("b")]));

    let answer = impostor.client(&tls).vote(&ballot(1, "x"), LIMIT).await;

    assert!(matches!(answer, Err(Error::Unreachable { .. })), "{answer:?}");
    let anybody = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    let answer = anybody.post(format!("https://127.0.0.1:{}/v1/voter/vote", impostor.port)).send().await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn a_restart_keeps_the_record_and_waits_out_the_lease() {
    let (broker, directory) = app().await;
    insert(&broker, "i").await;
    let authority = Authority::new();
    let (server, pair) = (authority.issue(&[BROKER_NAME]), authority.issue(&[&name("i")]));
    let witness = Running::start(broker, &server);
    assert_eq!(word(&witness.client(&pair).renew(&renewal(3, "a"), LIMIT).await.unwrap()), "granted");
    witness.stop().await;

    let begun = Instant::now();
    let witness = Running::start(app_at(directory.path()).await, &server);
    let client = witness.client(&pair);

    assert_eq!(word(&client.vote(&ballot(3, "b"), LIMIT).await.unwrap()), "refused");
    while word(&client.vote(&ballot(4, "b"), LIMIT).await.unwrap()) != "granted" {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(LEASE_MS));
}

#[tokio::test]
async fn fifty_ballots_at_once_elect_one() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));
    let tls = authority.issue(&[&name("i")]);
    let clients: Vec<VoterClient> = (0..50).map(|_| witness.client(&tls)).collect();

    let votes = clients.iter().enumerate().map(async |(number, client)| {
        let answer = client.vote(&ballot(1, &format!("mysql/{number}")), LIMIT).await.unwrap();
        (format!("mysql/{number}"), answer)
    });
    let votes = join_all(votes).await;

    let elected: Vec<&String> = votes.iter().filter(|(_, a)| word(a) == "granted").map(|(leader, _)| leader).collect();
    assert_eq!(elected.len(), 1, "{votes:?}");
    assert_eq!(written(&witness.app, "i").await.leader.as_ref(), Some(elected[0]));
}

#[tokio::test]
async fn an_instance_that_was_deleted_is_unknown_and_starts_from_nothing_when_it_returns() {
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let vote = async |epoch, leader| {
        let answer = app.witness.ask(&name("i"), |voter, now| voter.vote(&ballot(epoch, leader), now)).await;
        answer.unwrap()
    };
    assert!(matches!(vote(7, "a").await, Outcome::Answered(Answer::Granted(_))));

    delete(&app, "i").await;
    assert_eq!(vote(8, "a").await, Outcome::Unknown);
    assert!(app.witness.seats().is_empty());

    insert(&app, "i").await;
    assert!(matches!(vote(1, "b").await, Outcome::Answered(Answer::Granted(_))));
}

#[tokio::test]
async fn a_voter_of_an_earlier_life_agrees_to_nothing() {
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let vote = async |epoch, leader| {
        let answer = app.witness.ask(&name("i"), |voter, now| voter.vote(&ballot(epoch, leader), now)).await;
        answer.unwrap()
    };
    vote(7, "a").await;
    // The reconciler dies between its commit and its word to the witness, and the instance is made again.
    let id = InstanceId::parse("i").unwrap();
    let mut db = app.store.connection().await.unwrap();
    witness_records::delete(&mut db, &id).await.unwrap();
    instances::bury(&mut db, &id, NOW).await.unwrap();
    drop(db);
    insert(&app, "i").await;

    let Outcome::Answered(Answer::Granted(record)) = vote(8, "b").await else { panic!("not granted") };

    assert_eq!(record.epoch, 8);
    assert_eq!(written(&app, "i").await, record);
    assert_eq!(app.witness.seats().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_written_was_not_said() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));
    let client = witness.client(&authority.issue(&[&name("i")]));
    assert_eq!(word(&client.vote(&ballot(1, "a"), LIMIT).await.unwrap()), "granted");
    witness.app.store.close().await;

    assert_eq!(problem(client.vote(&ballot(2, "b"), LIMIT).await), "Internal");

    // Asked again by the one that has it, which needs no writing; but among several brokers a look at who speaks.
    let again = client.vote(&ballot(1, "a"), LIMIT).await;
    assert_eq!(again.map(|answer| word(&answer)).ok(), (!witness.app.store.is_shared()).then_some("granted"));
}

#[tokio::test]
async fn a_pair_that_waits_delays_no_other() {
    let (app, _directory) = app().await;
    insert(&app, "slow").await;
    insert(&app, "quick").await;
    let seat = app.witness.seat(&name("slow"));
    let held = seat.lock().await;

    let question = name("quick");
    let quick = app.witness.ask(&question, |voter, now| voter.renew(&renewal(1, "a"), now));
    tokio::time::timeout(LIMIT, quick).await.unwrap().unwrap();

    drop(held);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_in_json() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));
    let client = witness.client(&authority.issue(&[&name("i")]));

    let endless = Renewal { lease_ms: u64::MAX, ..renewal(1, "a") };
    assert_eq!(problem(client.renew(&endless, LIMIT).await), "BadRequest");
    assert_eq!(problem(client.renew(&renewal(u64::MAX, "a"), LIMIT).await), "BadRequest");
    let endless = Renewal { withdrawals: u64::MAX, ..renewal(1, "a") };
    assert_eq!(problem(client.renew(&endless, LIMIT).await), "BadRequest");
    assert_eq!(problem(client.vote(&ballot(u64::MAX, "a"), LIMIT).await), "BadRequest");
    let long = ballot(1, &"a".repeat(20_000));
    assert_eq!(problem(client.vote(&long, LIMIT).await), "BadRequest");
    assert_eq!(written(&witness.app, "i").await, Record::default());
}
