//! Bind and unbind: a user on the leader, made and dropped by the leader's agent, so that the credentials of an
//! administrator never leave the VM. Both are synchronous and both may be repeated after any crash.
//!
//! ```text
//! bind     leader and address are known ─ row `creating` ─ user ─ row `created`
//! unbind   row `deleting` ─ leader is known ─ no user ─ no row
//! ```
//!
//! Somebody else's user may have the name that a binding asks for; the agent tells by the password, which only this binding
//! has. So an unbind that finds the row `creating` asks for the user once more before it has it dropped.
//!
//! Where there is no writable leader (a failover is under way) nothing was made: the answer is 422 `ConcurrencyError`,
//! which platforms show or repeat. A 5xx would make Cloud Controller send a `DELETE` for a binding that never was. A lost
//! answer of an agent is a 500 on purpose: the user may exist, and that `DELETE` removes it.

mod account;

use std::net::IpAddr;
use std::time::Duration;

use agent::api::User;
use agent::client;
use anyhow::{Context, anyhow};
use broker::osb::{BindRequest, Credentials, Object};

use crate::admission::{self, Admission, BindingAttributes, BindingProgress, BindingStanding, Denial, Known, Offer};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ids::BindingId;
use crate::lifecycle::Answer;
use crate::manifest::deployment_name;
use crate::store::Connection;
use crate::store::bindings::{self, Key, Stored};
use crate::store::instances::{self, Lease};
use account::Account;

/// How long a request may look for the servers before it records anything, and how long it may then work on the user.
/// Together less than the 60 s that Cloud Controller waits.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
const WORK_LIMIT: Duration = Duration::from_secs(40);
/// Longer than the work, so that only a crash leaves a claim behind.
const CLAIM: Duration = Duration::from_secs(60);
/// How often the leader is looked for anew when it changes under our hands, and the pause between.
const LEADER_TRIES: u32 = 3;
const LEADER_PAUSE: Duration = Duration::from_millis(300);

/// A binding that exists.
#[derive(Debug)]
pub(crate) enum Bound {
    Created(Credentials),
    Already(Credentials),
}

/// Why there is no binding, or why it is still there.
#[derive(Debug)]
pub(crate) enum Trouble {
    Denied(Denial),
    /// No server of the instance takes writes now. Nothing was changed.
    NoLeader,
    /// The director cannot be asked where the servers are. Nothing was changed.
    NoDirector(anyhow::Error),
    /// It is not known what was done; a repeated request finishes it.
    Unknown(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble::Unknown(error)
    }
}

/// Make a binding, or find the one that was made.
pub(crate) async fn bind(app: &App, key: &Key, request: &BindRequest) -> Result<Bound, Trouble> {
    let mut tx = app.store.begin().await?;
    match admit_bind(app, &mut tx, key, request).await? {
        (Admission::Denied(denial), _) => Err(Trouble::Denied(denial)),
        (Admission::Same(BindingStanding::Done), Some(stored)) => {
            Ok(Bound::Already(Account::open(app, key, &stored)?.credentials))
        }
        (Admission::Same(BindingStanding::Unfinished), Some(stored)) => {
            let (account, claim) = (Account::open(app, key, &stored)?, claim(app, Timestamp::now()));
            bindings::claim(&mut tx, key, BindingProgress::Creating, claim).await?;
            tx.commit().await.context("claim a binding")?;
            let made = make(app, key, account, claim).await;
            match &made {
                Ok(_) => {}
                Err(Trouble::Denied(_)) => forget(app, key, claim).await?,
                // The earlier request may have made the user, so the row must stay.
                Err(Trouble::NoLeader | Trouble::NoDirector(_) | Trouble::Unknown(_)) => {
                    release(app, key, BindingProgress::Creating, claim).await?;
                }
            }
            made
        }
        (Admission::New(wanted), _) => {
            // Other requests need the database while this one looks for the servers.
            tx.rollback().await.context("end a look at the bindings")?;
            create(app, key, request, &wanted).await
        }
        (Admission::Same(_), None) => Err(Trouble::Unknown(anyhow!("find the binding that was admitted"))),
    }
}

/// Remove a binding.
pub(crate) async fn unbind(app: &App, key: &Key, offer: Offer<'_>) -> Result<(), Trouble> {
    let now = Timestamp::now();
    let mut tx = app.store.begin().await?;
    let instance = instances::find(&mut tx, &key.instance).await?;
    let stored = bindings::find(&mut tx, key, now).await?;
    let binding = stored.as_ref().map(|stored| &stored.known);
    if let Admission::Denied(denial) = admission::unbind(offer, instance.as_ref(), binding) {
        return Err(Trouble::Denied(denial));
    }
    let stored = stored.context("find the binding that was admitted")?;
    let (account, claim) = (Account::open(app, key, &stored)?, claim(app, now));
    let progress = match stored.known.progress {
        BindingProgress::Creating => BindingProgress::Creating,
        BindingProgress::Created | BindingProgress::Deleting => BindingProgress::Deleting,
    };
    bindings::claim(&mut tx, key, progress, claim).await?;
    tx.commit().await.context("record that a binding is to be deleted")?;
    match remove(app, key, &account, progress).await {
        Ok(()) => Ok(forget(app, key, claim).await?),
        Err(trouble) => {
            release(app, key, progress, claim).await?;
            // The instance may have been deleted meanwhile, and the server with it.
            Err(denied_now(app, key, offer).await?.map_or(trouble, Trouble::Denied))
        }
    }
}

async fn remove(app: &App, key: &Key, account: &Account, progress: BindingProgress) -> Result<(), Trouble> {
    if progress == BindingProgress::Creating {
        match on_leader(app, key, &account.credentials.username, Ask::Put(&account.user())).await {
            Ok(()) => {}
            // It is another's, so there is none of ours.
            Err(Trouble::Denied(_)) => return Ok(()),
            Err(trouble) => return Err(trouble),
        }
    }
    on_leader(app, key, &account.credentials.username, Ask::Drop).await
}

/// Why the same unbind would be refused by now.
async fn denied_now(app: &App, key: &Key, offer: Offer<'_>) -> anyhow::Result<Option<Denial>> {
    let mut db = app.store.connection().await?;
    let instance = instances::find(&mut db, &key.instance).await?;
    let stored = bindings::find(&mut db, key, Timestamp::now()).await?;
    match admission::unbind(offer, instance.as_ref(), stored.as_ref().map(|stored| &stored.known)) {
        Admission::Denied(denial) => Ok(Some(denial)),
        Admission::New(_) | Admission::Same(_) => Ok(None),
    }
}

/// What is known of a binding, for `GET`.
pub(crate) async fn find(app: &App, key: &Key) -> anyhow::Result<Option<(Credentials, Object)>> {
    let stored = bindings::find(&mut app.store.connection().await?, key, Timestamp::now()).await?;
    match stored {
        Some(stored) if stored.known.progress == BindingProgress::Created => {
            let account = Account::open(app, key, &stored)?;
            Ok(Some((account.credentials, stored.known.attributes.parameters())))
        }
        Some(_) | None => Ok(None),
    }
}

async fn admit_bind(
    app: &App,
    db: &mut Connection,
    key: &Key,
    request: &BindRequest,
) -> anyhow::Result<(Admission<BindingAttributes, BindingStanding>, Option<Stored>)> {
    let instance: Option<Known> = instances::find(db, &key.instance).await?;
    let stored = bindings::find(db, key, Timestamp::now()).await?;
    let predecessor = match request.predecessor_binding_id.as_deref().and_then(BindingId::parse) {
        Some(binding) => bindings::find(db, &Key { instance: key.instance.clone(), binding }, Timestamp::now()).await?,
        None => None,
    };
    let binding = stored.as_ref().map(|stored| &stored.known);
    let predecessor = predecessor.as_ref().map(|stored| &stored.known);
    let documents = app.documents();
    Ok((admission::bind(&documents.catalog, request, instance.as_ref(), binding, predecessor), stored))
}

async fn create(app: &App, key: &Key, request: &BindRequest, wanted: &BindingAttributes) -> Result<Bound, Trouble> {
    let deployment = deployment_name(key.instance.as_str());
    let look = async {
        find_leader(app, &deployment).await?;
        app.director.client_address(&deployment).await.map_err(Trouble::NoDirector)
    };
    let looked = tokio::time::timeout(LOOK_LIMIT, look).await;
    let hostname = looked.map_err(|_| Trouble::NoDirector(anyhow!("find the servers within {LOOK_LIMIT:?}")))??;
    let account = Account::new(&hostname, wanted, &mut rand::rng())?;
    let credentials = &account.credentials;
    let text = serde_json::to_vec(credentials).context("write the credentials")?;
    let sealed = app.sealer.seal(&key.instance, &key.binding, &text)?;

    let now = Timestamp::now();
    let claim = claim(app, now);
    let mut tx = app.store.begin().await?;
    // The network was asked meanwhile, so everything may have changed.
    match admit_bind(app, &mut tx, key, request).await?.0 {
        Admission::New(still) if still == *wanted => {}
        // Its predecessor, or the instance, is another one by now.
        Admission::New(_) => return Err(Trouble::Denied(Denial::Concurrency)),
        Admission::Same(_) => return Err(Trouble::Denied(Denial::Concurrency)),
        Admission::Denied(denial) => return Err(Trouble::Denied(denial)),
    }
    bindings::insert(&mut tx, key, wanted, &sealed, claim, now).await?;
    tx.commit().await.context("record a binding")?;
    let made = make(app, key, account, claim).await;
    match &made {
        Ok(_) => {}
        Err(Trouble::Unknown(_)) => drop(release(app, key, BindingProgress::Creating, claim).await?),
        Err(Trouble::Denied(_) | Trouble::NoLeader | Trouble::NoDirector(_)) => forget(app, key, claim).await?,
    }
    made
}

/// The row is there and claimed: make the user, and say so.
async fn make(app: &App, key: &Key, account: Account, claim: Lease<'_>) -> Result<Bound, Trouble> {
    on_leader(app, key, &account.credentials.username, Ask::Put(&account.user())).await?;
    match release(app, key, BindingProgress::Created, claim).await? {
        true => Ok(Bound::Created(account.credentials)),
        // The whole instance was deleted meanwhile, or another request has taken over.
        false => Err(Trouble::Denied(Denial::Concurrency)),
    }
}

/// What is asked of the leader's agent. Both may be asked twice.
enum Ask<'a> {
    Put(&'a User),
    Drop,
}

/// Ask the leader's agent about a user, for as long as the claim is ours for certain.
async fn on_leader(app: &App, key: &Key, username: &str, ask: Ask<'_>) -> Result<(), Trouble> {
    let worked = tokio::time::timeout(WORK_LIMIT, try_on_leader(app, key, username, ask)).await;
    worked.map_err(|_| Trouble::Unknown(anyhow!("change a user on the leader within {WORK_LIMIT:?}")))?
}

/// Look for the leader anew where it is another one by now.
async fn try_on_leader(app: &App, key: &Key, username: &str, ask: Ask<'_>) -> Result<(), Trouble> {
    let deployment = deployment_name(key.instance.as_str());
    let mut trouble = Trouble::NoLeader;
    for attempt in 0..LEADER_TRIES {
        if attempt > 0 {
            tokio::time::sleep(LEADER_PAUSE).await;
        }
        let address = match find_leader(app, &deployment).await {
            Ok(address) => address,
            Err(found) => {
                trouble = worse(trouble, found);
                continue;
            }
        };
        let agent = app.agents.client(&deployment, address)?;
        let answer = match &ask {
            Ask::Put(user) => agent.put_user(username, user).await.map(drop),
            Ask::Drop => agent.delete_user(username).await,
        };
        match answer {
            Ok(()) => return Ok(()),
            Err(error) if error.is_of_request() => {
                return Err(Trouble::Denied(Denial::Invalid(error.to_string())));
            }
            // The agent did nothing. Of any other trouble it does not say whether the user was there before it.
            Err(client::Error::Problem(problem)) if problem.error == "NotLeader" => {
                tracing::info!(problem.description, "the leader declines");
            }
            Err(error) => trouble = worse(trouble, Trouble::Unknown(error.into())),
        }
    }
    Err(trouble)
}

/// Once it is not known what was done, no later trouble makes it known.
fn worse(before: Trouble, now: Trouble) -> Trouble {
    match before {
        Trouble::Unknown(_) => before,
        Trouble::Denied(_) | Trouble::NoLeader | Trouble::NoDirector(_) => now,
    }
}

async fn find_leader(app: &App, deployment: &str) -> Result<IpAddr, Trouble> {
    let instances = app.director.instances(deployment).await.map_err(|error| Trouble::NoDirector(error.into()))?;
    let answers = app.agents.ask(deployment, &instances).await;
    let writable: Vec<IpAddr> = answers.iter().filter_map(Answer::writable).collect();
    match writable[..] {
        [leader] => Ok(leader),
        [] => Err(Trouble::NoLeader),
        [_, _, ..] => {
            tracing::error!(?writable, deployment, "more than one server is writable; run make-read-only on one");
            Err(Trouble::NoLeader)
        }
    }
}

async fn forget(app: &App, key: &Key, claim: Lease<'_>) -> anyhow::Result<()> {
    let mut tx = app.store.begin().await?;
    bindings::delete(&mut tx, key, claim).await?;
    tx.commit().await.context("forget a binding")
}

/// This broker's hold on a binding.
fn claim(app: &App, now: Timestamp) -> Lease<'_> {
    Lease { owner: &app.owner, until: now.plus(CLAIM) }
}

/// Say how far the binding is. Where the claim is not ours any more, somebody else says it: false.
async fn release(app: &App, key: &Key, progress: BindingProgress, claim: Lease<'_>) -> anyhow::Result<bool> {
    let mut tx = app.store.begin().await?;
    let is_ours = bindings::release(&mut tx, key, progress, claim).await?;
    tx.commit().await.context("say how far a binding is")?;
    Ok(is_ours)
}
