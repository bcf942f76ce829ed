//! The table `operations`: what is being done to an instance, and what was done.

use std::time::Duration;

use anyhow::{Context, bail};
use broker::osb::State;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::instances::attributes;
use super::submission::{columns, submission};
use super::{Connection, instances};
use crate::admission::{Attributes, Target};
use crate::clock::Timestamp;
use crate::ids::{InstanceId, OperationId};
use crate::lifecycle::Submission;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
}

/// A new operation.
#[derive(Debug)]
pub(crate) struct NewOperation<'a> {
    pub(crate) kind: Kind,
    pub(crate) instance: &'a InstanceId,
    pub(crate) request_id: &'a str,
    pub(crate) timeout: Duration,
    /// The operation without a good end that this one interrupts, or that may still have requests under way.
    pub(crate) halts: Option<&'a OperationId>,
    /// What an update wants.
    pub(crate) target: Option<&'a Target>,
}

impl<'a> NewOperation<'a> {
    /// One that halts nothing and aims at nothing but what its kind says.
    pub(crate) fn new(kind: Kind, instance: &'a InstanceId, request_id: &'a str, timeout: Duration) -> Self {
        NewOperation { kind, instance, request_id, timeout, halts: None, target: None }
    }
}

/// An operation in progress, with all that the reconciler needs.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) id: OperationId,
    pub(crate) kind: Kind,
    pub(crate) instance: InstanceId,
    /// What the instance is, or what an update makes of it.
    pub(crate) attributes: Attributes,
    /// The version of the plan that an update gives it.
    pub(crate) maintenance_version: Option<String>,
    /// An update makes one server of what may be a pair, and the leader is the one that stays.
    pub(crate) keeps_leader: bool,
    pub(crate) description: String,
    pub(crate) request_id: String,
    pub(crate) submission: Option<Submission>,
    pub(crate) halted: Option<Halted>,
    /// Its creation succeeded, and the director was never told to delete it.
    pub(crate) is_whole: bool,
    pub(crate) deadline_at: Timestamp,
    /// The end of the lease under which this was read. Nothing is sent under another one.
    pub(crate) claimed_until: Timestamp,
}

/// The operation without a good end before this one.
#[derive(Clone, Debug)]
pub(crate) struct Halted {
    pub(crate) id: OperationId,
    pub(crate) submission: Option<Submission>,
}

/// What last_operation shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    pub(crate) state: State,
    pub(crate) description: String,
    /// After a failed update, where it is known.
    pub(crate) instance_usable: Option<bool>,
}

/// Record an operation, due now.
pub(crate) async fn insert(db: &mut Connection, new: NewOperation<'_>, now: Timestamp) -> anyhow::Result<OperationId> {
    let id = OperationId::new(Uuid::new_v4());
    if let Some(halted) = new.halts {
        finish(db, halted, State::Failed, "Instance provisioning halted: the service instance is being deleted", now)
            .await?;
    }
    let sql = "INSERT INTO operations (id, instance_id, number, kind, state, description, request_id, halts, \
               started_at, due_at, deadline_at, plan_id, parameters, keeps_leader, \
               maintenance_version) \
               SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, 'in progress', $4, $5, $6, $7, $7, $8, $9, $10, $11, $12 \
               FROM operations WHERE instance_id = $2";
    let parameters = new.target.map(|target| serde_json::to_string(&target.parameters)).transpose()?;
    sqlx::query(sql)
        .bind(id.as_str())
        .bind(new.instance.as_str())
        .bind(new.kind.name())
        .bind(new.kind.begun())
        .bind(new.request_id)
        .bind(new.halts.map(OperationId::as_str))
        .bind(now.0)
        .bind(now.plus(new.timeout).0)
        .bind(new.target.map(|target| target.plan_id.as_str()))
        .bind(parameters)
        .bind(i64::from(new.target.is_some_and(|target| target.keeps_leader)))
        .bind(new.target.and_then(|target| target.maintenance_version.as_deref()))
        .execute(db)
        .await
        .context("record an operation")?;
    Ok(id)
}

/// How an operation of an instance stands.
pub(crate) async fn report(
    db: &mut Connection,
    instance: &InstanceId,
    operation: &OperationId,
) -> anyhow::Result<Option<Report>> {
    let sql = "SELECT kind, state, description, instance_usable FROM operations WHERE instance_id = $1 AND id = $2";
    let query = sqlx::query(sql).bind(instance.as_str()).bind(operation.as_str());
    let row = query.fetch_optional(db).await.context("look up an operation")?;
    row.as_ref().map(read_report).transpose()
}

/// How the newest operation of an instance stands.
pub(crate) async fn newest_report(db: &mut Connection, instance: &InstanceId) -> anyhow::Result<Option<Report>> {
    let sql = "SELECT kind, state, description, instance_usable FROM operations \
               WHERE instance_id = $1 ORDER BY number DESC LIMIT 1";
    let query = sqlx::query(sql).bind(instance.as_str());
    let row = query.fetch_optional(db).await.context("look up the newest operation")?;
    row.as_ref().map(read_report).transpose()
}

/// The operation in progress on an instance.
pub(crate) async fn in_progress(db: &mut Connection, instance: &InstanceId) -> anyhow::Result<Option<Operation>> {
    let sql = "SELECT o.id, o.instance_id, o.kind, o.description, o.request_id, o.sent, o.sent_errand, o.sent_after, o.deadline_at, \
               h.id AS halted_id, h.sent AS halted_sent, h.sent_errand AS halted_errand, h.sent_after AS halted_sent_after, \
               (SELECT w.kind FROM operations w WHERE w.instance_id = o.instance_id AND w.id <> o.id AND \
               (w.sent = 'delete deployment' OR w.kind = 'create' AND w.state = 'succeeded') \
               ORDER BY w.number DESC LIMIT 1) AS last_end, \
               i.claimed_until, i.service_id, i.organization_guid, i.space_guid, \
               COALESCE(o.plan_id, i.plan_id) AS plan_id, COALESCE(o.parameters, i.parameters) AS parameters, o.maintenance_version, \
               o.keeps_leader FROM operations o JOIN service_instances i ON i.id = o.instance_id \
               LEFT JOIN operations h ON h.id = o.halts \
               WHERE o.instance_id = $1 AND o.state = 'in progress'";
    let query = sqlx::query(sql).bind(instance.as_str());
    let row = query.fetch_optional(db).await.context("look up the operation in progress")?;
    row.as_ref().map(operation).transpose()
}

/// When the next operation that nobody holds is due, or a hold ends.
pub(crate) async fn next_due(db: &mut Connection) -> anyhow::Result<Option<Timestamp>> {
    let sql = "SELECT MIN(CASE WHEN i.claimed_until > o.due_at THEN i.claimed_until ELSE o.due_at END) \
               FROM operations o JOIN service_instances i ON i.id = o.instance_id WHERE o.state = 'in progress'";
    let due: Option<i64> = sqlx::query_scalar(sql).fetch_one(db).await.context("look up the next due operation")?;
    Ok(due.map(Timestamp))
}

/// Record that a request is about to be sent; false where it must not be, because the operation is no longer in progress
/// or another worker has taken it over.
pub(crate) async fn record_submission(
    db: &mut Connection,
    operation: &Operation,
    submission: Option<Submission>,
) -> anyhow::Result<bool> {
    let sql = "UPDATE operations SET sent = $2, sent_after = $3, sent_errand = $5 WHERE id = $1 AND state = 'in progress' \
               AND $4 = (SELECT i.claimed_until FROM service_instances i WHERE i.id = operations.instance_id)";
    let (sent, errand, after) = columns(submission)?;
    let query = sqlx::query(sql)
        .bind(operation.id.as_str())
        .bind(sent)
        .bind(after)
        .bind(operation.claimed_until.0)
        .bind(errand);
    Ok(query.execute(db).await.context("record what is to be sent")?.rows_affected() == 1)
}

/// Say where an operation in progress stands.
pub(crate) async fn describe(db: &mut Connection, id: &OperationId, description: &str) -> anyhow::Result<()> {
    let sql = "UPDATE operations SET description = $2 WHERE id = $1 AND state = 'in progress'";
    sqlx::query(sql).bind(id.as_str()).bind(description).execute(db).await.context("describe an operation")?;
    Ok(())
}

/// End an operation; one that has ended stays as it is.
pub(crate) async fn finish(
    db: &mut Connection,
    id: &OperationId,
    state: State,
    description: &str,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let sql = "UPDATE operations SET state = $2, description = $3, finished_at = $4 \
               WHERE id = $1 AND state = 'in progress'";
    let query = sqlx::query(sql).bind(id.as_str()).bind(state_name(state)).bind(description).bind(now.0);
    Ok(query.execute(db).await.context("end an operation")?.rows_affected() == 1)
}

/// End an update that succeeded: the instance is what it wanted.
pub(crate) async fn finish_update(
    db: &mut Connection,
    operation: &Operation,
    description: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    if finish(db, &operation.id, State::Succeeded, description, now).await? {
        instances::change(db, &operation.instance, &operation.attributes).await?;
        instances::set_version(db, &operation.instance, operation.maintenance_version.as_deref()).await?;
    }
    Ok(())
}

/// Say before the end of an operation whether the instance still serves.
pub(crate) async fn set_usable(db: &mut Connection, id: &OperationId, is_usable: Option<bool>) -> anyhow::Result<()> {
    let sql = "UPDATE operations SET instance_usable = $2 WHERE id = $1 AND state = 'in progress'";
    let query = sqlx::query(sql).bind(id.as_str()).bind(is_usable.map(i64::from));
    query.execute(db).await.context("record whether an instance serves")?;
    Ok(())
}

/// End a deletion that succeeded: the bindings and the witness record go, a tombstone stays.
pub(crate) async fn finish_deletion(
    db: &mut Connection,
    operation: &Operation,
    description: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    if finish(db, &operation.id, State::Succeeded, description, now).await? {
        super::bindings::delete_all(db, &operation.instance).await?;
        super::witness_records::delete(db, &operation.instance).await?;
        instances::bury(db, &operation.instance, now).await?;
    }
    Ok(())
}

/// Try an operation again at a later time.
pub(crate) async fn postpone(db: &mut Connection, instance: &InstanceId, due_at: Timestamp) -> anyhow::Result<()> {
    let sql = "UPDATE operations SET due_at = $2 WHERE instance_id = $1 AND state = 'in progress'";
    sqlx::query(sql).bind(instance.as_str()).bind(due_at.0).execute(db).await.context("postpone an operation")?;
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Update => "update",
            Kind::Delete => "delete",
        }
    }

    /// What `last_operation` says until there is more to say.
    fn begun(self) -> &'static str {
        match self {
            Kind::Create => "Instance provisioning in progress",
            Kind::Update => "Instance update in progress",
            Kind::Delete => "Instance deletion in progress",
        }
    }

    fn parse(name: &str) -> anyhow::Result<Kind> {
        let kinds = [Kind::Create, Kind::Update, Kind::Delete];
        kinds.into_iter().find(|kind| kind.name() == name).with_context(|| format!("read the operation kind `{name}`"))
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::InProgress => "in progress",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
    }
}

fn read_report(row: &AnyRow) -> anyhow::Result<Report> {
    let state = match row.try_get("state")? {
        "in progress" => State::InProgress,
        "succeeded" => State::Succeeded,
        "failed" => State::Failed,
        other => bail!("read the operation state `{other}`"),
    };
    let (description, usable): (_, Option<i64>) = (row.try_get("description")?, row.try_get("instance_usable")?);
    let instance_usable = usable.map(|usable| usable != 0);
    Ok(Report { kind: Kind::parse(row.try_get("kind")?)?, state, description, instance_usable })
}

fn operation(row: &AnyRow) -> anyhow::Result<Operation> {
    let halted_id: Option<String> = row.try_get("halted_id")?;
    let halted = match halted_id {
        Some(id) => {
            let (sent, errand) = (row.try_get("halted_sent")?, row.try_get("halted_errand")?);
            let submission = submission(sent, errand, row.try_get("halted_sent_after")?)?;
            Some(Halted { id: operation_id(&id)?, submission })
        }
        None => None,
    };
    let instance: String = row.try_get("instance_id")?;
    let last_end: Option<&str> = row.try_get("last_end")?;
    Ok(Operation {
        id: operation_id(row.try_get("id")?)?,
        kind: Kind::parse(row.try_get("kind")?)?,
        instance: InstanceId::parse(&instance).with_context(|| format!("read the id `{instance}`"))?,
        attributes: attributes(row)?,
        maintenance_version: row.try_get("maintenance_version")?,
        keeps_leader: row.try_get::<i64, _>("keeps_leader")? != 0,
        description: row.try_get("description")?,
        request_id: row.try_get("request_id")?,
        submission: submission(row.try_get("sent")?, row.try_get("sent_errand")?, row.try_get("sent_after")?)?,
        is_whole: last_end == Some("create"),
        halted,
        deadline_at: Timestamp(row.try_get("deadline_at")?),
        claimed_until: Timestamp(row.try_get("claimed_until")?),
    })
}

pub(super) fn operation_id(text: &str) -> anyhow::Result<OperationId> {
    OperationId::parse(text).with_context(|| format!("read the operation id `{text}`"))
}
