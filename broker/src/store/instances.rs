//! The table `service_instances`: the wishes, and who works on them.

use anyhow::{Context, bail};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::operations::operation_id;
use super::{Connection, object};
use crate::admission::{Attributes, Condition, Known, Target};
use crate::clock::Timestamp;
use crate::ids::InstanceId;

/// A worker's hold on an instance. Where it ends unrenewed, another worker takes over: of another broker, or of the same
/// one after a long sleep. So a lease is known by its owner and its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease<'a> {
    /// Who holds it: the id of the broker's own BOSH instance, the same after a restart.
    pub(crate) owner: &'a str,
    pub(crate) until: Timestamp,
}

/// The instance's id cannot be used, because another one would give the same name to its agents.
#[derive(Debug, thiserror::Error)]
#[error("another service instance's id differs from this one only in letter case or punctuation")]
pub(crate) struct NameTaken;

/// What is known of a service instance, tombstones included.
pub(crate) async fn find(db: &mut Connection, id: &InstanceId) -> anyhow::Result<Option<Known>> {
    let sql = "SELECT i.service_id, i.plan_id, i.organization_guid, i.space_guid, i.parameters, i.maintenance_version, \
               o.id AS operation, o.halts, o.kind, o.state, o.plan_id AS target_plan_id, \
               o.parameters AS target_parameters, \
               o.maintenance_version AS target_version, o.keeps_leader \
               FROM service_instances i JOIN operations o ON o.instance_id = i.id \
               WHERE i.id = $1 ORDER BY o.number DESC LIMIT 1";
    let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(db).await.context("look up a service instance")?;
    row.as_ref().map(known).transpose()
}

/// Record a wish: a new id, or one whose instance was deleted. The instance will be of this version of its plan.
pub(crate) async fn insert(
    db: &mut Connection,
    id: &InstanceId,
    attributes: &Attributes,
    maintenance_version: Option<&str>,
    context: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    let sql = "INSERT INTO service_instances (id, generation, service_id, plan_id, organization_guid, space_guid, \
               parameters, context, certificate_name, created_at, maintenance_version) \
               VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
               ON CONFLICT (id) DO UPDATE SET generation = service_instances.generation + 1, \
               service_id = excluded.service_id, plan_id = excluded.plan_id, \
               organization_guid = excluded.organization_guid, space_guid = excluded.space_guid, \
               parameters = excluded.parameters, context = excluded.context, created_at = excluded.created_at, \
               deleted_at = NULL, maintenance_version = excluded.maintenance_version";
    let name = agent::api::certificate_name(&crate::manifest::deployment_name(id.as_str()));
    let inserted = sqlx::query(sql)
        .bind(id.as_str())
        .bind(&attributes.service_id)
        .bind(&attributes.plan_id)
        .bind(&attributes.organization_guid)
        .bind(&attributes.space_guid)
        .bind(serde_json::to_string(&attributes.parameters)?)
        .bind(context)
        .bind(name)
        .bind(now.0)
        .bind(maintenance_version)
        .execute(db)
        .await;
    match inserted {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(NameTaken.into()),
        other => other.map(drop).context("record a service instance"),
    }
}

/// What the platform knows about the user's place has changed.
pub(crate) async fn set_context(db: &mut Connection, id: &InstanceId, context: &str) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET context = $2 WHERE id = $1";
    sqlx::query(sql).bind(id.as_str()).bind(context).execute(db).await.context("record a new context")?;
    Ok(())
}

/// The instance has this version of its plan.
pub(super) async fn set_version(db: &mut Connection, id: &InstanceId, version: Option<&str>) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET maintenance_version = $2 WHERE id = $1";
    sqlx::query(sql).bind(id.as_str()).bind(version).execute(db).await.context("record the version of an instance")?;
    Ok(())
}

/// An update has succeeded: the instance is what it wanted.
pub(super) async fn change(db: &mut Connection, id: &InstanceId, now: &Attributes) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET plan_id = $2, parameters = $3 WHERE id = $1";
    let parameters = serde_json::to_string(&now.parameters)?;
    let query = sqlx::query(sql).bind(id.as_str()).bind(&now.plan_id).bind(parameters);
    query.execute(db).await.context("record what an update has made of a service instance")?;
    Ok(())
}

/// Leave a tombstone: last_operation goes on answering.
pub(crate) async fn bury(db: &mut Connection, id: &InstanceId, now: Timestamp) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET deleted_at = $2 WHERE id = $1";
    sqlx::query(sql).bind(id.as_str()).bind(now.0).execute(db).await.context("mark a service instance as deleted")?;
    Ok(())
}

/// Forget the tombstones of instances that were deleted before `time`.
pub(crate) async fn forget_deleted(db: &mut Connection, time: Timestamp) -> anyhow::Result<u64> {
    let sql = "DELETE FROM service_instances WHERE deleted_at < $1";
    let forgotten = sqlx::query(sql).bind(time.0).execute(db).await.context("forget deleted service instances")?;
    Ok(forgotten.rows_affected())
}

/// Take the instance whose operation has been due the longest and that nobody holds.
pub(crate) async fn claim(db: &mut Connection, lease: Lease<'_>, now: Timestamp) -> anyhow::Result<Option<InstanceId>> {
    let sql = "UPDATE service_instances SET claimed_by = $1, claimed_until = $2 WHERE claimed_until <= $3 AND id = (\
               SELECT i.id FROM operations o JOIN service_instances i ON i.id = o.instance_id \
               WHERE o.state = 'in progress' AND o.due_at <= $3 AND i.claimed_until <= $3 \
               ORDER BY o.due_at, o.id LIMIT 1) RETURNING id";
    let claim = sqlx::query_scalar::<_, String>(sql).bind(lease.owner).bind(lease.until.0).bind(now.0);
    let id = claim.fetch_optional(db).await.context("claim a service instance")?;
    id.map(|id| InstanceId::parse(&id).with_context(|| format!("read the id `{id}`"))).transpose()
}

/// Keep an instance until a later time; false where somebody else has it.
pub(crate) async fn renew(
    db: &mut Connection,
    id: &InstanceId,
    lease: Lease<'_>,
    until: Timestamp,
) -> anyhow::Result<bool> {
    let sql =
        "UPDATE service_instances SET claimed_until = $4 WHERE id = $1 AND claimed_by = $2 AND claimed_until = $3";
    let query = sqlx::query(sql).bind(id.as_str()).bind(lease.owner).bind(lease.until.0);
    let renewed = query.bind(until.0).execute(db).await;
    Ok(renewed.context("renew the claim on a service instance")?.rows_affected() == 1)
}

/// Let an instance go, unless somebody else has it.
pub(crate) async fn release(db: &mut Connection, id: &InstanceId, lease: Lease<'_>) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET claimed_by = NULL, claimed_until = 0 \
               WHERE id = $1 AND claimed_by = $2 AND claimed_until = $3";
    let query = sqlx::query(sql).bind(id.as_str()).bind(lease.owner).bind(lease.until.0);
    query.execute(db).await.context("release a service instance")?;
    Ok(())
}

/// Let go everything that this broker held when it died.
pub(crate) async fn release_all(db: &mut Connection, owner: &str) -> anyhow::Result<()> {
    let sql = "UPDATE service_instances SET claimed_by = NULL, claimed_until = 0 WHERE claimed_by = $1";
    sqlx::query(sql).bind(owner).execute(db).await.context("release the service instances of an earlier run")?;
    Ok(())
}

fn known(row: &AnyRow) -> anyhow::Result<Known> {
    let halts: Option<&str> = row.try_get("halts")?;
    Ok(Known {
        attributes: attributes(row)?,
        maintenance_version: row.try_get("maintenance_version")?,
        operation: operation_id(row.try_get("operation")?)?,
        halts: halts.map(operation_id).transpose()?,
        target: target(row)?,
        condition: condition(row.try_get("kind")?, row.try_get("state")?)?,
    })
}

/// What an update wants that has not succeeded.
fn target(row: &AnyRow) -> anyhow::Result<Option<Target>> {
    let plan_id: Option<String> = row.try_get("target_plan_id")?;
    let state: &str = row.try_get("state")?;
    let Some(plan_id) = plan_id.filter(|_| state != "succeeded") else { return Ok(None) };
    let parameters = object(row.try_get("target_parameters")?)?;
    let keeps_leader = row.try_get::<i64, _>("keeps_leader")? != 0;
    let maintenance_version = row.try_get("target_version")?;
    Ok(Some(Target { plan_id, parameters, maintenance_version, keeps_leader }))
}

pub(super) fn attributes(row: &AnyRow) -> anyhow::Result<Attributes> {
    Ok(Attributes {
        service_id: row.try_get("service_id")?,
        plan_id: row.try_get("plan_id")?,
        organization_guid: row.try_get("organization_guid")?,
        space_guid: row.try_get("space_guid")?,
        parameters: object(row.try_get("parameters")?)?,
    })
}

fn condition(kind: &str, state: &str) -> anyhow::Result<Condition> {
    Ok(match (kind, state) {
        ("create", "in progress") => Condition::Creating,
        ("create", "succeeded") => Condition::Ready,
        ("create", "failed") => Condition::CreateFailed,
        ("update", "in progress") => Condition::Updating,
        ("update", "succeeded") => Condition::Ready,
        ("update", "failed") => Condition::UpdateFailed,
        ("delete", "in progress") => Condition::Deleting,
        ("delete", "succeeded") => Condition::Deleted,
        ("delete", "failed") => Condition::DeleteFailed,
        other => bail!("the state database holds the operation {other:?}, which this program does not know"),
    })
}
