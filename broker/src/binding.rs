//! Bind and unbind: a user on the leader, made and dropped by the leader's agent, so that the credentials of an
//! administrator never leave the VM. Both are synchronous and both may be repeated after any crash.
//!
//! ```text
//! bind     leader and address are known ─ row `creating` ─ user ─ row `created`
//! unbind   row `deleting` ─ leader is known ─ no user ─ no row
//! ```
//!
//! Where there is no writable leader (a failover is under way) nothing was made: the answer is 422 `ConcurrencyError`,
//! which platforms show or repeat. A 5xx would make Cloud Controller send a `DELETE` for a binding that never was. A lost
//! answer of an agent is a 500 on purpose: the user may exist, and that `DELETE` removes it.

use std::net::IpAddr;
use std::time::Duration;

use agent::api::{MYSQL_PORT, User};
use agent::client;
use anyhow::{Context, anyhow};
use broker::osb::{BindRequest, Credentials};
use rand::distr::slice::Choose;
use rand::{CryptoRng, Rng};

use crate::admission::{self, Admission, BindingAttributes, BindingProgress, BindingStanding, Denial, Known, Offer};
use crate::app::App;
use crate::clock::Timestamp;
use crate::lifecycle::Answer;
use crate::manifest::deployment_name;
use crate::store::bindings::{self, Key, Stored};
use crate::store::{Connection, instances};

/// The schema that every binding shares.
const SCHEMA: &str = "service_instance_db";
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
        (Admission::Same(BindingStanding::Done), Some(stored)) => Ok(Bound::Already(open(app, key, &stored)?)),
        (Admission::Same(BindingStanding::Unfinished), Some(stored)) => {
            let (credentials, claim) = (open(app, key, &stored)?, Timestamp::now().plus(CLAIM));
            bindings::claim(&mut tx, key, BindingProgress::Creating, claim).await?;
            tx.commit().await.context("claim a binding")?;
            let made = make(app, key, credentials, claim).await;
            if made.is_err() {
                // The earlier request may have made the user, so the row must stay.
                release(app, key, BindingProgress::Creating, claim).await?;
            }
            made
        }
        (Admission::New(()) | Admission::Same(_), _) => {
            // Other requests need the database while this one looks for the servers.
            tx.rollback().await.context("end a look at the bindings")?;
            create(app, key, request).await
        }
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
    let credentials = open(app, key, &stored)?;
    let claim = now.plus(CLAIM);
    bindings::claim(&mut tx, key, BindingProgress::Deleting, claim).await?;
    tx.commit().await.context("record that a binding is to be deleted")?;
    match on_leader(app, key, &credentials.username, Ask::Drop).await {
        Ok(()) => Ok(bindings::delete(&mut *app.store.connection().await?, key, claim).await?),
        Err(trouble) => {
            release(app, key, BindingProgress::Deleting, claim).await?;
            Err(trouble)
        }
    }
}

/// What is known of a binding, for `GET`.
pub(crate) async fn find(app: &App, key: &Key) -> anyhow::Result<Option<(Credentials, Stored)>> {
    let stored = bindings::find(&mut *app.store.connection().await?, key, Timestamp::now()).await?;
    match stored {
        Some(stored) if stored.known.progress == BindingProgress::Created => {
            Ok(Some((open(app, key, &stored)?, stored)))
        }
        Some(_) | None => Ok(None),
    }
}

async fn admit_bind(
    app: &App,
    db: &mut Connection,
    key: &Key,
    request: &BindRequest,
) -> anyhow::Result<(Admission<(), BindingStanding>, Option<Stored>)> {
    let instance: Option<Known> = instances::find(db, &key.instance).await?;
    let stored = bindings::find(db, key, Timestamp::now()).await?;
    let binding = stored.as_ref().map(|stored| &stored.known);
    Ok((admission::bind(&app.catalog, request, instance.as_ref(), binding), stored))
}

async fn create(app: &App, key: &Key, request: &BindRequest) -> Result<Bound, Trouble> {
    let deployment = deployment_name(key.instance.as_str());
    let look = async {
        find_leader(app, &deployment).await?;
        app.director.client_address(&deployment).await.map_err(Trouble::NoDirector)
    };
    let looked = tokio::time::timeout(LOOK_LIMIT, look).await;
    let hostname = looked.map_err(|_| Trouble::NoDirector(anyhow!("find the servers within {LOOK_LIMIT:?}")))??;
    let credentials = new_credentials(&hostname, &mut rand::rng());
    let text = serde_json::to_vec(&credentials).context("write the credentials")?;
    let sealed = app.sealer.seal(&key.instance, &key.binding, &text)?;

    let now = Timestamp::now();
    let claim = now.plus(CLAIM);
    let mut tx = app.store.begin().await?;
    // The network was asked meanwhile, so everything may have changed.
    match admit_bind(app, &mut tx, key, request).await?.0 {
        Admission::New(()) => {}
        Admission::Same(_) => return Err(Trouble::Denied(Denial::Concurrency)),
        Admission::Denied(denial) => return Err(Trouble::Denied(denial)),
    }
    let attributes = BindingAttributes::of(request);
    bindings::insert(&mut tx, key, &attributes, &sealed, (now, claim)).await?;
    tx.commit().await.context("record a binding")?;
    let made = make(app, key, credentials, claim).await;
    match &made {
        Ok(_) => {}
        Err(Trouble::Unknown(_)) => release(app, key, BindingProgress::Creating, claim).await?,
        Err(Trouble::Denied(_) | Trouble::NoLeader | Trouble::NoDirector(_)) => {
            bindings::delete(&mut *app.store.connection().await?, key, claim).await?;
        }
    }
    made
}

/// The row is there and claimed: make the user, and say so.
async fn make(app: &App, key: &Key, credentials: Credentials, claim: Timestamp) -> Result<Bound, Trouble> {
    let user = User { password: credentials.password.clone(), schema: credentials.name.clone() };
    on_leader(app, key, &credentials.username, Ask::Put(&user)).await?;
    match bindings::release(&mut *app.store.connection().await?, key, BindingProgress::Created, claim).await? {
        true => Ok(Bound::Created(credentials)),
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
            // The agent says that it did nothing.
            Err(client::Error::Problem(problem)) => tracing::info!(problem.description, "the leader declines"),
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

fn new_credentials(hostname: &str, random: &mut impl CryptoRng) -> Credentials {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let username: u128 = random.random();
    let letters = Choose::new(ALPHABET).expect("the alphabet is not empty");
    let password: String = random.sample_iter(letters).take(16).map(|letter| char::from(*letter)).collect();
    Credentials::new(hostname, MYSQL_PORT, SCHEMA, &format!("{username:032x}"), &password)
}

fn open(app: &App, key: &Key, stored: &Stored) -> anyhow::Result<Credentials> {
    let text = app.sealer.open(&key.instance, &key.binding, &stored.sealed)?;
    serde_json::from_slice(&text).context("read the credentials")
}

/// Where the claim is not ours any more, somebody else says how far the binding is.
async fn release(app: &App, key: &Key, progress: BindingProgress, claim: Timestamp) -> anyhow::Result<()> {
    bindings::release(&mut *app.store.connection().await?, key, progress, claim).await.map(drop)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn credentials_have_the_form_of_the_reference() {
        let credentials = new_credentials("10.0.0.20", &mut rand::rngs::StdRng::seed_from_u64(1));
        assert_eq!(credentials.username.len(), 32);
        assert!(credentials.username.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(credentials.password.len(), 16);
        assert!(credentials.password.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z')));
        assert_eq!(credentials.name, "service_instance_db");
    }
}
