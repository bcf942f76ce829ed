//! The table `service_bindings`. A row is written before the user is made and goes after the user was dropped, so that a
//! crash in between leaves something that a repeated request heals.

use anyhow::{Context, bail};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Connection;
use super::instances::Lease;
use crate::admission::{BindingAttributes, BindingProgress, KnownBinding};
use crate::clock::Timestamp;
use crate::ids::{BindingId, InstanceId};

/// A binding's ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) instance: InstanceId,
    pub(crate) binding: BindingId,
}

/// A row, with its sealed credentials.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) known: KnownBinding,
    pub(crate) sealed: String,
}

/// What is known of a binding.
pub(crate) async fn find(db: &mut Connection, key: &Key, now: Timestamp) -> anyhow::Result<Option<Stored>> {
    let sql = "SELECT service_id, plan_id, attributes, state, sealed, claimed_until FROM service_bindings \
               WHERE instance_id = $1 AND id = $2";
    let query = sqlx::query(sql).bind(key.instance.as_str()).bind(key.binding.as_str());
    let row = query.fetch_optional(db).await.context("look up a binding")?;
    row.as_ref().map(|row| stored(row, now)).transpose()
}

/// Record a binding whose user is about to be made.
pub(crate) async fn insert(
    db: &mut Connection,
    key: &Key,
    attributes: &BindingAttributes,
    sealed: &str,
    lease: Lease<'_>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let sql = "INSERT INTO service_bindings (instance_id, id, service_id, plan_id, attributes, state, sealed, \
               claimed_by, claimed_until, created_at) VALUES ($1, $2, $3, $4, $5, 'creating', $6, $7, $8, $9)";
    sqlx::query(sql)
        .bind(key.instance.as_str())
        .bind(key.binding.as_str())
        .bind(&attributes.service_id)
        .bind(&attributes.plan_id)
        .bind(attributes.rest.to_string())
        .bind(sealed)
        .bind(lease.owner)
        .bind(lease.until.0)
        .bind(now.0)
        .execute(db)
        .await
        .context("record a binding")?;
    Ok(())
}

/// Say what a request is about to do to a binding, and until when: in the transaction that admitted it.
pub(crate) async fn claim(
    db: &mut Connection,
    key: &Key,
    progress: BindingProgress,
    lease: Lease<'_>,
) -> anyhow::Result<()> {
    let sql = "UPDATE service_bindings SET state = $3, claimed_by = $4, claimed_until = $5 \
               WHERE instance_id = $1 AND id = $2";
    let query = sqlx::query(sql).bind(key.instance.as_str()).bind(key.binding.as_str());
    query.bind(progress.name()).bind(lease.owner).bind(lease.until.0).execute(db).await.context("claim a binding")?;
    Ok(())
}

/// Say how far a binding is and give up the claim; false where it was not ours any more, and nothing is changed.
pub(crate) async fn release(
    db: &mut Connection,
    key: &Key,
    progress: BindingProgress,
    lease: Lease<'_>,
) -> anyhow::Result<bool> {
    let sql = "UPDATE service_bindings SET state = $3, claimed_by = NULL, claimed_until = 0 \
               WHERE instance_id = $1 AND id = $2 AND claimed_by = $4 AND claimed_until = $5";
    let query = sqlx::query(sql).bind(key.instance.as_str()).bind(key.binding.as_str());
    let changed = query.bind(progress.name()).bind(lease.owner).bind(lease.until.0).execute(db).await;
    Ok(changed.context("change a binding")?.rows_affected() == 1)
}

/// Forget a binding that has no user, unless the claim is not ours any more.
pub(crate) async fn delete(db: &mut Connection, key: &Key, lease: Lease<'_>) -> anyhow::Result<()> {
    let sql = "DELETE FROM service_bindings \
               WHERE instance_id = $1 AND id = $2 AND claimed_by = $3 AND claimed_until = $4";
    let query = sqlx::query(sql).bind(key.instance.as_str()).bind(key.binding.as_str());
    query.bind(lease.owner).bind(lease.until.0).execute(db).await.context("forget a binding")?;
    Ok(())
}

/// Forget the bindings of an instance that is gone.
pub(crate) async fn delete_all(db: &mut Connection, instance: &InstanceId) -> anyhow::Result<()> {
    let sql = "DELETE FROM service_bindings WHERE instance_id = $1";
    sqlx::query(sql).bind(instance.as_str()).execute(db).await.context("forget the bindings of an instance")?;
    Ok(())
}

/// The sealed credentials of every binding, in the order of their ids, after one of them.
pub(crate) async fn sealed_after(
    db: &mut Connection,
    last: Option<&Key>,
    limit: i64,
) -> anyhow::Result<Vec<(Key, String)>> {
    // No id is empty, so this is before all of them.
    let (instance, binding) = last.map_or(("", ""), |key| (key.instance.as_str(), key.binding.as_str()));
    let sql = "SELECT instance_id, id, sealed FROM service_bindings WHERE (instance_id, id) > ($1, $2) \
               ORDER BY instance_id, id LIMIT $3";
    let rows = sqlx::query(sql).bind(instance).bind(binding).bind(limit).fetch_all(db).await;
    let rows = rows.context("look up the sealed credentials")?;
    rows.iter().map(|row| Ok((key(row)?, row.try_get("sealed")?))).collect()
}

/// Replace the sealed credentials of a binding; false where they are others by now.
pub(crate) async fn replace_sealed(db: &mut Connection, key: &Key, old: &str, new: &str) -> anyhow::Result<bool> {
    let sql = "UPDATE service_bindings SET sealed = $4 WHERE instance_id = $1 AND id = $2 AND sealed = $3";
    let query = sqlx::query(sql).bind(key.instance.as_str()).bind(key.binding.as_str()).bind(old).bind(new);
    Ok(query.execute(db).await.context("renew the seal of a binding")?.rows_affected() == 1)
}

/// No request of this broker survives its restart.
pub(crate) async fn release_all(db: &mut Connection, owner: &str) -> anyhow::Result<()> {
    let sql = "UPDATE service_bindings SET claimed_by = NULL, claimed_until = 0 WHERE claimed_by = $1";
    sqlx::query(sql).bind(owner).execute(db).await.context("release the bindings of an earlier run")?;
    Ok(())
}

impl BindingProgress {
    fn name(self) -> &'static str {
        match self {
            BindingProgress::Creating => "creating",
            BindingProgress::Created => "created",
            BindingProgress::Deleting => "deleting",
        }
    }
}

fn key(row: &AnyRow) -> anyhow::Result<Key> {
    let (instance, binding): (&str, &str) = (row.try_get("instance_id")?, row.try_get("id")?);
    Ok(Key {
        instance: InstanceId::parse(instance).with_context(|| format!("read the id `{instance}`"))?,
        binding: BindingId::parse(binding).with_context(|| format!("read the id `{binding}`"))?,
    })
}

fn stored(row: &AnyRow, now: Timestamp) -> anyhow::Result<Stored> {
    let progress = match row.try_get("state")? {
        "creating" => BindingProgress::Creating,
        "created" => BindingProgress::Created,
        "deleting" => BindingProgress::Deleting,
        other => bail!("read the state `{other}` of a binding"),
    };
    let attributes = BindingAttributes {
        service_id: row.try_get("service_id")?,
        plan_id: row.try_get("plan_id")?,
        rest: serde_json::from_str(row.try_get("attributes")?).context("read the attributes of a binding")?,
    };
    let claimed_until = Timestamp(row.try_get("claimed_until")?);
    let known = KnownBinding { attributes, progress, is_claimed: claimed_until > now };
    Ok(Stored { known, sealed: row.try_get("sealed")? })
}
