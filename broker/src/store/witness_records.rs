//! The table `witness_records`: what the broker has agreed to as a voter of each pair.

use agent::quorum::Record;
use anyhow::Context;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Connection;
use crate::ids::InstanceId;

/// One life of a service instance: its id may live again after it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) instance: InstanceId,
    generation: i64,
}

/// The living instance whose agents have this name, and the record of its pair; a new one where nothing was agreed to yet.
pub(crate) async fn find(db: &mut Connection, certificate_name: &str) -> anyhow::Result<Option<(Life, Record)>> {
    // No driver for every database knows SQLite's BOOLEAN.
    let sql = "SELECT i.id, i.generation, r.epoch, r.leader, r.lease_ms, r.withdrawals, \
               CASE WHEN r.in_sync THEN 1 ELSE 0 END AS in_sync, CASE WHEN r.is_vacant THEN 1 ELSE 0 END AS is_vacant \
               FROM service_instances i LEFT JOIN witness_records r ON r.instance_id = i.id \
               WHERE i.certificate_name = $1 AND i.deleted_at IS NULL";
    let row = sqlx::query(sql).bind(certificate_name).fetch_optional(db).await.context("look up a witness record")?;
    row.as_ref().map(|row| Ok((life(row)?, record(row)?))).transpose()
}

/// Whether the pair whose agents have this name becomes one server, or should have: what leads it now goes on to lead.
pub(crate) async fn keeps_leader(db: &mut Connection, certificate_name: &str) -> anyhow::Result<bool> {
    let sql = "SELECT o.keeps_leader FROM operations o JOIN service_instances i ON i.id = o.instance_id \
               WHERE i.certificate_name = $1 AND i.deleted_at IS NULL AND o.state <> 'succeeded' AND o.keeps_leader = 1 \
               AND NOT EXISTS (SELECT 1 FROM operations n WHERE n.instance_id = o.instance_id AND n.number > o.number)";
    let query = sqlx::query(sql).bind(certificate_name);
    Ok(query.fetch_optional(db).await.context("look whether a pair keeps its leader")?.is_some())
}

/// From here on this holder, and no other, speaks for the voter. In an act, with the look at the record.
pub(crate) async fn hold(db: &mut Connection, life: &Life, holder: &str) -> anyhow::Result<()> {
    let sql = "INSERT INTO witness_records (instance_id, epoch, lease_ms, in_sync, is_vacant, holder) \
               VALUES ($1, 0, 0, FALSE, FALSE, $2) ON CONFLICT (instance_id) DO UPDATE SET holder = excluded.holder";
    let query = sqlx::query(sql).bind(life.instance.as_str()).bind(holder);
    query.execute(db).await.context("take over a witness record")?;
    Ok(())
}

/// Does this holder still speak for the voter, and does the instance still live?
pub(crate) async fn is_held(db: &mut Connection, life: &Life, holder: &str) -> anyhow::Result<bool> {
    let sql = "SELECT r.holder FROM witness_records r JOIN service_instances i ON i.id = r.instance_id \
               WHERE i.id = $1 AND i.generation = $2 AND i.deleted_at IS NULL AND r.holder = $3";
    let query = sqlx::query(sql).bind(life.instance.as_str()).bind(life.generation).bind(holder);
    Ok(query.fetch_optional(db).await.context("look who holds a witness record")?.is_some())
}

/// Write a record, in an act; false where that life of the instance is over or another holder speaks for the voter, and
/// nothing is written.
pub(crate) async fn save(db: &mut Connection, life: &Life, record: &Record, holder: &str) -> anyhow::Result<bool> {
    let sql = "INSERT INTO witness_records (instance_id, epoch, leader, lease_ms, in_sync, withdrawals, is_vacant, holder) \
               SELECT id, $3, $4, $5, $6, $7, $8, $9 FROM service_instances \
               WHERE id = $1 AND generation = $2 AND deleted_at IS NULL \
               ON CONFLICT (instance_id) DO UPDATE SET epoch = excluded.epoch, leader = excluded.leader, \
               lease_ms = excluded.lease_ms, in_sync = excluded.in_sync, withdrawals = excluded.withdrawals, \
               is_vacant = excluded.is_vacant WHERE witness_records.holder = excluded.holder";
    let query = sqlx::query(sql)
        .bind(life.instance.as_str())
        .bind(life.generation)
        .bind(i64::try_from(record.epoch).context("write the epoch of a witness record")?)
        .bind(record.leader.as_deref())
        .bind(i64::try_from(record.lease_ms).context("write the lease of a witness record")?)
        .bind(record.in_sync)
        .bind(i64::try_from(record.withdrawals).context("write the withdrawals of a witness record")?)
        .bind(record.is_vacant)
        .bind(holder);
    Ok(query.execute(db).await.context("write a witness record")?.rows_affected() == 1)
}

/// Forget what was agreed to for an instance that is gone.
pub(crate) async fn delete(db: &mut Connection, instance: &InstanceId) -> anyhow::Result<()> {
    let sql = "DELETE FROM witness_records WHERE instance_id = $1";
    sqlx::query(sql).bind(instance.as_str()).execute(db).await.context("forget a witness record")?;
    Ok(())
}

fn life(row: &AnyRow) -> anyhow::Result<Life> {
    let id: &str = row.try_get("id")?;
    let instance = InstanceId::parse(id).with_context(|| format!("read the id `{id}`"))?;
    Ok(Life { instance, generation: row.try_get("generation")? })
}

fn record(row: &AnyRow) -> anyhow::Result<Record> {
    let Some(epoch) = row.try_get::<Option<i64>, _>("epoch")? else { return Ok(Record::default()) };
    Ok(Record {
        epoch: u64::try_from(epoch).context("read the epoch of a witness record")?,
        leader: row.try_get("leader")?,
        lease_ms: u64::try_from(row.try_get::<i64, _>("lease_ms")?).context("read the lease of a witness record")?,
        in_sync: row.try_get::<i64, _>("in_sync")? != 0,
        withdrawals: u64::try_from(row.try_get::<i64, _>("withdrawals")?)
            .context("read the withdrawals of a witness record")?,
        is_vacant: row.try_get::<i64, _>("is_vacant")? != 0,
    })
}
